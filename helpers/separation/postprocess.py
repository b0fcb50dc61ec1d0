"""Post-processing of estimates: a gate for pauses, low- and high-pass filters, and the multichannel Wiener filter.

Gate and filters are functions `(waveform, sample_rate, ...) -> waveform` of (channels, time), as long as their input
and not shifted against it. The Wiener filter refines all estimates of a stereo song by where in the stereo image each
one lies. Postprocessed and WienerRefined put them behind a Separator; sweep() measures many steps at once.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy import ndimage, signal
from scipy.fft import next_fast_len

from helpers.metrics.bss_eval import References
from helpers.stft import STFT

RELATIVE = 1e-6  # of the mixture's mean power: what keeps a silent or one-sided bin's matrix invertible
N_FFT, HOP_LENGTH = 4096, 1024  # of the STFT in which estimates are refined, in samples
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

    A window slides over the envelope of the loudest channel. It is quiet if the statistic of its envelope is below the
    threshold, that of the whole envelope over `softness`. It is muted if it and both its neighbours are quiet; what
    lies before the first and after the last window counts as quiet. What precedes a muted place fades out towards it,
    what follows fades in. Nothing is amplified, and noise under the playing source stays. The document looks at the two
    neighbours alone; that the window itself be quiet, too, keeps a short sound between two silences.

    Args:
        waveform: (channels, time), any level; all channels are muted together.
        window, hop: in seconds; hop at most the window, so that no sample lies between two of them.
        statistic: "median", or "mean", which loud moments raise.
        softness: the larger, the lower the threshold, and the less is muted. 4 is 12 dB below the statistic; with 1
            and the median half of any sound would count as quiet, even of a steady one.
        fade: in seconds, linear; 0 cuts.

    Raises ValueError for a setting that makes no sense.
    """
    if statistic not in STATISTICS:
        raise ValueError(f"unknown statistic '{statistic}': take median or mean")
    if not (0 < hop <= window and softness > 0 and fade >= 0):
        raise ValueError(f"window {window}, hop {hop}, softness {softness} and fade {fade} do not fit together")
    measure, loudness = STATISTICS[statistic], envelope(waveform).max(axis=0)
    window, hop = (max(1, round(seconds * sample_rate)) for seconds in (window, hop))
    last = max(0, len(loudness) - window)  # the last window ends with the waveform
    starts = [*range(0, last, hop), last]
    local = np.array([measure(loudness[start : start + window]) for start in starts])
    quiet = np.pad(local < measure(loudness) / softness, 1, constant_values=True)
    muted = np.zeros(len(loudness), dtype=bool)
    for number, start in enumerate(starts):
        if quiet[number : number + 3].all():
            muted[start : start + window] = True
    if not muted.any():  # then there is no distance to it
        return waveform.clone()
    distance = ndimage.distance_transform_edt(~muted)  # in samples, to the nearest one that is muted
    gain = np.minimum(1.0, distance / max(1.0, fade * sample_rate))
    return waveform * torch.from_numpy(gain).to(waveform)


def _filtered(waveform, sample_rate, cutoff, kind):
    """Butterworth filter of order 4, run forwards and backwards: 48 dB an octave, zero phase."""
    if not 0 < cutoff < sample_rate / 2:
        raise ValueError(f"a cutoff lies between 0 and half the rate of {sample_rate} Hz, got {cutoff}")
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
    """A Separator whose estimates are those of another one, after some steps.

    steps: {source: functions (waveform, sample_rate) -> waveform, applied in this order}, for instance {"vocals":
    [functools.partial(high_pass, cutoff=80), denoise]}; other sources stay as they are. The sources then no longer add
    up to the mixture. Raises ValueError for a source that the separator does not give.
    """

    separator: Callable
    steps: dict

    def __call__(self, waveform, sample_rate):
        estimates = dict(self.separator(waveform, sample_rate))
        for source, functions in self.steps.items():
            if source not in estimates:
                raise ValueError(f"there is no source '{source}' to post-process: take one of {', '.join(estimates)}")
            for function in functions:
                estimates[source] = function(estimates[source], sample_rate)
        return estimates


@dataclass
class Rest:
    """A Separator that takes one source from another one, and for the other of two sources the rest of the mixture."""

    separator: Callable
    source: str

    def __call__(self, waveform, sample_rate):
        estimates = self.separator(waveform, sample_rate)
        rest = waveform - estimates[self.source]
        return {name: estimates[name] if name == self.source else rest for name in estimates}


@dataclass
class Remembered:
    """A Separator that keeps what another one gave: for slow ones that are asked about the same songs again."""

    separator: Callable
    known: dict = field(default_factory=dict, repr=False)

    def __call__(self, waveform, sample_rate):
        key = sample_rate, tuple(waveform.shape), hash(waveform.cpu().numpy().tobytes())
        if key not in self.known:
            self.known[key] = self.separator(waveform, sample_rate)
        return dict(self.known[key])


def pause_level(track, estimate, block=0.05, silence=1e-3):
    """Level of an estimated voice where the true one is silent, in dB above the mixture there; None without a pause.

    estimate: (1, time). Silent are blocks of so many seconds without a sample above `silence` of the voice's peak.
    """
    size = round(block * track.sample_rate)
    signals = (track.source("vocals")[0], track.mixture[0], estimate[0])
    blocks = [waveform[: len(waveform) // size * size].view(-1, size) for waveform in signals]
    silent = blocks[0].abs().amax(dim=1) < silence * signals[0].abs().max()
    mixture, estimated = (float(part[silent].square().sum()) for part in blocks[1:])
    return 10 * np.log10((estimated + 1e-9) / mixture) if mixture > 0 else None


def sweep(separator, tracks, steps):
    """Return a row {"step", "SDR", "pauses"} for "as it is" and for each of {name: step} behind a separator's voice.

    Means over mono tracks of vocals and accompaniment, of those that have a value; the highest SDR comes first.
    """
    found = {}
    for track in tracks:
        before = separator(track.mixture, track.sample_rate)["vocals"]
        voices = {"as it is": before} | {name: step(before, track.sample_rate) for name, step in steps.items()}
        truth = torch.cat([track.source(name) for name in ("vocals", "accompaniment")])  # (2, time)
        stacked = torch.stack([torch.cat((voice, truth[1:])) for voice in voices.values()])  # (steps, 2, time)
        scores = References(truth, names=("vocals", "accompaniment")).score(stacked).sdr[:, 0].tolist()
        for (name, voice), sdr in zip(voices.items(), scores, strict=True):
            found.setdefault(name, []).append((sdr if np.isfinite(sdr) else None, pause_level(track, voice)))
    rows = []
    for name, values in found.items():
        measured = [[value for value in column if value is not None] for column in zip(*values, strict=True)]
        means = [float(np.mean(column)) if column else None for column in measured]
        rows.append({"step": name} | dict(zip(("SDR", "pauses"), means, strict=True)))
    return sorted(rows, key=lambda row: -np.inf if row["SDR"] is None else row["SDR"], reverse=True)


# ---- the multichannel Wiener filter --------------------------------------------------------------------------------


def multichannel_wiener(estimates, mixture, iterations=1):
    """Return refined estimates, complex (sources, channels, bins, frames), that add up to the mixture.

    In the local Gaussian model source j has in bin (k, t) a power v_j, and in every bin k a spatial covariance R_j, a
    matrix of channels by channels that says how its energy is spread over them. The best linear estimate is then
    ŷ_j = v_j R_j (Σ_i v_i R_i)^-1 x (Duong, Vincent and Gribonval, 2010). Powers and covariances are taken from first
    estimates, and again from the result.

    Args:
        estimates: complex (sources, channels, bins, frames), first estimates, from each channel by itself for instance.
        mixture: complex (channels, bins, frames).
        iterations: how often powers and covariances are measured anew.
    """
    channels = len(mixture)
    floor = RELATIVE * mixture.abs().square().mean().clamp_min(1e-20)
    identity = torch.eye(channels).to(mixture)
    observed = mixture.permute(1, 2, 0).unsqueeze(-1)  # (bins, frames, channels, 1)
    for _ in range(iterations):
        powers = estimates.abs().square().mean(1)  # v, (sources, bins, frames)
        outer = torch.einsum("jckt,jdkt->jkcd", estimates, estimates.conj())  # summed over frames
        spatial = outer / powers.sum(2).clamp_min(floor)[..., None, None]  # R, (sources, bins, channels, channels)
        # a share of the floor for each source, or what is left of the mixture would belong to none of them
        parts = powers[..., None, None] * spatial.unsqueeze(2) + floor / len(estimates) * identity
        weighted = torch.linalg.solve(parts.sum(0), observed)  # (Σ v R)^-1 x, (bins, frames, channels, 1)
        estimates = (parts @ weighted).squeeze(-1).permute(0, 3, 1, 2)
    return estimates


@dataclass
class WienerRefined:
    """A Separator whose estimates are those of another one, refined by multichannel_wiener().

    Of one channel, it is the single-channel Wiener filter of the estimates' powers. All spectrograms are in memory.
    """

    separator: Callable
    iterations: int = 1

    def __call__(self, waveform, sample_rate):
        estimates = self.separator(waveform, sample_rate)
        stft = STFT(N_FFT, HOP_LENGTH).to(waveform.device)
        first = torch.stack([stft(estimate) for estimate in estimates.values()])
        refined = multichannel_wiener(first, stft(waveform), self.iterations)
        return dict(zip(estimates, stft.inverse(refined, waveform.shape[-1]), strict=True))
