"""Post-processing of estimates: a gate for pauses, low- and high-pass filters, and Separators around another one.

Steps are functions `(waveform, sample_rate, ...) -> waveform` of (channels, time), as long as their input and not
shifted against it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy import ndimage, signal
from scipy.fft import next_fast_len

from helpers.metrics.bss_eval import References

MEMORY = 2**27  # bytes that a Remembered keeps: five songs of half a minute, or one of five
STATISTICS = {"median": np.median, "mean": np.mean}


def envelope(waveform):
    """How loud each sample is: |analytic signal| by the Hilbert transform; (channels, time) -> (channels, time).

    Silence is appended up to a length whose Fourier transform is fast: a prime number of samples can take minutes.
    """
    samples = waveform.detach().cpu().double().numpy()
    length = samples.shape[-1]
    return np.abs(signal.hilbert(samples, next_fast_len(length), axis=-1)[..., :length])


def denoise(waveform, sample_rate, window=0.1, hop=0.05, statistic="median", softness=4.0, fade=0.05):
    """Mute where a source does not play and only what is left of the others is heard (the source document's denoiser).

    A window slides over the envelope of the loudest channel. It is quiet if the statistic of its envelope is below that
    of the whole envelope over `softness`, and muted if it and both its neighbours are quiet; beyond the ends all is
    quiet. The document looks at the two neighbours alone; that the window itself be quiet, too, keeps a short sound
    between two silences.

    Args:
        waveform: (channels, time), any level; all channels are muted together.
        window, hop: in seconds; hop at most the window, so that no sample lies between two of them.
        statistic: "median", or "mean", which loud moments raise.
        softness: the larger, the less is muted; 4 puts the threshold 12 dB below the statistic.
        fade: in seconds, linear, beside what is muted; 0 cuts.

    Raises ValueError for a setting that makes no sense.
    """
    if not (0 < hop <= window and softness > 0 and fade >= 0 and statistic in STATISTICS):
        raise ValueError(f"{statistic}, window {window}, hop {hop}, softness {softness} and fade {fade} do not fit")
    measure, loudness = STATISTICS[statistic], envelope(waveform).max(axis=0)
    window, hop = (max(1, round(seconds * sample_rate)) for seconds in (window, hop))
    last = max(0, len(loudness) - window)  # the last window ends with the waveform
    starts = [*range(0, last, hop), last]
    local = np.array([measure(loudness[start : start + window]) for start in starts])
    quiet = np.pad(local < measure(loudness) / softness, 1, constant_values=True)
    muted = np.zeros(len(loudness), dtype=bool)
    for start in np.array(starts)[quiet[:-2] & quiet[1:-1] & quiet[2:]]:
        muted[start : start + window] = True
    if not muted.any():  # then there is no distance to it
        return waveform.clone()
    distance = ndimage.distance_transform_edt(~muted)  # in samples, to the nearest one that is muted
    gain = np.minimum(1.0, distance / max(1.0, fade * sample_rate))
    return waveform * torch.from_numpy(gain).to(waveform)


def _filtered(waveform, sample_rate, cutoff, kind):
    """Butterworth filter of order 4, run forwards and backwards: 48 dB an octave, zero phase."""
    sections = signal.butter(4, cutoff, kind, fs=sample_rate, output="sos")
    samples = waveform.detach().cpu().double().numpy()
    reach = min(round(3 * sample_rate / cutoff) + 15, samples.shape[-1] - 1)  # mirrored at both ends
    filtered = signal.sosfiltfilt(sections, samples, axis=-1, padlen=reach)
    return torch.from_numpy(filtered.copy()).to(waveform)


def low_pass(waveform, sample_rate, cutoff):
    """Keep what lies below `cutoff`, Hz, of (channels, time), not empty; it is 6 dB softer there. No delay."""
    return _filtered(waveform, sample_rate, cutoff, "lowpass")


def high_pass(waveform, sample_rate, cutoff):
    """Keep what lies above `cutoff`, Hz; otherwise as low_pass()."""
    return _filtered(waveform, sample_rate, cutoff, "highpass")


@dataclass
class Postprocessed:
    """A Separator whose estimates are those of another one, after steps {source: [functions, in this order]}."""

    separator: Callable
    steps: dict

    def __call__(self, waveform, sample_rate):
        estimates = dict(self.separator(waveform, sample_rate))
        for source, functions in self.steps.items():
            for function in functions:
                estimates[source] = function(estimates[source], sample_rate)
        return estimates


@dataclass
class Rest:
    """A Separator of two sources: one as another Separator estimates it, the other what that leaves of the mixture."""

    separator: Callable
    source: str

    def __call__(self, waveform, sample_rate):
        estimates = self.separator(waveform, sample_rate)
        rest = waveform - estimates[self.source]
        return {name: estimates[name] if name == self.source else rest for name in estimates}


@dataclass
class Remembered:
    """A Separator that keeps what another one gave, up to MEMORY: for songs that are asked about again."""

    separator: Callable
    known: dict = field(default_factory=dict, repr=False)

    def __call__(self, waveform, sample_rate):
        key = sample_rate, tuple(waveform.shape), hash(waveform.cpu().numpy().tobytes())
        if key not in self.known:
            self.known[key] = self.separator(waveform, sample_rate)
            while len(self.known) > 1 and sum(w.nbytes for kept in self.known.values() for w in kept.values()) > MEMORY:
                self.known.pop(next(iter(self.known)))  # the oldest
        return dict(self.known[key])


def pause_level(track, estimate):
    """Level of an estimated voice where the true one is silent, in dB above the mixture there; None without a pause.

    estimate: (1, time). Silent are 50 ms without a sample above a thousandth of the voice's peak.
    """
    size = round(0.05 * track.sample_rate)
    signals = (track.source("vocals")[0], track.mixture[0], estimate[0])
    blocks = [waveform[: len(waveform) // size * size].view(-1, size) for waveform in signals]
    silent = blocks[0].abs().amax(dim=1) < 1e-3 * signals[0].abs().max()
    mixture, estimated = (float(part[silent].square().sum()) for part in blocks[1:])
    return 10 * np.log10((estimated + 1e-9) / mixture) if mixture > 0 else None


def sweep(separator, tracks, steps):
    """Return a row {"step", "SDR", "pauses"} for "as it is" and for each of {name: step} behind a separator's voice.

    Means over mono tracks of vocals and accompaniment, of those that have a value; the highest SDR comes first.
    """
    found = {}
    for track in tracks:
        before = separator(track.mixture, track.sample_rate)["vocals"]
        truth = torch.cat([track.source(name) for name in ("vocals", "accompaniment")])  # (2, time)
        references = References(truth, names=("vocals", "accompaniment"))
        for name, step in {"as it is": lambda voice, rate: voice, **steps}.items():  # one in memory at a time
            voice = step(before, track.sample_rate)
            sdr = references.score(torch.cat((voice, truth[1:]))).sdr.flatten()[0].item()
            found.setdefault(name, []).append((sdr, pause_level(track, voice)))
    rows = []
    for name, values in found.items():
        measured = [column[np.isfinite(column)] for column in np.array(values, dtype=float).T]
        sdr, pauses = (float(column.mean()) if column.size else None for column in measured)
        rows.append({"step": name, "SDR": sdr, "pauses": pauses})
    return sorted(rows, key=lambda row: -np.inf if row["SDR"] is None else row["SDR"], reverse=True)
