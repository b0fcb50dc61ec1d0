"""The Wave-U-Net: waveforms in, waveforms out, no spectrogram between (Stoller, Ewert and Dixon, 2018)."""

import torch
from torch import nn
from torch.nn import functional as F

from helpers.models.audio_model import VOICE, AudioModel


def interpolated(x):
    """(batch, channels, time) -> (batch, channels, 2·time): x at the even samples, the means of neighbours between.

    The last sample is repeated. Nothing is shifted against the skip connection, which lost every other sample.
    """
    between = (x + torch.cat((x[..., 1:], x[..., -1:]), dim=-1)) / 2
    return torch.stack((x, between), dim=-1).flatten(-2)


def convolution(inputs, outputs, size):
    """Convolution of odd size with leaky ReLU, as long as its input."""
    return nn.Sequential(nn.Conv1d(inputs, outputs, size, padding=size // 2), nn.LeakyReLU(0.2))


class WaveUNet(AudioModel):
    """Separates waveforms at several time scales.

    On the way down, each level is a convolution, of which every other sample is kept; on the way up, a linear
    interpolation, the output of the same scale beside it, and a convolution. The last source is the mixture less the
    others (the paper's difference output). Outputs are not confined to [-1, 1], as by the paper's tanh.

    Args:
        levels: times that the rate is halved, 12 in the paper; each doubles how far the network sees.
        width: channels are width · level, 24 in the paper.
        down, up: odd sizes of the convolutions on both ways.
        channels: "each", every channel of a recording by itself, as all models here; checkpoints name it.
        sample_rate: in Hz. sources: names of what it gives, in order; the last one is the rest.
    """

    def __init__(self, levels=12, width=24, down=15, up=5, channels="each", sample_rate=22_050, sources=VOICE):
        super().__init__(sample_rate, None, None, sources)
        self.arguments |= {"levels": levels, "width": width, "down": down, "up": up, "channels": channels}
        self.levels = levels
        widths = [width * (level + 1) for level in range(levels)]
        inputs = [1, *widths[:-1]]
        self.down = nn.ModuleList(convolution(*sizes, down) for sizes in zip(inputs, widths, strict=True))
        self.centre = convolution(widths[-1], width * (levels + 1), down)
        self.up = nn.ModuleList(
            convolution(width * (level + 2) + widths[level], widths[level], up) for level in reversed(range(levels))
        )
        self.last = nn.Conv1d(width + 1, len(sources) - 1, 1)

    def forward(self, waveform):
        """(batch, channels, time) -> (batch, sources, channels, time)."""
        mixture, level = self.normalise(waveform)
        length = mixture.shape[-1]
        padded = F.pad(mixture, (0, -length % 2**self.levels))
        h, skips = padded, []
        for layer in self.down:
            skips.append(layer(h))  # (batch, width · level, time / 2^(level - 1))
            h = skips[-1][..., ::2]
        h = self.centre(h)
        for layer in self.up:
            h = layer(torch.cat((interpolated(h), skips.pop()), dim=1))
        h = self.last(torch.cat((h, padded), dim=1))[..., :length].float()
        others = h.unflatten(1, (len(self.sources) - 1, -1))  # (batch, sources - 1, channels, time)
        rest = mixture.unsqueeze(1) - others.sum(1, keepdim=True)
        return torch.cat((others, rest), dim=1) * level.unsqueeze(1)
