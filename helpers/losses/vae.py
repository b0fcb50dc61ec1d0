"""The losses that the models are trained with, each one written as the equation it is."""

import math
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from helpers.models.image_vae import condition_on_mixture


def per_image(values):
    """Sum over pixels (and channels), mean over the batch: (batch, ...) -> scalar."""
    return values.flatten(1).sum(dim=1).mean()


def bernoulli_nll(mean, target):
    """-log p(target) in nats an image, each pixel a coin that is white with probability `mean`: binary cross-entropy.

    A grey pixel is no coin's side: its cross-entropy is never 0, not even at mean = target.
    """
    with torch.autocast(mean.device.type, enabled=False):  # torch refuses this loss under autocast
        return per_image(F.binary_cross_entropy(mean.float(), target, reduction="none"))


def gaussian_nll(mean, log_variance, target):
    """-log N(target; mean, exp(log_variance)) in nats an image; `log_variance` is a tensor, or one number for all.

    With one fixed number this is the squared error (L2), up to a factor and a constant.
    """
    log_variance = torch.as_tensor(log_variance, dtype=mean.dtype, device=mean.device)
    squares = (target - mean).square() * torch.exp(-log_variance)
    return per_image(0.5 * (squares + log_variance + math.log(2 * math.pi)))


def laplace_nll(mean, scale, target):
    """-log Laplace(target; mean, scale) in nats an image: the absolute error (L1), up to a factor and a constant."""
    return per_image((target - mean).abs() / scale + math.log(2 * scale))


def kl_from_standard_normal(mean, log_variance):
    """KL( N(mean, exp(log_variance)) || N(0, 1) ) in nats an image (Kingma and Welling, 2014, appendix B)."""
    return per_image(0.5 * (mean.square() + log_variance.exp() - 1 - log_variance))


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
        beta: weight β of the KL term; 1 is the ELBO (β-VAE: Higgins et al., 2017).
        warm_up: part of the run over which the KL's weight rises from 0 to β (Bowman et al., 2016).
        conditioned: weight of the squared error after the sources were conditioned on the mixture.
    """

    likelihood: str = "learnt"
    scale: float = 0.1
    beta: float = 1.0
    warm_up: float = 0.0
    conditioned: float = 0.0

    def reconstruction(self, output, sources):
        """-log p(sources | codes), in nats an image."""
        if self.likelihood == "bernoulli":
            return bernoulli_nll(output.means, sources)
        if self.likelihood == "laplace":
            return laplace_nll(output.means, self.scale, sources)
        if self.likelihood == "gaussian":
            return gaussian_nll(output.means, 2 * math.log(self.scale), sources)
        if self.likelihood == "learnt":
            return gaussian_nll(output.means, output.log_variances, sources)
        raise ValueError(f"unknown likelihood '{self.likelihood}': take bernoulli, gaussian, laplace or learnt")

    def __call__(self, model, batch, progress):
        """batch: (mixture, first source, second source), each (batch, 1, height, width)."""
        mixture, *sources = batch
        sources = torch.cat(sources, dim=1)
        output = model(mixture)
        reconstruction = self.reconstruction(output, sources)
        kl = kl_from_standard_normal(output.code_means, output.code_log_variances)
        beta = self.beta * min(1.0, progress / self.warm_up) if self.warm_up else self.beta
        learnt = self.likelihood == "learnt"  # without learnt variances both sources are equally sure of themselves
        log_variances = output.log_variances if learnt else torch.zeros_like(output.means)
        conditioned, _ = condition_on_mixture(mixture, output.means, log_variances)
        loss = reconstruction + beta * kl
        if self.conditioned:
            loss = loss + self.conditioned * per_image((conditioned - sources).square())
        return {
            "loss": loss,
            "reconstruction": reconstruction,
            "kl": kl,
            "mse": mean_squared_error(output.means, sources),
            "conditioned mse": mean_squared_error(conditioned, sources),
        }


@dataclass
class BlindVAELoss:
    """-E[log N(x; x̂, σ²)] + β·KL: the ELBO of the mixture alone; no source is ever shown (Neri et al., 2021)."""

    scale: float = 0.1
    beta: float = 1.0

    def __call__(self, model, batch, progress):
        """batch: (mixture, ...); whatever follows the mixture is not looked at."""
        mixture = batch[0]
        output = model(mixture)
        reconstruction = gaussian_nll(output.mixture, 2 * math.log(self.scale), mixture)
        kl = kl_from_standard_normal(output.code_means, output.code_log_variances)
        return {"loss": reconstruction + self.beta * kl, "reconstruction": reconstruction, "kl": kl}


def separation_mse(model, batch, progress):
    """Mean squared error over both outputs of a model that returns the sources themselves: the U-Net's loss."""
    mixture, *sources = batch
    return {"loss": mean_squared_error(model(mixture), torch.cat(sources, dim=1))}
