"""A U-Net whose stages also look along all frequencies at once; notebook 02's best VAE has the same body."""

import torch
from torch import nn
from torch.nn import functional as F

from helpers.models.audio_model import AudioModel
from helpers.stft import to_decibels

FLOOR, RANGE = -60.0, 80.0  # dB over white noise as loud: what the network reads as 0, and from there to 1


def levels_of(spectrogram):
    """(..., bins, frames) over its scale, complex or magnitudes -> levels: 0 at FLOOR, 1 at FLOOR + RANGE decibels."""
    return (to_decibels(spectrogram.abs(), FLOOR) - FLOOR) / RANGE


def convolution(inputs, outputs):
    """3×3 convolution, batch normalisation and ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


class AcrossFrequency(nn.Module):
    """Two fully connected layers along the bins of every frame, added to the input (Choi et al., 2020).

    So a harmonic is seen together with those at all other bins, which small kernels do not reach.
    """

    def __init__(self, channels, bins):
        super().__init__()
        hidden = max(16, bins // 8)
        self.down, self.norm1 = nn.Linear(bins, hidden, bias=False), nn.BatchNorm2d(channels)
        self.up, self.norm2 = nn.Linear(hidden, bins, bias=False), nn.BatchNorm2d(channels)

    def forward(self, x):
        """(batch, channels, bins, frames) -> the same shape."""
        h = self.down(x.transpose(2, 3))  # (batch, channels, frames, hidden)
        h = self.up(F.relu(self.norm1(h)))  # (batch, channels, frames, bins)
        return x + F.relu(self.norm2(h)).transpose(2, 3)


class Stage(nn.Module):
    """Two convolutions, the second around a shortcut, and fully connected layers along frequency."""

    def __init__(self, inputs, outputs, bins):
        super().__init__()
        self.enter, self.body = convolution(inputs, outputs), convolution(outputs, outputs)
        self.across = AcrossFrequency(outputs, bins)

    def forward(self, x):
        """(batch, inputs, bins, frames) -> (batch, outputs, bins, frames)."""
        x = self.enter(x)
        return self.across(x + self.body(x))


class DeepBody(nn.Module):
    """The levels of a mixture in, `width` features for every frame and every four bins out.

    Four bands are stacked as channels, which costs a quarter of the computing (Liu et al., 2020). Stages go down to an
    eighth of the size, to see a second of music at once, and back up to keep the detail.
    """

    bands, scales = 4, 4

    def __init__(self, bins, width):
        super().__init__()
        self.bins = bins - bins % (self.bands * 2 ** (self.scales - 1))  # whole() adds the few highest again
        channels = [width * (scale + 1) for scale in range(self.scales)]
        heights = [self.bins // self.bands // 2**scale for scale in range(self.scales)]
        inputs = [self.bands, *channels[:-1]]
        self.down = nn.ModuleList(Stage(*sizes) for sizes in zip(inputs, channels, heights, strict=True))
        self.up = nn.ModuleList(
            Stage(channels[scale] + channels[scale + 1], channels[scale], heights[scale])
            for scale in reversed(range(self.scales - 1))
        )

    def features(self, levels):
        """(batch, 1, bins, frames) -> (batch, width, bins/4, frames), frames filled up to a multiple of 8."""
        levels = F.pad(levels[:, :, : self.bins], (0, -levels.shape[-1] % 2 ** (self.scales - 1)))
        h = levels.squeeze(1).unflatten(1, (self.bands, -1))  # (batch, bands, bins/4, frames)
        skips = []
        for scale, stage in enumerate(self.down):
            h = stage(F.max_pool2d(h, 2) if scale else h)  # (batch, width · (scale + 1), bins/4/2^scale, ...)
            skips.append(h)
        for stage, skip in zip(self.up, skips[-2::-1], strict=True):
            h = stage(torch.cat((F.interpolate(h, scale_factor=2), skip), dim=1))
        return h

    def whole(self, values, shape):
        """(batch, k, bands, bins/4, frames) -> (batch, k, *shape): all bins again, and as many frames as there were."""
        bins, frames = shape
        values = values.flatten(2, 3)[..., :frames]  # (batch, k, bins of all bands, frames)
        highest = values[:, :, -1:].expand(-1, -1, bins - self.bins, -1)  # repeated for the few bins left out
        return torch.cat((values, highest), dim=2)


class DeepUNet(AudioModel):
    """Masks by a DeepBody and a softmax over the sources, which add up to 1: the estimates add up to the mixture.

    width: channels at the finest scale. settings: AudioModel's.
    """

    def __init__(self, width=32, **settings):
        super().__init__(**settings)
        self.arguments["width"] = width
        self.body = DeepBody(self.stft.bins, width)
        self.last = nn.Sequential(convolution(width, width), nn.Conv2d(width, len(self.sources) * DeepBody.bands, 1))

    def masks(self, mixture):
        """Magnitudes (batch, 1, bins, frames) -> masks (batch, sources, bins, frames)."""
        h = self.last(self.body.features(levels_of(mixture)))  # (batch, sources · bands, bins/4, frames)
        h = self.body.whole(h.unflatten(1, (len(self.sources), -1)), mixture.shape[-2:])
        return torch.softmax(h.float(), dim=1)
