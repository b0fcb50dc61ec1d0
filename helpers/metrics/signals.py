"""How good is a separated waveform, beside BSS Eval: SI-SDR, NSDR, global means, framewise v4, signal difference.

Scores are in double precision on the CPU. What cannot be measured (a silent reference, an empty estimate) is NaN, and
every mean says how many clips it left out.
"""

from dataclasses import dataclass

import numpy as np
import torch

from helpers.metrics.images import bootstrap_interval
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


def nsdr(references, estimates, mixture):
    """SDR gained over handing out the mixture itself (Ozerov et al. 2007): returns the Scores and the NSDR in dB.

    references: a `bss_eval.References`, whose taps make it NSDR of BSS Eval 3 or of the gain-only variant. estimates:
    as for its `score`. mixture: `(time,)`. Both results have the shape `(sources,)` or `(methods, sources)`.
    """
    unprocessed = references.score(mixture.expand(references.shape))
    scores = references.score(estimates)
    return scores, scores.sdr - unprocessed.sdr


@dataclass(frozen=True)
class GlobalMean:
    """A length-weighted mean over clips, its bootstrap 95 % interval, and how many clips it holds and had to skip."""

    value: float
    low: float
    high: float
    clips: int
    skipped: int


def global_means(scores, lengths, confidence=0.95, resamples=2000, seed=0):
    """GNSDR, GSIR and GSAR as the literature on MIR-1K has them: means over clips weighted by the clips' lengths.

    scores: `{name: one number a clip}`, such as {"NSDR": ..., "SIR": ..., "SAR": ...}; lengths: samples or seconds of
    each clip. Returns `{"G" + name: GlobalMean}` (Hsu and Jang 2010). Clips whose score is NaN or infinite are skipped
    and counted. The interval (NaN for fewer than two clips) resamples clips: a weighted mean M has, to first order, the
    distribution of the plain mean of M + w (score - M) / mean(w). Raises ValueError for unequal numbers of clips,
    lengths that are not positive, or no clip with a score.
    """
    weights = np.asarray(lengths, dtype=np.float64)
    if weights.ndim != 1 or not (weights > 0).all():
        raise ValueError("lengths must be one positive number a clip")
    means = {}
    for name, values in scores.items():
        values = np.asarray(values, dtype=np.float64)
        if values.shape != weights.shape:
            raise ValueError(f"{name} has the shape {values.shape} for {len(weights)} lengths")
        kept = np.isfinite(values)
        if not kept.any():
            raise ValueError(f"{name} has no finite score among its {len(values)} clips")
        value = float(np.average(values[kept], weights=weights[kept]))
        low = high = float("nan")
        if kept.sum() > 1:
            influence = value + weights[kept] * (values[kept] - value) / weights[kept].mean()
            low, high = bootstrap_interval(influence, confidence, resamples, seed)
        means["G" + name] = GlobalMean(value, low, high, int(kept.sum()), int((~kept).sum()))
    return means


def framewise_v4(references, estimates, sample_rate):
    """BSS Eval version 4 of one track, by museval: `{"SDR" | "ISR" | "SIR" | "SAR": (sources,)}` in dB.

    references, estimates: `(sources, channels, time)`. The filters are fitted to the whole track, the ratios taken on
    frames of one second, without overlap, and their median over frames given, as in SiSEC 2018 and on MUSDB18; frames
    in which any source is silent count for none. NaN where no frame is left. Raises UserError where museval is missing
    or cannot run, ValueError for unequal shapes.
    """
    try:
        import museval
    except (ImportError, RuntimeError) as error:  # RuntimeError: its stempeg finds no ffmpeg
        raise UserError(
            f"framewise BSS Eval needs museval ({error}): run `pip install museval`, and install ffmpeg"
        ) from error
    estimates, references = _checked(estimates, references)
    signals = [signal.movedim(1, 2).numpy() for signal in (references, estimates)]  # (sources, time, channels)
    ratios = museval.evaluate(*signals, win=sample_rate, hop=sample_rate)
    return {
        name: torch.from_numpy(values).nanquantile(0.5, dim=1)  # nanmedian takes the lower of two
        for name, values in zip(("SDR", "ISR", "SIR", "SAR"), ratios, strict=True)
    }


@dataclass(frozen=True)
class SignalDifference:
    """Relative differences, `(...)` each: 0 for equal signals, 1 for a silent estimate, no upper bound."""

    time: torch.Tensor
    spectrogram: torch.Tensor


def signal_difference(estimate, reference, n_fft=2048, hop_length=512):
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
    stft = STFT(n_fft, hop_length)
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
            raise UserError(f"the {kind} holds NaN or infinity (first at {index}): mend it before it is scored")
    return pair
