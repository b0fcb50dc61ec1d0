"""Variational autoencoders of music: *levels* of a mixture in, levels of two sources out.

Levels are decibels scaled to about [0, 1] (deep_unet.levels_of). MusicVAE makes waveforms of them in one of three ways.
"""

import math
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from helpers.models.audio_model import AudioModel, check_choice, masked, painted
from helpers.models.deep_unet import FLOOR, RANGE, DeepBody, convolution, levels_of
from helpers.models.image_vae import code_gaussians, reparameterise

LOWEST, HIGHEST = -0.25, 1.25  # levels that a decoder can give: -80 to +40 dB


def log_magnitudes(levels):
    """The natural logarithms of the magnitudes, over their scale, that levels stand for; the same shape."""
    return math.log(10) / 20 * (RANGE * levels + FLOOR)


class LevelsOutput(NamedTuple):
    """What the VAE makes of a batch of levels: with sampled codes in training, with their means otherwise."""

    mixture: torch.Tensor  # (batch, 1, bins, frames), the reconstruction: the mean of both sources' levels
    sources: torch.Tensor  # (batch, 2, bins, frames), levels of the sources, one from each decoder
    code_means: torch.Tensor  # (batch, 2, *code), the encoder's Gaussian for each code
    code_log_variances: torch.Tensor  # (batch, 2, *code)


class TwoSourceVAE(nn.Module):
    """What the three VAEs share; a subclass has encode(levels) -> four heads, and decode(codes, shape)."""

    def forward(self, levels):
        """Levels of a mixture (batch, 1, bins, frames) -> LevelsOutput."""
        means, log_variances = code_gaussians(self.encode(levels))  # each (batch, 2, *code)
        codes = reparameterise(means, log_variances) if self.training else means  # z = mean + sigma * noise
        # at first about +8 dB everywhere: a variance that is too small costs far more than one that is too large
        sources = torch.sigmoid(1 + self.decode(codes, levels.shape[-2:]).float())  # (batch, 2, bins, frames)
        sources = LOWEST + (HIGHEST - LOWEST) * sources
        return LevelsOutput(sources.mean(dim=1, keepdim=True), sources, means, log_variances)


class DenseVAE(TwoSourceVAE):
    """Fully connected layers on a patch of five frames, for the one in its middle.

    A layer that is the same for every frame is a convolution over time whose channels are the bins.
    """

    def __init__(self, bins, latent, width):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv1d(bins, width, 5, padding=2), nn.ReLU(), nn.Conv1d(width, width, 1), nn.ReLU()
        )
        self.heads = nn.ModuleList(nn.Conv1d(width, latent, 1) for _ in range(4))
        self.decoders = nn.ModuleList(
            nn.Sequential(
                nn.Conv1d(latent, width, 1), nn.ReLU(), nn.Conv1d(width, width, 1), nn.ReLU(), nn.Conv1d(width, bins, 1)
            )
            for _ in range(2)
        )

    def encode(self, levels):
        """(batch, 1, bins, frames) -> mean1, log_variance1, mean2, log_variance2, each (batch, latent, frames)."""
        h = self.body(levels.squeeze(1))
        return [head(h) for head in self.heads]

    def decode(self, codes, shape):
        """(batch, 2, latent, frames) -> levels (batch, 2, bins, frames), before their sigmoid."""
        return torch.stack([decoder(codes[:, k]) for k, decoder in enumerate(self.decoders)], dim=1)


class ConvEncoder(nn.Module):
    """Convolutions with ReLU, each halving bins and frames, then four convolutional heads."""

    def __init__(self, latent, width):
        super().__init__()
        self.body = nn.Sequential()
        for inputs, outputs in ((1, width), (width, 2 * width), (2 * width, 4 * width)):
            self.body.extend([nn.Conv2d(inputs, outputs, 3, stride=2, padding=1), nn.ReLU()])
        self.heads = nn.ModuleList(nn.Conv2d(4 * width, latent, 3, padding=1) for _ in range(4))

    def forward(self, levels):
        """(batch, 1, bins, frames) -> mean1, log_variance1, mean2, log_variance2: (batch, latent, bins/8, frames/8)."""
        h = self.body(levels)
        return [head(h) for head in self.heads]


class ConvDecoder(nn.Module):
    """Upsampling, convolution and ReLU in stages, adaptive average pooling to the wanted size, final convolutions.

    On CUDA the gradient of adaptive pooling is summed in any order: two runs differ in the last digits.
    """

    def __init__(self, latent, width):
        super().__init__()
        channels = [latent, 4 * width, 2 * width, width]
        self.body = nn.Sequential()
        for inputs, outputs in zip(channels, channels[1:], strict=False):
            self.body.extend([nn.Upsample(scale_factor=2), nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()])
        self.last = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, 1, 3, padding=1))

    def forward(self, code, shape):
        """(batch, latent, ...) -> levels (batch, 1, *shape) before their sigmoid, for any (bins, frames)."""
        return self.last(F.adaptive_avg_pool2d(self.body(code), shape))


class ConvVAE(TwoSourceVAE):
    """The convolutional VAE of Rajabi, "Variational Auto Encoder, Part 2" (2024): one encoder, two decoders."""

    def __init__(self, bins, latent, width):
        super().__init__()
        self.encode = ConvEncoder(latent, width)
        self.decoders = nn.ModuleList(ConvDecoder(latent, width) for _ in range(2))

    def decode(self, codes, shape):
        """(batch, 2, latent, bins/8, frames/8) -> levels (batch, 2, *shape), before their sigmoid."""
        return torch.cat([decoder(codes[:, k], shape) for k, decoder in enumerate(self.decoders)], dim=1)


class DeepVAE(TwoSourceVAE, DeepBody):
    """An encoder that sees a second of music at once; its codes are maps with a cell for every four bins."""

    def __init__(self, bins, latent, width):
        super().__init__(bins, width)
        self.heads = nn.ModuleList(nn.Conv2d(width, latent, 1) for _ in range(4))
        self.decoders = nn.ModuleList(
            nn.Sequential(convolution(latent, width), convolution(width, width), nn.Conv2d(width, self.bands, 1))
            for _ in range(2)
        )

    def encode(self, levels):
        """(batch, 1, bins, frames) -> four heads (batch, latent, bins/4, frames filled up to a multiple of 8)."""
        h = self.features(levels)
        return [head(h) for head in self.heads]

    def decode(self, codes, shape):
        """(batch, 2, latent, bins/4, frames) -> levels (batch, 2, *shape), before their sigmoid."""
        return self.whole(torch.stack([decoder(codes[:, k]) for k, decoder in enumerate(self.decoders)], dim=1), shape)


NETWORKS = {"dense": DenseVAE, "conv": ConvVAE, "deep": DeepVAE}


class MusicVAE(AudioModel):
    """Separates a mixture into two sources with levels that a VAE gives them.

    Args:
        network: "dense", "conv" or "deep".
        reading: what the two levels of a bin are taken for: "spectrogram", the magnitudes themselves, which get the
            mixture's phase; "mask", magnitudes whose ratio is a mask; "wiener", standard deviations of two Gaussians,
            whose variances' ratio is the mask.
        latent, width: as ImageVAE's. settings: AudioModel's; decoder k gives source k.
    """

    def __init__(self, network="deep", reading="wiener", latent=8, width=32, **settings):
        super().__init__(**settings)
        self.arguments |= {"network": network, "reading": reading, "latent": latent, "width": width}
        check_choice("reading", reading, ("spectrogram", "mask", "wiener"))
        self.reading = reading
        self.network = NETWORKS[network](self.stft.bins, latent, width)

    def autoencode(self, levels):
        """Levels of a mixture (batch, 1, bins, frames) -> LevelsOutput: the VAE itself, without its STFT."""
        return self.network(levels)

    def analyse(self, waveform):
        """(batch, 1, time) -> Analysis, with `vae`: LevelsOutput."""
        spectrogram, scale = self.scaled_stft(waveform)
        vae = self.autoencode(levels_of(spectrogram))
        logs = log_magnitudes(vae.sources).unsqueeze(2)  # (batch, 2, 1, bins, frames)
        if self.reading == "spectrogram":
            return painted(spectrogram, scale, logs.exp(), vae=vae)
        power = 2 if self.reading == "wiener" else 1
        masks = torch.softmax(power * logs, dim=1)  # v_1 / (v_1 + v_2), however large or small both are
        return masked(spectrogram, scale, masks, vae=vae)
