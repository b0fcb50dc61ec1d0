"""Variational autoencoders of music: one mixture in, a level for every bin of two sources out.

What the networks read and write is the same quantity everywhere: *levels*, decibels scaled to about [0, 1]. The encoder
reads the mixture's and gives a Gaussian for each of two codes; decoder k turns its code into the levels of source k.
MusicVAE makes waveforms of them in one of three ways, from the simplest to the music form of notebook 01's idea.
"""

import math
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from helpers.models.deep_unet import FLOOR, RANGE, DeepBody, convolution
from helpers.models.image_vae import reparameterise
from helpers.stft import STFT, to_decibels

# FLOOR and RANGE, in dB: what level 0 means, and from there to level 1
LOWEST, HIGHEST = -0.25, 1.25  # levels that a decoder can give: -80 to +40 dB
NEPERS = RANGE * math.log(10) / 20  # from level 0 to level 1 as the natural logarithm of the magnitude


class Description(NamedTuple):
    """What the VAE makes of a batch of mixtures: with sampled codes in training, with their means otherwise."""

    reconstruction: torch.Tensor  # (batch, 1, bins, frames), the mean of both sources' levels
    levels: torch.Tensor  # (batch, 2, bins, frames), of the sources, one from each decoder
    code_means: torch.Tensor  # (batch, 2, *code), the encoder's Gaussian for each code
    code_log_variances: torch.Tensor  # (batch, 2, *code)


# ---- dense: every few frames by themselves -----------------------------------------------------------------------


class DenseNetwork(nn.Module):
    """Fully connected layers on a patch of `context` frames, for the frame in its middle.

    A layer that is the same for every frame is a convolution over time whose channels are the bins: here one with a
    kernel of `context` frames, and then kernels of one.
    """

    def __init__(self, bins, latent, width, context=5):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv1d(bins, width, context, padding=context // 2), nn.ReLU(), nn.Conv1d(width, width, 1), nn.ReLU()
        )
        self.heads = nn.ModuleList(nn.Conv1d(width, latent, 1) for _ in range(4))
        self.decoders = nn.ModuleList(
            nn.Sequential(
                nn.Conv1d(latent, width, 1), nn.ReLU(), nn.Conv1d(width, width, 1), nn.ReLU(), nn.Conv1d(width, bins, 1)
            )
            for _ in range(2)
        )

    def encode(self, mixture):
        """(batch, 1, bins, frames) -> mean1, log_variance1, mean2, log_variance2, each (batch, latent, frames)."""
        h = self.body(mixture.squeeze(1))
        return [head(h) for head in self.heads]

    def decode(self, codes, shape):
        """(batch, 2, latent, frames) -> levels (batch, 2, bins, frames), before their sigmoid."""
        return torch.stack([decoder(codes[:, k]) for k, decoder in enumerate(self.decoders)], dim=1)


# ---- convolutional, as the source document describes it ----------------------------------------------------------


class ConvEncoder(nn.Module):
    """Convolutions with ReLU, each halving bins and frames, then four convolutional heads."""

    def __init__(self, latent, width, stages=3):
        super().__init__()
        channels = [1, *(width * 2**stage for stage in range(stages))]
        self.body = nn.Sequential()
        for inputs, outputs in zip(channels, channels[1:], strict=False):
            self.body.extend([nn.Conv2d(inputs, outputs, 3, stride=2, padding=1), nn.ReLU()])
        self.heads = nn.ModuleList(nn.Conv2d(channels[-1], latent, 3, padding=1) for _ in range(4))

    def forward(self, mixture):
        """(batch, 1, bins, frames) -> mean1, log_variance1, mean2, log_variance2: (batch, latent, bins/8, frames/8)."""
        h = self.body(mixture)
        return [head(h) for head in self.heads]


class ConvDecoder(nn.Module):
    """Upsampling, convolution and ReLU in stages, adaptive average pooling to the wanted size, final convolutions."""

    def __init__(self, latent, width, stages=3):
        super().__init__()
        channels = [latent, *(width * 2**stage for stage in reversed(range(stages)))]
        self.body = nn.Sequential()
        for inputs, outputs in zip(channels, channels[1:], strict=False):
            self.body.extend([nn.Upsample(scale_factor=2), nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()])
        self.last = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, 1, 3, padding=1))

    def forward(self, code, shape):
        """(batch, latent, ...) -> levels (batch, 1, *shape) before their sigmoid, for any (bins, frames)."""
        return self.last(F.adaptive_avg_pool2d(self.body(code), shape))


class ConvNetwork(nn.Module):
    """One ConvEncoder and two ConvDecoders: the ConvAE of the source document."""

    def __init__(self, bins, latent, width):
        super().__init__()
        self.encoder = ConvEncoder(latent, width)
        self.decoders = nn.ModuleList(ConvDecoder(latent, width) for _ in range(2))

    def encode(self, mixture):
        """(batch, 1, bins, frames) -> mean1, log_variance1, mean2, log_variance2: (batch, latent, bins/8, frames/8)."""
        return self.encoder(mixture)

    def decode(self, codes, shape):
        """(batch, 2, latent, bins/8, frames/8) -> levels (batch, 2, *shape), before their sigmoid."""
        return torch.cat([decoder(codes[:, k], shape) for k, decoder in enumerate(self.decoders)], dim=1)


# ---- deep: what the results are made with ------------------------------------------------------------------------


class DeepNetwork(DeepBody):
    """An encoder that sees a second of music at once, and two light decoders that see nothing but their code.

    Each code is a map with a cell for every frame and every four bins, `latent` numbers each.
    """

    def __init__(self, bins, latent, width):
        super().__init__(bins, width)
        self.heads = nn.ModuleList(nn.Conv2d(width, latent, 1) for _ in range(4))
        self.decoders = nn.ModuleList(
            nn.Sequential(convolution(latent, width), convolution(width, width), nn.Conv2d(width, self.bands, 1))
            for _ in range(2)
        )

    def encode(self, mixture):
        """(batch, 1, bins, frames) -> mean1, log_variance1, mean2, log_variance2: (batch, latent, bins/4, frames).

        Frames are filled up to a multiple of 8.
        """
        h = self.features(mixture)
        return [head(h) for head in self.heads]

    def decode(self, codes, shape):
        """(batch, 2, latent, bins/4, frames) -> levels (batch, 2, *shape), before their sigmoid."""
        return self.whole(torch.stack([decoder(codes[:, k]) for k, decoder in enumerate(self.decoders)], dim=1), shape)


# ---- from waveform to waveforms ----------------------------------------------------------------------------------

NETWORKS = {"dense": DenseNetwork, "conv": ConvNetwork, "deep": DeepNetwork}


class MusicVAE(nn.Module):
    """Separates a mixture into two sources with levels that a VAE gives them; an audio model.

    Args:
        network: "dense", "conv" or "deep".
        reading: what the two levels L_k of a bin are taken for.
            "spectrogram": the magnitudes themselves, which get the mixture's phase;
            "mask": magnitudes whose ratio is a mask, 10^(L1) / (10^(L1) + 10^(L2)) in decibels, on the mixture;
            "wiener": standard deviations of two Gaussians, whose variances' ratio is the mask: a Wiener filter.
        latent: length of a code's vector, or channels of its map.
        width: units of the hidden layers, or channels at the finest scale.
        sample_rate: in Hz. n_fft, hop_length: of the STFT, in samples.
        sources: names of what decoder 1 and 2 give.
    """

    channels = "each"

    def __init__(
        self,
        network="deep",
        reading="wiener",
        latent=8,
        width=32,
        sample_rate=16_000,
        n_fft=1024,
        hop_length=256,
        sources=("vocals", "accompaniment"),
    ):
        super().__init__()
        self.arguments = {
            "network": network, "reading": reading, "latent": latent, "width": width, "sample_rate": sample_rate,
            "n_fft": n_fft, "hop_length": hop_length, "sources": list(sources),
        }  # fmt: skip
        if reading not in ("spectrogram", "mask", "wiener"):
            raise ValueError(f"unknown reading '{reading}': take spectrogram, mask or wiener")
        self.reading, self.sample_rate, self.sources = reading, sample_rate, tuple(sources)
        self.stft = STFT(n_fft, hop_length)
        self.network = NETWORKS[network](self.stft.bins, latent, width)

    def scale_of(self, waveform):
        """The magnitude that white noise as loud as the waveform has in every bin: (batch, 1, 1, 1), never 0.

        All levels are relative to it, so that a louder mixture gives louder sources and nothing else changes.
        """
        power = waveform.square().mean(dim=(1, 2)) * self.stft.window.square().sum()
        return power.clamp_min(1e-12).sqrt().view(-1, 1, 1, 1)

    def levels_of(self, spectrogram):
        """Complex (..., bins, frames) over its scale -> levels: 0 at FLOOR and below, 1 at FLOOR + RANGE."""
        return (to_decibels(spectrogram.abs(), FLOOR) - FLOOR) / RANGE

    def log_magnitudes(self, levels):
        """The natural logarithms of the magnitudes, over the scale, that levels stand for; of what shape they are."""
        return NEPERS * (levels + FLOOR / RANGE)

    def encode(self, mixture):
        """Levels (batch, 1, bins, frames) -> code_means, code_log_variances, each (batch, 2, *code)."""
        mean1, log_variance1, mean2, log_variance2 = (head.float() for head in self.network.encode(mixture))
        log_variances = torch.stack((log_variance1, log_variance2), dim=1)
        return torch.stack((mean1, mean2), dim=1), log_variances.clamp(-12, 6)

    def describe(self, mixture):
        """Levels of a mixture (batch, 1, bins, frames) -> Description: all that the VAE itself makes of it."""
        code_means, code_log_variances = self.encode(mixture)
        codes = reparameterise(code_means, code_log_variances) if self.training else code_means
        # at first about +8 dB everywhere: a variance that is too small costs far more than one that is too large
        levels = torch.sigmoid(1 + self.network.decode(codes, mixture.shape[-2:]).float())
        levels = LOWEST + (HIGHEST - LOWEST) * levels
        return Description(levels.mean(dim=1, keepdim=True), levels, code_means, code_log_variances)

    def analyse(self, waveform):
        """(batch, 1, time) -> its spectrogram over its scale, complex (batch, 1, bins, frames), and that scale."""
        scale = self.scale_of(waveform)
        return self.stft(waveform) / scale, scale

    def read(self, levels, spectrogram):
        """Levels (batch, 2, bins, frames) -> complex estimates of that shape; see `reading`."""
        if self.reading == "spectrogram":
            magnitude = self.log_magnitudes(levels).exp()
            return torch.polar(magnitude, spectrogram.angle().expand_as(magnitude))
        power = 2 if self.reading == "wiener" else 1
        return torch.softmax(power * self.log_magnitudes(levels), dim=1) * spectrogram  # v_k / (v_1 + v_2), at any size

    def forward(self, waveform):
        """(batch, 1, time) -> (batch, 2, 1, time)."""
        spectrogram, scale = self.analyse(waveform)
        estimates = self.read(self.describe(self.levels_of(spectrogram)).levels, spectrogram)
        return self.stft.inverse(estimates * scale, waveform.shape[-1]).unsqueeze(2)
