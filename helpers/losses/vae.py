"""The losses of the VAEs, each one written as the equation it is: the ELBO of images and of music.

A likelihood is -log p(target; parameters) of each value, in nats. Of images it is summed over an image (per_image), of
music over the sources of a bin (per_bin), where white noise as loud as the mixture has magnitude 1 (models.Analysis).
"""

import math
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from helpers.models.image_unet import clip_to_feasible
from helpers.models.image_vae import condition_on_mixture
from helpers.models.music_vae import levels_of, log_magnitudes
from helpers.runtime import in_float32

SILENCE = 1e-6  # power, -60 dB: keeps logarithms finite where a source is silent


def per_image(values):
    """Sum over pixels (and channels), mean over the batch: (batch, ...) -> scalar."""
    return values.flatten(1).sum(dim=1).mean()


def per_bin(values):
    """Sum over sources, mean over all else: (batch, sources, ...) -> scalar."""
    return values.sum(dim=1).mean()


@in_float32
def bernoulli_nll(target, mean):
    """-log p(target), each pixel a coin that is white with probability `mean`: binary cross-entropy.

    A grey pixel is neither 0 nor 1: its cross-entropy is never 0, not even at mean = target.
    """
    return F.binary_cross_entropy(mean, target, reduction="none")


def gaussian_nll(target, mean, log_variance):
    """-log N(target; mean, exp(log_variance)); `log_variance` is a tensor, or one number for all.

    With one fixed number this is the squared error (L2), up to a factor and a constant.
    """
    precision = torch.exp(-log_variance) if isinstance(log_variance, torch.Tensor) else math.exp(-log_variance)
    return 0.5 * ((target - mean).square() * precision + log_variance + math.log(2 * math.pi))


def laplace_nll(target, mean, scale):
    """-log Laplace(target; mean, scale), scale a number: the absolute error (L1), up to a factor and a constant."""
    return (target - mean).abs() / scale + math.log(2 * scale)


def local_gaussian_nll(target, log_variance):
    """-log Nc(target; 0, v) of a complex spectrogram: every bin has a variance v (Févotte, Bertin and Durrieu, 2009).

    Up to constants this is the Itakura-Saito divergence between |target|² and v.
    """
    power = target.abs().square() + SILENCE
    return log_variance + power * torch.exp(-log_variance) + math.log(math.pi)


def kl_from_standard_normal(mean, log_variance):
    """KL( N(mean, exp(log_variance)) || N(0, 1) ) in nats an item (Kingma and Welling, 2014, appendix B)."""
    return per_image(0.5 * (mean.square() + log_variance.exp() - 1 - log_variance))


def elbo(reconstruction, kl, beta, warm_up=0.0, progress=1.0):
    """Return the terms of a loss: -ELBO, where the KL's weight rises to `beta` over the part `warm_up` of the run.

    beta = 1 is the ELBO itself (β-VAE: Higgins et al., 2017; warm-up: Bowman et al., 2016).
    """
    weight = beta * min(1.0, progress / warm_up) if warm_up else beta
    return {"loss": reconstruction + weight * kl, "reconstruction": reconstruction, "kl": kl}


def mean_squared_error(estimate, target):
    """Mean over everything, the figure that the tables report."""
    return (estimate - target).square().mean()


@dataclass
class SupervisedVAELoss:
    """-E[log p(a | z1) + log p(b | z2)] + β·KL(q(z1, z2 | x) || N(0, 1)), in nats an image.

    Args:
        likelihood: "bernoulli" (cross-entropy), "gaussian" (L2), "laplace" (L1), or "learnt" (Gaussian with the
            variances that the decoders give).
        scale: σ of "gaussian", scale of "laplace", on the pixels' range of 1.
        beta, warm_up: of the KL term, see elbo().
        conditioned: weight of the squared error after the sources were conditioned on the mixture.
        feasible: whether that error is measured after the sources were also clipped to the feasible interval.
    """

    likelihood: str = "learnt"
    scale: float = 0.1
    beta: float = 1.0
    warm_up: float = 0.0
    conditioned: float = 0.0
    feasible: bool = False

    def reconstruction(self, output, sources):
        """-log p(sources | codes), in nats an image."""
        if self.likelihood == "bernoulli":
            return per_image(bernoulli_nll(sources, output.means))
        if self.likelihood == "laplace":
            return per_image(laplace_nll(sources, output.means, self.scale))
        if self.likelihood == "gaussian":
            return per_image(gaussian_nll(sources, output.means, 2 * math.log(self.scale)))
        if self.likelihood == "learnt":
            return per_image(gaussian_nll(sources, output.means, output.log_variances))
        raise ValueError(f"unknown likelihood '{self.likelihood}': take bernoulli, gaussian, laplace or learnt")

    def __call__(self, model, batch, progress):
        """batch: (mixture, first source, second source), each (batch, 1, height, width)."""
        mixture, *sources = batch
        sources = torch.cat(sources, dim=1)  # (batch, 2, height, width)
        output = model(mixture)
        reconstruction = self.reconstruction(output, sources)
        kl = kl_from_standard_normal(output.code_means, output.code_log_variances)
        terms = elbo(reconstruction, kl, self.beta, self.warm_up, progress)
        equal, _ = condition_on_mixture(mixture, output.means, torch.zeros_like(output.means))
        conditioned = equal  # without learnt variances both sources are equally sure of themselves
        if self.likelihood == "learnt":
            conditioned, _ = condition_on_mixture(mixture, output.means, output.log_variances)
        if self.feasible:
            conditioned = clip_to_feasible(mixture, conditioned)
        if self.conditioned:
            terms["loss"] = terms["loss"] + self.conditioned * per_image((conditioned - sources).square())
        errors = {"mse": output.means - sources, "equal mse": equal - sources, "conditioned mse": conditioned - sources}
        errors["mixture mse"] = output.mixture - mixture
        return terms | {name: error.detach().square().mean() for name, error in errors.items()}


@dataclass
class BlindVAELoss:
    """-E[log N(x; x̂, σ²)] + β·KL: the ELBO of the mixture alone; no source is ever shown (Neri et al., 2021)."""

    scale: float = 0.1
    beta: float = 1.0

    def __call__(self, model, batch, progress):
        """batch: (mixture, ...); whatever follows the mixture is not looked at."""
        mixture = batch[0]
        output = model(mixture)
        reconstruction = per_image(gaussian_nll(mixture, output.mixture, 2 * math.log(self.scale)))
        kl = kl_from_standard_normal(output.code_means, output.code_log_variances)
        return elbo(reconstruction, kl, self.beta)


def separation_mse(model, batch, progress):
    """Mean squared error over both outputs of a model that returns the sources themselves: the U-Net's loss."""
    mixture, *sources = batch
    return {"loss": mean_squared_error(model(mixture), torch.cat(sources, dim=1))}


@dataclass
class MusicVAELoss:
    """-E[log p(sources | codes)] + β·KL(q(codes | mixture) || N(0, 1)), in nats a bin of the mixture.

    Args:
        target: what of the sources the decoders are to make probable:
            "levels": their levels, by a Gaussian around each decoder's;
            "magnitudes": their magnitudes, by a Laplacian around the estimates', which are masked mixtures;
            "variances": their spectrograms, by the Gaussian whose variance each decoder's level stands for;
            "waveforms": their waveforms, by a Laplacian around those that the filter gives of the mixture, whose
            loudness (RMS) is 1; a sample counts as a bin;
            "snr": their waveforms, by a Gaussian whose variance fits the errors of each segment best: ln(2πe·σ²) a
            bin, σ² the errors' energy over the mixture's, 1e-3 at least (losses.error_to_mixture, in nats).
        scale: σ of the levels (0.1 is 8 dB), and scale of the Laplacians.
        beta, warm_up: of the KL term, see elbo().
    """

    target: str = "waveforms"
    scale: float = 0.1
    beta: float = 1.0
    warm_up: float = 0.0

    def reconstruction(self, model, analysis, sources):
        """-log p(sources | codes); sources: waveforms (batch, 2, 1, time)."""
        truth = model.stft(sources) / analysis.scale.unsqueeze(1)  # complex (batch, 2, 1, bins, frames)
        levels = analysis.vae.sources.unsqueeze(2)  # (batch, 2, 1, bins, frames)
        if self.target == "levels":
            return per_bin(gaussian_nll(levels_of(truth), levels, 2 * math.log(self.scale)))
        if self.target == "magnitudes":
            return per_bin(laplace_nll(truth.abs(), analysis.magnitudes, self.scale))
        if self.target == "variances":
            return per_bin(local_gaussian_nll(truth, 2 * log_magnitudes(levels)))
        if self.target in ("waveforms", "snr"):
            loudness = analysis.scale / model.stft.noise_magnitude  # (batch, 1, 1, 1)
            estimates = model.to_waveforms(analysis, sources.shape[-1])
            if self.target == "waveforms":
                return per_bin(laplace_nll(sources / loudness, estimates / loudness, self.scale))
            variance = ((sources - estimates) / loudness).square().mean(dim=(1, 2, 3))  # (batch,)
            return torch.log(2 * math.pi * math.e * (variance + 1e-3)).mean()
        raise ValueError(f"unknown target '{self.target}': take levels, magnitudes, variances, waveforms or snr")

    def __call__(self, model, batch, progress):
        """batch: mixture (batch, 1, time), sources (batch, 2, 1, time)."""
        mixture, sources = batch
        analysis = model.analyse(mixture)
        reconstruction = self.reconstruction(model, analysis, sources)
        bins = analysis.spectrogram[0].numel()  # of all frames
        kl = kl_from_standard_normal(analysis.vae.code_means, analysis.vae.code_log_variances) / bins
        return elbo(reconstruction, kl, self.beta, self.warm_up, progress)


@dataclass
class BlindMusicLoss:
    """-E[log p(x; both decoders)] + β·KL: the ELBO of the mixture's levels x alone; no source is ever shown.

    Args:
        mixing: "levels": a Gaussian around the mean of both decoders' levels, as the source document mixes;
            "powers": the Gaussian of the mixture's spectrogram whose variance is the sum of both decoders', as the
            powers of independent sounds add.
        scale: σ of a level, 0.1 is 8 dB. beta: of the KL term, see elbo().
    """

    mixing: str = "levels"
    scale: float = 0.1
    beta: float = 1.0

    def __call__(self, model, levels, progress):
        """levels: the mixture's, (batch, 1, bins, frames)."""
        output = model.autoencode(levels)
        if self.mixing == "levels":
            nats = gaussian_nll(levels, output.mixture, 2 * math.log(self.scale))
        else:
            log_variance = torch.logsumexp(2 * log_magnitudes(output.sources), dim=1, keepdim=True)
            nats = local_gaussian_nll(log_magnitudes(levels).exp(), log_variance)
        kl = kl_from_standard_normal(output.code_means, output.code_log_variances) / levels[0].numel()
        return elbo(per_bin(nats), kl, self.beta)
