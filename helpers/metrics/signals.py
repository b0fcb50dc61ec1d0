"""How good is a separated waveform, beside BSS Eval: SI-SDR and the signal difference of the source document.

Scores are in double precision on the CPU. What cannot be measured (a silent reference, an empty estimate) is NaN.
"""

from dataclasses import dataclass

import torch

from helpers.runtime import UserError
from helpers.stft import STFT, magnitude


def si_sdr(estimate, reference):
    """Scale-invariant SDR in dB (Le Roux et al. 2019): |a s|² / |e - a s|² for the gain a that fits e best to s.

    estimate, reference: `(..., time)`. Returns `(...)`; NaN where either is all zeros. No mean is subtracted, nor any
    filter allowed: it is what BSS Eval with one tap gives for one source. Raises ValueError for unequal shapes,
    UserError for NaN or infinity.
    """
    estimate, reference = _checked(estimate, reference)
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

    That report compares its models by "the difference between the reference and the estimated signals in time and
    time-frequency domains", 0 for equal signals, after an answer on Stack Overflow "with modifications" it does not
    give. Its table (about 790 to 1060) states neither formula nor scale and cannot be reproduced; ours is this one:

        time        = Σ |e - s| / Σ |s|                over samples
        spectrogram = Σ ||E| - |S|| / Σ |S|            over the bins and frames of an STFT, window Hann

    The first sees phase and alignment, the second does not: both together tell a shifted estimate from a poor one.
    estimate, reference: `(..., time)`. NaN where the reference is all zeros. As its table, average over songs by mean
    and by median. Raises ValueError for unequal shapes, UserError for NaN or infinity.
    """
    estimate, reference = _checked(estimate, reference)
    stft = STFT(2048, 512)
    estimated, true = magnitude(stft(estimate)), magnitude(stft(reference))
    time = (estimate - reference).abs().sum(-1) / _nan_where_zero(reference.abs().sum(-1))
    spectrogram = (estimated - true).abs().sum((-2, -1)) / _nan_where_zero(true.sum((-2, -1)))
    return SignalDifference(time, spectrogram)


def _nan_where_zero(values):
    return values.masked_fill(values == 0, torch.nan)


def _checked(estimate, reference):
    if estimate.shape != reference.shape or not estimate.numel():
        raise ValueError(
            f"estimate and reference must share one non-empty shape, to the sample, "
            f"got {tuple(estimate.shape)} and {tuple(reference.shape)}"
        )
    pair = [signal.detach().cpu().double() for signal in (estimate, reference)]
    for kind, signal in zip(("estimate", "reference"), pair, strict=True):
        if not signal.isfinite().all():
            index = (~signal.isfinite()).nonzero()[0].tolist()
            raise UserError(f"the {kind} holds NaN or infinity (first at {index}): check what it was computed from")
    return pair
