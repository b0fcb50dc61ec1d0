"""The losses of the music models, each one written as the equation it is.

Sources and estimates are complex spectrograms (batch, sources, bins, frames) on a scale where white noise as loud as
the mixture has magnitude 1. Likelihoods are in nats for each bin of the mixture: summed over sources, mean over bins.
"""

import math
from dataclasses import dataclass

import torch

from helpers.losses.vae import kl_from_standard_normal

SILENCE = 1e-6  # power, -60 dB: keeps logarithms finite where a source is silent


def per_bin(values):
    """Sum over sources, mean over all else: (batch, sources, ...) -> scalar."""
    return values.sum(dim=1).mean()


def gaussian_nll(mean, target, scale):
    """-log N(target; mean, scale²): the squared error (L2), up to a factor and a constant."""
    return per_bin(0.5 * ((target - mean) / scale).square() + math.log(scale * math.sqrt(2 * math.pi)))


def laplace_nll(estimate, target, scale):
    """-log Laplace(target; estimate, scale): the absolute error (L1), up to a factor and a constant."""
    return per_bin((target - estimate).abs() / scale + math.log(2 * scale))


def local_gaussian_nll(log_variance, spectrogram):
    """-log Nc(S; 0, v) of a complex S: every bin has a variance of its own (Févotte, Bertin and Durrieu, 2009).

    Up to constants this is the Itakura-Saito divergence between |S|² and v.
    """
    power = spectrogram.abs().square() + SILENCE
    return per_bin(log_variance + power * torch.exp(-log_variance) + math.log(math.pi))


def kl_per_bin(description, bins):
    """KL( q(codes | mixture) || N(0, 1) ) of a Description over the number of bins and frames it describes."""
    return kl_from_standard_normal(description.code_means, description.code_log_variances) / bins


@dataclass
class BlindMusicLoss:
    """-E[log N(x; x̂, σ²)] + β·KL: the ELBO of the mixture's levels x alone; x̂ is the mean of both decoders' levels."""

    scale: float = 0.1  # σ of a level: 8 dB
    beta: float = 1.0

    def __call__(self, model, mixture, progress):
        """mixture: its levels (batch, 1, bins, frames)."""
        found = model.describe(mixture)
        reconstruction = gaussian_nll(found.reconstruction, mixture, self.scale)
        kl = kl_per_bin(found, mixture[0].numel())
        return {"loss": reconstruction + self.beta * kl, "reconstruction": reconstruction, "kl": kl}


@dataclass
class MusicVAELoss:
    """-E[log p(sources | codes)] + β·KL(q(codes | mixture) || N(0, 1)).

    Args:
        target: what of the sources the decoders are to make probable:
            "levels": their levels, by a Gaussian around each decoder's;
            "magnitudes": their magnitudes, by a Laplacian around the estimates', which are masked mixtures;
            "variances": their spectrograms, by the Gaussian whose variance each decoder's level stands for;
            "waveforms": their waveforms, by a Laplacian around those that the filter gives of the mixture, whose
            loudness (RMS) is 1; a sample counts as a bin.
        scale: σ of the levels (0.1 is 8 dB), and scale of the Laplacians.
        beta: weight β of the KL term; 1 is the ELBO.
        warm_up: part of the run over which the KL's weight rises from 0 to β.
    """

    target: str = "waveforms"
    scale: float = 0.1
    beta: float = 1.0
    warm_up: float = 0.0

    def reconstruction(self, model, levels, spectrogram, scale, sources):
        """-log p(sources | codes); levels: the decoders'; sources: waveforms (batch, 2, 1, time)."""
        truth = model.stft(sources.squeeze(2)) / scale
        if self.target == "levels":
            return gaussian_nll(levels, model.levels_of(truth), self.scale)
        estimates = model.read(levels, spectrogram)
        if self.target == "magnitudes":
            return laplace_nll(estimates.abs(), truth.abs(), self.scale)
        if self.target == "variances":
            return local_gaussian_nll(2 * model.log_magnitudes(levels), truth)
        if self.target == "waveforms":
            loudness = scale.squeeze(-1) / model.stft.window.square().sum().sqrt()  # (batch, 1, 1)
            error = model.stft.inverse(estimates * scale, sources.shape[-1]) - sources.squeeze(2)
            return laplace_nll(error / loudness, torch.zeros_like(error), self.scale)
        raise ValueError(f"unknown target '{self.target}': take levels, magnitudes, variances or waveforms")

    def __call__(self, model, batch, progress):
        """batch: mixture (batch, 1, time), sources (batch, 2, 1, time)."""
        mixture, sources = batch
        spectrogram, scale = model.analyse(mixture)
        found = model.describe(model.levels_of(spectrogram))
        reconstruction = self.reconstruction(model, found.levels, spectrogram, scale, sources)
        kl = kl_per_bin(found, spectrogram[0].numel())
        beta = self.beta * min(1.0, progress / self.warm_up) if self.warm_up else self.beta
        return {"loss": reconstruction + beta * kl, "reconstruction": reconstruction, "kl": kl}
