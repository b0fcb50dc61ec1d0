"""A U-Net whose stages also look along all frequencies at once: a lot of network for few parameters.

DeepUNet is the plain form, masks on a mixture; notebook 02's best VAE has the same body (helpers.models.music_vae).
"""

import torch
from torch import nn
from torch.nn import functional as F

from helpers.stft import STFT, to_decibels

FLOOR, RANGE = -60.0, 80.0  # dB over the loudness: what the network reads as 0, and from there to 1


def convolution(inputs, outputs):
    """3×3 convolution, batch normalisation and ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


class AcrossFrequency(nn.Module):
    """Two fully connected layers along the bins of every frame, added to the input (Choi et al., 2020).

    A harmonic at one bin is heard together with those at all others, which small kernels do not reach.
    """

    def __init__(self, channels, bins, reduction=8):
        super().__init__()
        hidden = max(16, bins // reduction)
        self.down, self.norm1 = nn.Linear(bins, hidden, bias=False), nn.BatchNorm2d(channels)
        self.up, self.norm2 = nn.Linear(hidden, bins, bias=False), nn.BatchNorm2d(channels)

    def forward(self, x):
        """(batch, channels, bins, frames) -> the same shape."""
        h = F.relu(self.norm1(self.down(x.transpose(2, 3))))
        return x + F.relu(self.norm2(self.up(h))).transpose(2, 3)


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

    The spectrum is cut into four bands which are stacked as channels: a quarter of the bins costs a quarter of the
    computing (Liu et al., 2020). Stages go down to an eighth of the size, to see the whole, a second of music at once,
    and back up to keep the detail.
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

    def features(self, mixture):
        """(batch, 1, bins, frames) -> (batch, width, bins/4, frames), frames filled up to a multiple of 8."""
        mixture = mixture[:, :, : self.bins]
        mixture = F.pad(mixture, (0, -mixture.shape[-1] % 2 ** (self.scales - 1)))
        h, skips = mixture.reshape(len(mixture), self.bands, -1, mixture.shape[-1]), []
        for scale, stage in enumerate(self.down):
            h = stage(F.max_pool2d(h, 2) if scale else h)
            skips.append(h)
        for stage, skip in zip(self.up, skips[-2::-1], strict=True):
            h = stage(torch.cat((F.interpolate(h, scale_factor=2), skip), dim=1))
        return h

    def whole(self, values, shape):
        """(batch, k, bands, bins/4, frames) -> (batch, k, *shape): all bins again, and as many frames as there were."""
        values = values.flatten(2, 3)[..., : shape[1]]  # (batch, k, bins of all bands, frames)
        return F.pad(values, (0, 0, 0, shape[0] - self.bins), mode="replicate")


class DeepUNet(nn.Module):
    """Masks on the mixture's spectrogram by a DeepBody, a softmax over the sources; an audio model.

    The masks lie between 0 and 1 and add up to 1, so the estimates add up to the mixture.

    Args:
        width: channels at the finest scale. sample_rate: in Hz. n_fft, hop_length: of the STFT, in samples.
        sources: names of what the masks give, in order.
    """

    channels = "each"

    def __init__(self, width=32, sample_rate=16_000, n_fft=1024, hop_length=256, sources=("vocals", "accompaniment")):
        super().__init__()
        self.arguments = {
            "width": width, "sample_rate": sample_rate, "n_fft": n_fft, "hop_length": hop_length,
            "sources": list(sources),
        }  # fmt: skip
        self.sample_rate, self.sources = sample_rate, tuple(sources)
        self.stft = STFT(n_fft, hop_length)
        self.body = DeepBody(self.stft.bins, width)
        self.last = nn.Sequential(convolution(width, width), nn.Conv2d(width, len(sources) * DeepBody.bands, 1))

    def masks(self, spectrogram):
        """Complex (batch, 1, bins, frames), in units of its loudness -> masks (batch, sources, bins, frames)."""
        levels = (to_decibels(spectrogram.abs(), FLOOR) - FLOOR) / RANGE
        h = self.last(self.body.features(levels)).unflatten(1, (len(self.sources), -1))
        return torch.softmax(self.body.whole(h, levels.shape[-2:]).float(), dim=1)

    def forward(self, waveform):
        """(batch, 1, time) -> (batch, sources, 1, time)."""
        power = waveform.square().mean(dim=(1, 2)) * self.stft.window.square().sum()
        scale = power.clamp_min(1e-12).sqrt().view(-1, 1, 1, 1)  # the magnitude of white noise as loud
        spectrogram = self.stft(waveform)
        estimates = self.masks(spectrogram / scale) * spectrogram
        return self.stft.inverse(estimates, waveform.shape[-1]).unsqueeze(2)
