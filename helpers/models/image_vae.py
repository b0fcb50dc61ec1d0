"""Variational autoencoders with two latent codes and two decoders: one mixture in, two sources out.

The encoder gives a Gaussian for each code, q(z1, z2 | x); decoder k a mean and a variance for every pixel of source k.
"""

from collections import OrderedDict
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from helpers.models.image_unet import clip_to_feasible, residual_stage

# σ from 0.03 to 2.7. The floor keeps the black background, which is known almost exactly, from ruling the loss.
LOG_VARIANCE_RANGE = (-7.0, 2.0)


class VAEOutput(NamedTuple):
    """What a VAE returns for a batch of mixtures."""

    mixture: torch.Tensor  # (batch, 1, height, width), the mean of the two sources
    means: torch.Tensor  # (batch, 2, height, width), what each decoder expects at each pixel
    log_variances: torch.Tensor  # (batch, 2, height, width), and how sure it is of that
    code_means: torch.Tensor  # (batch, 2, *code), the encoder's Gaussian for each code
    code_log_variances: torch.Tensor  # (batch, 2, *code)


def code_gaussians(heads):
    """Heads mean1, log_variance1, mean2, log_variance2 (batch, *code) -> means, log_variances (batch, 2, *code)."""
    mean1, log_variance1, mean2, log_variance2 = (head.float() for head in heads)
    log_variances = torch.stack((log_variance1, log_variance2), dim=1)
    return torch.stack((mean1, mean2), dim=1), log_variances.clamp(-12, 6)


def reparameterise(mean, log_variance):
    """Draw z ~ N(mean, exp(log_variance)) as mean + σ·ε, so that gradients reach both (Kingma and Welling, 2014)."""
    return mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)


def condition_on_mixture(mixture, means, log_variances):
    """Return E[s1, s2 | s1 + s2 = 2x] and the variance left, for independent Gaussians s_k ~ N(mean_k, variance_k).

    What the means leave unexplained is shared out in proportion to the variances, as by a Wiener filter:
    ŝ_k = μ_k + v_k / (v_1 + v_2) · (2x - μ_1 - μ_2), and both sources keep the variance v_1·v_2 / (v_1 + v_2).

    mixture x (batch, 1, height, width); means, log_variances (batch, 2, height, width) -> sources (batch, 2, height,
    width), log_variance (batch, 1, height, width).
    """
    residual = 2 * mixture - means.sum(dim=1, keepdim=True)
    share = torch.softmax(log_variances, dim=1)  # v_k / (v_1 + v_2), at any size of the variances
    log_total = torch.logsumexp(log_variances, dim=1, keepdim=True)
    return means + share * residual, log_variances.sum(dim=1, keepdim=True) - log_total


class DenseEncoder(nn.Module):
    """Image -> four vectors: mean and log-variance of two codes, from fully connected layers."""

    def __init__(self, latent, width):
        super().__init__()
        self.body = nn.Sequential(
            nn.Flatten(), nn.Linear(28 * 28, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()
        )
        self.heads = nn.ModuleList(nn.Linear(width, latent) for _ in range(4))

    def forward(self, mixture):
        """(batch, 1, 28, 28) -> mean1, log_variance1, mean2, log_variance2, each (batch, latent)."""
        h = self.body(mixture)
        return [head(h) for head in self.heads]


def dense_decoder(latent, width):
    """Code (batch, latent) -> (batch, 2, 28, 28): of every pixel the mean before its sigmoid, and the log-variance."""
    return nn.Sequential(
        nn.Linear(latent, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 2 * 28 * 28),
        nn.Unflatten(1, (2, 28, 28)),
    )  # fmt: skip


class ConvEncoder(nn.Module):
    """Image -> four maps: mean and log-variance of two codes, at half the image's height and width.

    The body goes down to a quarter of the size, to see the whole shape, and back up to a half, to keep the detail.
    """

    def __init__(self, latent, width):
        super().__init__()
        self.fine = residual_stage(1, width, 1)
        self.middle = residual_stage(width, 2 * width, 1)
        self.coarse = nn.Sequential(residual_stage(2 * width, 4 * width, 2), nn.Conv2d(4 * width, 2 * width, 1))
        self.join = residual_stage(4 * width, 2 * width, 1)
        self.heads = nn.ModuleList(nn.Conv2d(2 * width, latent, 1) for _ in range(4))

    def forward(self, mixture):
        """(batch, 1, height, width), multiples of 4 -> four heads (batch, latent, height/2, width/2)."""
        h = self.middle(F.max_pool2d(self.fine(mixture), 2))
        overview = F.interpolate(self.coarse(F.max_pool2d(h, 2)), scale_factor=2)
        h = self.join(torch.cat((overview, h), dim=1))
        return [head(h) for head in self.heads]


def conv_decoder(latent, width):
    """Code map (batch, latent, height/2, width/2) -> (batch, 2, height, width): each cell unfolds into 2×2 pixels."""
    return nn.Sequential(residual_stage(latent, 2 * width, 2), nn.Conv2d(2 * width, 4 * 2, 1), nn.PixelShuffle(2))


class ImageVAE(nn.Module):
    """A VAE that explains one mixture by two sources.

    kind: "dense" (a vector for each code) or "conv" (a small map). latent: the vector's length, or the map's channels.
    width: units of the hidden layers, or channels at the finest scale.
    """

    def __init__(self, kind="conv", latent=8, width=32):
        super().__init__()
        self.arguments = {"kind": kind, "latent": latent, "width": width}
        encoder, decoder = {"dense": (DenseEncoder, dense_decoder), "conv": (ConvEncoder, conv_decoder)}[kind]
        self.encoder = encoder(latent, width)
        named = [OrderedDict(body=decoder(latent, width)) for _ in range(2)]  # as saved weights call it
        self.decoders = nn.ModuleList(nn.Sequential(parts) for parts in named)

    def encode(self, mixture):
        """(batch, 1, height, width) -> code_means, code_log_variances, each (batch, 2, *code)."""
        return code_gaussians(self.encoder(mixture))

    def decode(self, codes):
        """(batch, 2, *code) -> means in [0, 1] and log_variances, each (batch, 2, height, width)."""
        pixels = [decoder(codes[:, k]) for k, decoder in enumerate(self.decoders)]
        pixels = torch.stack(pixels, dim=1).float()  # (batch, 2 sources, 2 parameters, height, width)
        low, high = LOG_VARIANCE_RANGE
        log_variances = low + F.softplus(pixels[:, :, 1] - low)  # a soft clamp: it leaves a gradient beyond its ends
        return torch.sigmoid(pixels[:, :, 0]), high - F.softplus(high - log_variances)

    def forward(self, mixture):
        """(batch, 1, height, width) in [0, 1] -> VAEOutput; codes are sampled in training, else their means taken."""
        code_means, code_log_variances = self.encode(mixture)
        codes = reparameterise(code_means, code_log_variances) if self.training else code_means
        means, log_variances = self.decode(codes)
        return VAEOutput(means.mean(dim=1, keepdim=True), means, log_variances, code_means, code_log_variances)

    def separate(self, mixture):
        """(batch, 1, height, width) -> (batch, 2, height, width): conditioned on the mixture, then made feasible."""
        output = self(mixture)
        sources, _ = condition_on_mixture(mixture, output.means, output.log_variances)
        return clip_to_feasible(mixture, sources)
