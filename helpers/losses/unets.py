"""The losses of the U-Nets and of the models beside them, each one written as the equation it is.

A batch is (mixture (batch, channels, time), sources (batch, sources, channels, time)), in the order of model.sources.
"""

import math
from dataclasses import dataclass

import torch

from helpers.models.audio_model import QUIETEST
from helpers.stft import STFT


def weights_of(alpha, sources):
    """Return the weight of every source: (α, 1 - α) of equation (12) for one number, else `alpha` as equation (13)'s.

    Raises ValueError unless there is one per source, none below 0, and they add up to 1.
    """
    weights = (alpha, 1 - alpha) if isinstance(alpha, int | float) else tuple(alpha)
    if len(weights) != sources or min(weights) < 0 or not math.isclose(sum(weights), 1, abs_tol=1e-3):
        raise ValueError(f"{sources} sources need as many weights that add up to 1, got {weights}")
    return weights


def magnitudes_of(model, batch):
    """Return estimates and truth, magnitudes (batch, sources, channels, bins, frames) on the model's own scale."""
    mixture, sources = batch
    analysis = model.analyse(mixture)
    return analysis.magnitudes, model.stft(sources).abs() / analysis.scale.unsqueeze(1)


@dataclass
class WeightedL1Loss:
    """Σ_k α_k·L(source k, estimate k): equations (12) and (13); L is the mean absolute difference of magnitudes.

    Args:
        alpha: one number α for two sources, weights α and 1 - α; or a weight for each source.

    Logged besides the loss: L of every source, by its name.
    """

    alpha: float | tuple = 0.5

    def __call__(self, model, batch, progress):
        estimates, truth = magnitudes_of(model, batch)
        errors = (estimates - truth).abs().mean(dim=(0, 2, 3, 4))  # (sources,)
        weights = weights_of(self.alpha, len(errors))
        loss = sum(weight * error for weight, error in zip(weights, errors, strict=True))
        return {"loss": loss, **dict(zip(model.sources, errors.detach(), strict=True))}


@torch.no_grad()
def balancing_weights(model, batches):
    """Return the weights that make sources of unequal loudness count alike: α* of the source document, from the data.

    α_1 · mean(‖source 1‖) = α_2 · mean(‖source 2‖) = ..., and they add up to 1: of two sources,
    α* = mean(‖accompaniment‖) / (mean(‖vocals‖) + mean(‖accompaniment‖)). ‖·‖ is the 2-norm of a segment's magnitudes
    on the scale that the model is trained on, the mean is over all segments of `batches`.

    Raises ValueError if there are no segments, or a source is silent in all of them.
    """
    norms = []
    for mixture, sources in batches:
        _, scale = model.scaled_stft(mixture)
        magnitudes = model.stft(sources).abs() / scale.unsqueeze(1)  # (batch, sources, channels, bins, frames)
        norms.append(magnitudes.flatten(2).norm(dim=2).cpu())  # (batch, sources)
    means = torch.cat(norms).double().mean(0).tolist() if norms else [0.0]
    if min(means) <= 0:
        raise ValueError(f"no weights balance sources of mean norms {means}: all of them must be heard")
    inverse = [1 / mean for mean in means]
    return tuple(value / sum(inverse) for value in inverse)


def error_to_mixture(model, batch, progress):
    """Mean of 10 log10(energy of the estimates' errors / energy of the mixture + 1e-3), in dB, over the segments.

    A logarithmic mean squared error (Heitkaemper et al., 2020, arXiv 1911.08895) over the mixture's energy: every
    segment counts alike, and nothing is gained below -30 dB. Squared errors ask for the mean of what a bin may hold, as
    the SDR does; the absolute ones of MultiResolutionLoss ask for its median.
    """
    mixture, sources = batch
    error = (model(mixture) - sources).square().sum(dim=(1, 2, 3))  # (batch,)
    energy = mixture.square().sum(dim=(1, 2)).clamp_min(1e-8)
    return {"loss": 10 * torch.log10(error / energy + 1e-3).mean()}


@dataclass
class MultiResolutionLoss:
    """L1 of the waveforms, and of their complex STFTs at several resolutions (as in BS-RoFormer: Lu et al., 2023).

    An estimate's error is e(t) = estimate - source, over the mixture's loudness (RMS): quiet segments count as much as
    loud ones. The loss is mean|e| + weight · mean over resolutions of mean|STFT(e)|, with STFTs scaled such that white
    noise has the magnitude of its RMS. Logged besides: both means, and the signal-to-noise ratio of the estimates, dB.

    Args:
        resolutions: (n_fft, hop_length) of each STFT, in samples. Nothing is inverted: hops of half a window will do.
        weight: of the STFTs' part.
    """

    resolutions: tuple = ((2048, 1024), (1024, 512), (512, 256))
    weight: float = 1.0

    def __post_init__(self):
        self.stfts = [STFT(n_fft, hop_length) for n_fft, hop_length in self.resolutions]

    def __call__(self, model, batch, progress):
        mixture, sources = batch
        loudness = mixture.square().mean(dim=(1, 2)).sqrt().clamp_min(QUIETEST).view(-1, 1, 1, 1)
        error = (model(mixture) - sources) / loudness  # (batch, sources, channels, time)
        waveform = error.abs().mean()
        spectrum = sum(stft(error).abs().mean() / stft.noise_magnitude for stft in self.stfts) / len(self.stfts)
        with torch.no_grad():
            signal = (sources / loudness).square().sum(dim=(2, 3))  # (batch, sources)
            noise = error.square().sum(dim=(2, 3))
            ratio = 10 * torch.log10((signal + 1e-3) / (noise + 1e-3))
        return {"loss": waveform + self.weight * spectrum, "waveform": waveform, "stft": spectrum, "snr": ratio.mean()}
