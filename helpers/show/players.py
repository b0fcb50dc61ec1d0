"""Sounds to hear and to see: listen() shows a player, a waveform and a spectrogram per source."""

import base64
import html
import io
import math
import re

import numpy as np
import soundfile
import torch
from IPython.display import HTML
from matplotlib.ticker import MaxNLocator

from helpers.data import audio
from helpers.runtime import UserError
from helpers.show.figures import CYCLE, Picture, colour_of, draw_spectrogram, with_few_colours
from helpers.stft import STFT, to_decibels

SECONDS = 12.0  # length of a clip by default: the notebook carries its bytes
MP3_RATES = (8000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
RANGE = 80.0  # dB shown below the loudest bin
WINDOW = 0.046  # seconds of the spectrogram's window, about
ROW = """
<div style="display:flex;flex-wrap:wrap;align-items:center;gap:0 10px;margin:4px 0"><div style="width:290px">
<p style="font-weight:bold;overflow-wrap:anywhere;margin:0 0 2px;padding-left:6px;border-left:6px solid {colour}">
{name}</p>
<p style="margin:0 0 2px;padding-left:12px;font-size:90%">{remark}</p>
<p style="margin:0">
<audio controls preload="none" style="width:100%" src="data:audio/mpeg;base64,{sound}"></audio></p>
</div><img style="width:560px;max-width:100%" alt="waveform and spectrogram: {name}"
 src="data:image/png;base64,{picture}"></div>"""


class Players(HTML):
    """What listen() returns; as plain text it says which sounds there are to hear in the notebook."""

    def __init__(self, data, names):
        super().__init__(data)
        self.names = names

    def __repr__(self):
        return f"Players, to hear in the notebook: {', '.join(self.names)}"


def listen(waveforms, sample_rate, seconds=SECONDS, start=0.0, highest=None, remarks=None):
    """Show one row per source: its name, a player, and its waveform above its spectrogram.

    Args:
        waveforms: {name: (channels, time)}, full scale at 1; more than two channels are mixed down to be heard.
        seconds, start: the part that is heard and seen.
        highest: the frequency in Hz up to which the spectrogram is shown; None: half the sample rate.
        remarks: {name: what stands above its player}, such as its score, or what to listen for.

    Returns an IPython HTML object that holds the sound as MP3. All rows have the same scales. Where a waveform would
    clip, all are made quieter by the same gain, and a line says by how much. Raises ValueError for a part that is not
    inside, UserError for NaN or infinity.
    """
    clips = {name: _part(name, waveform, sample_rate, seconds, start) for name, waveform in waveforms.items()}
    peak = max(float(clip.abs().max()) for clip in clips.values())
    notes = [f"Waveform and spectrogram: the loudest bin of all rows is brightest, black is {RANGE:.0f} dB less."]
    if peak > 1:
        loss = f"{20 * math.log10(peak):.1f}"
        notes.append(f"All players are {loss} dB quieter than the waveforms, which would clip; the pictures are not.")
    rows = []
    for name, picture in _pictures(clips, sample_rate, start, peak, highest).items():
        sound = _mp3(clips[name] / max(1.0, peak), sample_rate)
        sound, picture = (base64.b64encode(content).decode() for content in (sound, picture))
        row = ROW.format(
            name=html.escape(name), colour=_colour(name), sound=sound, picture=picture,
            remark=html.escape((remarks or {}).get(name, "")),
        )  # fmt: skip
        rows.append(row.replace("\n", ""))
    lines = [f'<p style="margin:2px 0">{note}</p>' for note in notes]
    return Players("".join(rows + lines), list(clips))


def _colour(name):
    """Return the colour of the source that a row's name names first: 'vocals, mixture's phase' are vocals."""
    return colour_of(re.split(r"[:,]", name)[0], colour_of(name, CYCLE[-1]))


def _part(name, waveform, sample_rate, seconds, start):
    """Return the part of a waveform that is shown, on the CPU; see listen for what is refused."""
    first = round(start * sample_rate)
    last = first + round(seconds * sample_rate)
    waveform = torch.as_tensor(waveform).detach().cpu().float()
    if waveform.dim() != 2 or start < 0 or not waveform[:, first:last].numel():
        raise ValueError(f"'{name}' {tuple(waveform.shape)} must be (channels, time) and go on after {start} s")
    if not waveform.isfinite().all():
        raise UserError(f"'{name}' holds NaN or infinity: check what it was computed from")
    return waveform[:, first:last]


def _mp3(clip, sample_rate):
    """Return the bytes of a clip (channels, time) as MP3."""
    if len(clip) > 2:
        clip = audio.to_mono(clip)
    rate = next((rate for rate in MP3_RATES if rate >= sample_rate), MP3_RATES[-1])
    content = io.BytesIO()
    soundfile.write(content, audio.resample(clip, sample_rate, rate).clamp(-1, 1).T.numpy(), rate, format="MP3")
    return content.getvalue()


def _pictures(clips, sample_rate, start, peak, highest):
    """Return {name: PNG}: each clip's waveform above its spectrogram, all with the same scales."""
    n_fft = 2 ** round(math.log2(max(64, WINDOW * sample_rate)))
    stft = STFT(n_fft, n_fft // 4)
    power = {name: stft(clip).abs().square().mean(dim=0) for name, clip in clips.items()}  # (bins, frames)
    loudest = max(1e-10, *(float(values.max()) ** 0.5 for values in power.values()))
    seconds = max(clip.shape[-1] for clip in clips.values()) / sample_rate
    fig, wave, spectrogram = _empty_row(start, seconds, 1.05 * max(peak, 1e-3))
    pictures = {}
    for name, clip in clips.items():
        times, lows, highs = _envelope(clip, sample_rate, start)
        levels = to_decibels(power[name].sqrt(), -RANGE, loudest)
        drawn = [
            wave.fill_between(times, lows, highs, color=_colour(name), linewidth=0.4),
            draw_spectrogram(spectrogram, levels, sample_rate, n_fft, n_fft // 4, (-RANGE, 0), highest, start),
        ]
        png = io.BytesIO()
        fig.savefig(png, format="png", dpi=150)  # more pixels than it is wide, for sharp screens
        pictures[name] = with_few_colours(png)
        for artist in drawn:
            artist.remove()
    return pictures


def _empty_row(start, seconds, highest):
    """Return a figure for all rows, which takes less time than one for each, and its two axes; highest: of a sample."""
    fig = Picture(5.6, 1.6, layout=None)
    fig.subplots_adjust(left=0.08, right=0.98, bottom=0.22, top=0.98, hspace=0.08)
    wave, spectrogram = fig.subplots(2, 1, sharex=True, height_ratios=[1, 1.9])
    wave.set(ylim=(-highest, highest), xlim=(start, start + seconds))
    wave.tick_params(bottom=False, labelsize=8)
    wave.grid(False)
    spectrogram.yaxis.set_major_locator(MaxNLocator(4))
    spectrogram.tick_params(labelsize=8)
    spectrogram.set_ylabel("kHz", fontsize=8)
    spectrogram.set_xlabel("s", fontsize=8, labelpad=0)
    return fig, wave, spectrogram


def _envelope(clip, sample_rate, start, points=1000):
    """Return times, minima and maxima of a clip (channels, time) in at most so many steps."""
    step = -(-clip.shape[-1] // points)
    starts = np.arange(0, clip.shape[-1], step)
    low = np.minimum.reduceat(clip.amin(dim=0).numpy(), starts)
    high = np.maximum.reduceat(clip.amax(dim=0).numpy(), starts)
    return start + (starts + step / 2) / sample_rate, low, high
