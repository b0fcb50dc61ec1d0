"""Sounds to hear and to see: listen() gives a row with a player and a picture to each, spectrograms() a figure."""

import base64
import html
import io
import math

import numpy as np
import soundfile
import torch
from IPython.display import HTML
from matplotlib.ticker import MaxNLocator

from helpers.data import audio
from helpers.runtime import UserError
from helpers.show.figures import COLOURS, CYCLE, Picture, light

SECONDS, LONGEST = 12.0, 30.0  # of a clip: a notebook carries its bytes
MP3_RATES = (8000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
RANGE = 80.0  # dB shown below the loudest bin
INK = {  # a source has one colour everywhere
    "mixture": COLOURS["mixture"], "vocals": "#0072B2", "accompaniment": "#D55E00", "drums": "#009E73",
    "bass": "#E69F00", "other": "#CC79A7",
}  # fmt: skip
PLAYER_WIDTH, PICTURE_WIDTH = 290, 560  # pixels, in a row


def listen(waveforms, sample_rate, seconds=SECONDS, start=0.0, n_fft=None, highest=None):
    """Show one row a source: its name, a player, and its waveform above its spectrogram.

    Args:
        waveforms: {name: (channels, time)}, full scale at 1; more than two channels are mixed down to be heard.
        seconds, start: the part that is heard and seen; at most LONGEST seconds.
        n_fft: window length of the spectrogram in samples; None: about 46 ms.
        highest: the frequency in Hz up to which it is shown; None: half the sample rate.

    Returns an IPython HTML object, for the last line of a cell or display(). It carries the sound in itself, as MP3
    (OGG, and it says so, where libsndfile cannot write MP3), and nothing else on the machine or the web is needed to
    play it. All rows have the same scales. The levels are the waveforms' own: only where one would clip, all are made
    quieter by the same gain, and a line says by how much. Raises ValueError for a clip that is too long or not inside,
    UserError for NaN or infinity.
    """
    clips = _clips(waveforms, sample_rate, seconds, start)
    peak = max(float(clip.abs().max()) for clip in clips.values())
    gain = 1 / peak if peak > 1 else 1.0
    notes = [f"Waveform and spectrogram: the loudest bin of all rows is brightest, black is {RANGE:.0f} dB less."]
    if peak > 1:
        lost = f"{20 * math.log10(peak):.1f}"
        notes.append(f"All players are {lost} dB quieter than the waveforms, which would clip; the pictures are not.")
    kind = "MP3" if "MP3" in soundfile.available_formats() else "OGG"
    if kind == "OGG":
        notes.append("The players hold OGG, which some browsers do not play: this libsndfile cannot write MP3.")
    n_fft = n_fft or 2 ** round(math.log2(max(64, 0.046 * sample_rate)))
    pictures = _row_pictures(clips, sample_rate, start, max(1.0, peak), n_fft, highest)
    rows = []
    for (name, clip), picture in zip(clips.items(), pictures, strict=True):
        sound, media = _encode(clip * gain, sample_rate, kind)
        # the name in the page's own colour, which can be read on a light or a dark one, beside a bar of the source's
        rows.append(
            '<div style="display:flex;flex-wrap:wrap;align-items:center;gap:0 10px;margin:4px 0">'
            f'<div style="width:{PLAYER_WIDTH}px"><p style="font-weight:bold;overflow-wrap:anywhere;margin:0 0 2px;'
            f'padding-left:6px;border-left:6px solid {_ink(name)}">{html.escape(name)}</p>'
            '<p style="margin:0"><audio controls preload="metadata" style="width:100%" '
            f'src="data:{media};base64,{sound}"></audio></p></div>'
            f'<img style="width:{PICTURE_WIDTH}px;max-width:100%" alt="" src="data:image/png;base64,{picture}"></div>'
        )
    lines = "".join(f'<p style="margin:2px 0">{html.escape(note)}</p>' for note in notes)
    return HTML("".join(rows) + lines)


def spectrograms(waveforms, sample_rate, n_fft=2048, hop_length=None, title=None, highest=None, columns=2):
    """Show the magnitude spectrogram of each waveform, all with the same axes and the same colours for the same level.

    Args:
        waveforms: {name: (channels, time)}; of more than one channel the mean power is shown.
        n_fft, hop_length: of the Hann-windowed STFT, in samples; the hop is a quarter of the window by default.
        highest: the frequency in Hz up to which it is shown; None: half the sample rate.
        columns: panels side by side.

    Levels are in dB below the loudest bin of all panels. Frame t is centred on sample t * hop_length, bin k on
    k * sample_rate / n_fft. Returns the figure; raises UserError for NaN or infinity.
    """
    hop_length = hop_length or n_fft // 4
    clips = _clips(waveforms, sample_rate, None, 0.0)
    panels, loudest = _levels(clips, n_fft, hop_length)
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    fig = Picture(9.0, 0.6 + (0.3 if title else 0) + 2.1 * rows)
    axes = fig.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for place, (name, level) in zip(axes.flat, panels.items(), strict=False):
        drawn = _draw_spectrogram(place, level, loudest, sample_rate, n_fft, hop_length, 0.0, highest)
        place.set_title(name, color=_ink(name))
        place.set_xlim(0, max(clip.shape[-1] for clip in clips.values()) / sample_rate)
    for place in axes.flat[len(panels) :]:
        place.set_visible(False)
    for place in axes[:, 0]:
        place.set_ylabel("frequency in kHz")
    for column in range(columns):
        axes[(len(panels) - 1 - column) // columns, column].tick_params(labelbottom=True)
    fig.supxlabel("time in s", fontsize=10)
    fig.colorbar(drawn, ax=axes, label="level in dB, 0 is the loudest bin", pad=0.015).outline.set_visible(False)
    if title:
        fig.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    return fig


# ---- parts -------------------------------------------------------------------------------------------------------


def _clips(waveforms, sample_rate, seconds, start):
    """Return the part that is shown of each waveform; see listen for what is refused."""
    if seconds is not None and not 0 < seconds <= LONGEST:
        raise ValueError(f"clips of {seconds} s: take between 0 and {LONGEST:.0f} s, the notebook carries their bytes")
    first = round(start * sample_rate)
    last = None if seconds is None else first + round(seconds * sample_rate)
    clips = {}
    for name, waveform in waveforms.items():
        waveform = torch.as_tensor(waveform).detach().cpu().float()
        if waveform.dim() != 2 or start < 0 or not waveform[:, first:last].numel():
            raise ValueError(f"'{name}' {tuple(waveform.shape)} must be (channels, time) and go on after {start} s")
        if not waveform.isfinite().all():
            raise UserError(f"'{name}' holds NaN or infinity: check what it was computed from")
        clips[name] = waveform[:, first:last]
    if not clips:
        raise ValueError("there are no waveforms to show")
    return clips


def _encode(clip, sample_rate, kind):
    """Return a clip as base64 text and its media type."""
    if len(clip) > 2:
        clip = audio.to_mono(clip)
    if kind == "MP3" and sample_rate not in MP3_RATES:
        rate = next((rate for rate in MP3_RATES if rate >= sample_rate), MP3_RATES[-1])
        clip, sample_rate = audio.resample(clip, sample_rate, rate), rate
    content, samples = io.BytesIO(), clip.clamp(-1, 1).T.contiguous().numpy()  # (time, channels)
    with soundfile.SoundFile(content, "w", sample_rate, len(clip), format=kind) as file:
        for block in np.array_split(samples, -(-len(samples) // 16_384)):  # libsndfile crashes on long ones of OGG
            file.write(block)
    return base64.b64encode(content.getvalue()).decode(), "audio/mpeg" if kind == "MP3" else "audio/ogg"


def _levels(clips, n_fft, hop_length):
    """Return {name: levels in dB (bins, frames)}, all relative to the same, and the loudest of all."""
    window = torch.hann_window(n_fft)
    levels = {}
    for name, clip in clips.items():
        spectrum = torch.stft(clip, n_fft, hop_length, window=window, pad_mode="constant", return_complex=True)
        levels[name] = 10 * torch.log10(spectrum.abs().square().mean(0).clamp_min(1e-20))
    return levels, max(float(level.max()) for level in levels.values())


def _draw_spectrogram(axes, level, loudest, sample_rate, n_fft, hop_length, start, highest):
    """Draw levels (bins, frames) with every bin and frame where it belongs; return the picture."""
    bins, frames = level.shape
    hertz, second = sample_rate / n_fft / 1000, hop_length / sample_rate
    edges = (start - second / 2, start + (frames - 0.5) * second, -hertz / 2, (bins - 0.5) * hertz)
    drawn = axes.imshow(
        (level - loudest).numpy(), cmap="magma", vmin=-RANGE, vmax=0, origin="lower", aspect="auto", extent=edges,
        interpolation="antialiased",
    )  # fmt: skip
    axes.set_ylim(0, (highest or sample_rate / 2) / 1000)
    axes.grid(False)
    return drawn


def _row_pictures(clips, sample_rate, start, scale, n_fft, highest):
    """Return a PNG as base64 text for each clip: waveform above, spectrogram below, on the same time axis."""
    hop_length = n_fft // 4
    levels, loudest = _levels(clips, n_fft, hop_length)
    scale = min(scale, max(1e-3, *(float(clip.abs().max()) for clip in clips.values()), 1e-3) * 1.05)
    seconds = max(clip.shape[-1] for clip in clips.values()) / sample_rate
    pictures = []
    for name, clip in clips.items():
        fig = Picture(PICTURE_WIDTH / 100, 1.4)
        fig.get_layout_engine().set(h_pad=0.01, w_pad=0.01)
        wave, picture = fig.subplots(2, 1, sharex=True, height_ratios=[1, 1.7])
        times, lows, highs = _envelope(clip, sample_rate, start)
        wave.fill_between(times, lows, highs, color=_ink(name), linewidth=0.4)
        wave.set(ylim=(-scale, scale), xlim=(start, start + seconds))
        wave.tick_params(bottom=False, labelsize=7)
        wave.grid(False)
        _draw_spectrogram(picture, levels[name], loudest, sample_rate, n_fft, hop_length, start, highest)
        picture.tick_params(labelsize=7)
        picture.yaxis.set_major_locator(MaxNLocator(4))
        picture.set_ylabel("kHz", fontsize=7)
        picture.set_xlabel("s", fontsize=7, labelpad=0)
        pictures.append(base64.b64encode(_small_png(fig)).decode())
    return pictures


def _envelope(clip, sample_rate, start, points=1000):
    """Return times, minima and maxima of a clip (channels, time) in at most so many steps."""
    step = -(-clip.shape[-1] // points)
    low, high = clip.amin(0), clip.amax(0)
    missing = -len(low) % step
    low = torch.nn.functional.pad(low, (0, missing), value=float(low[-1])).unflatten(0, (-1, step)).amin(1)
    high = torch.nn.functional.pad(high, (0, missing), value=float(high[-1])).unflatten(0, (-1, step)).amax(1)
    return start + (np.arange(len(low)) + 0.5) * step / sample_rate, low.numpy(), high.numpy()


def _small_png(fig):
    """Return a figure as a light PNG, at twice its size in pixels for sharp screens."""
    png = io.BytesIO()
    fig.savefig(png, format="png", dpi=150)
    return light(png)


def _ink(name):
    """Return the colour of the source that a name speaks of, else the last one of the style."""
    for source, colour in INK.items():
        if source in name.lower():
            return colour
    return CYCLE[-1]
