"""How good is a separated waveform, beside BSS Eval: SI-SDR and the signal difference of the source document.

Scores are in double precision on the CPU. What cannot be measured (a silent reference, signals that hold NaN) is NaN.
"""

from dataclasses import dataclass

import torch

from helpers.stft import STFT


def si_sdr(estimate, reference):
    """Scale-invariant SDR in dB (Le Roux et al. 2019): |a s|² / |e - a s|² for the gain a that fits e best to s.

    estimate, reference: `(..., time)`. Returns `(...)`; NaN where either is all zeros. No mean is subtracted, nor any
    filter allowed: it is what BSS Eval with one tap gives for one source.
    """
    estimate, reference = (values.detach().cpu().double() for values in (estimate, reference))
    energy = reference.square().sum(-1, keepdim=True)
    target = (estimate * reference).sum(-1, keepdim=True) / energy * reference
    ratio = target.square().sum(-1) / (estimate - target).square().sum(-1)
    return 10 * torch.log10(ratio)


@dataclass(frozen=True)
class SignalDifference:
    """Relative differences, `(...)` each: 0 for equal signals, 1 for a silent estimate, no upper bound."""

    time: torch.Tensor
    spectrogram: torch.Tensor


def signal_difference(estimate, reference):
    """The "signal difference" of Pourtorkan 2022 (chapter 4.2), in the time and in the time-frequency domain.

    Its table (about 790 to 1060) states neither formula nor scale and cannot be reproduced; ours is this one:

        time        = Σ |e - s| / Σ |s|                over samples
        spectrogram = Σ ||E| - |S|| / Σ |S|            over the bins and frames of an STFT, window Hann

    The first sees phase and alignment, the second does not: both together tell a shifted estimate from a poor one.
    estimate, reference: `(..., time)`. NaN where the reference is all zeros.
    """
    estimate, reference = (values.detach().cpu().double() for values in (estimate, reference))
    stft = STFT(2048, 512)
    estimated, true = stft(estimate).abs(), stft(reference).abs()  # (..., bins, frames)
    time = (estimate - reference).abs().sum(-1) / reference.abs().sum(-1)
    spectrogram = (estimated - true).abs().sum((-2, -1)) / true.sum((-2, -1))
    silent = (reference == 0).all(-1)
    return SignalDifference(time.masked_fill(silent, torch.nan), spectrogram.masked_fill(silent, torch.nan))
