"""The Wave-U-Net: waveforms in, waveforms out, no spectrogram between (Stoller, Ewert and Dixon, 2018)."""

import torch
from torch import nn
from torch.nn import functional as F


def interpolated(x):
    """(batch, channels, time) -> (batch, channels, 2·time): x at the even samples, the means of neighbours between.

    The last sample, which has no right neighbour, is repeated. Sample 2i stays sample i of `x`: nothing is shifted
    against the skip connection, which was halved by taking every other sample.
    """
    between = (x + torch.cat((x[..., 1:], x[..., -1:]), dim=-1)) / 2
    return torch.stack((x, between), dim=-1).flatten(-2)


def convolution(inputs, outputs, size):
    """Convolution of odd size with leaky ReLU, as long as its input."""
    return nn.Sequential(nn.Conv1d(inputs, outputs, size, padding=size // 2), nn.LeakyReLU(0.2))


class WaveUNet(nn.Module):
    """Separates waveforms at several time scales; an audio model (helpers.separation.networks).

    On the way down, each level is a convolution, of which every other sample is kept. On the way up, each is a linear
    interpolation, the output of the same scale from the way down beside it, and a convolution. The last layer sees the
    mixture itself, gives all sources but the last, and the last one is the mixture less the others (the paper's
    difference output): the sources add up.

    Any length will do. The mixture is followed by silence up to a multiple of 2^levels samples, as the convolutions
    are surrounded by it, and the estimates are cropped to its length. (The paper's other variant computes the middle of
    a longer mixture only; here the overlap of a ModelSeparator's chunks does that.)

    The mixture is brought to a loudness (RMS) of 1 and the estimates back, so that its level makes no difference; so
    the outputs are not confined to [-1, 1], as by the paper's tanh.

    Args:
        levels: times that the rate is halved, 12 in the paper; each doubles what the network hears at once.
        width: channels are width · level, 24 in the paper.
        down, up: odd sizes of the convolutions on both ways, 15 and 5 in the paper.
        channels: "each", or "joint" for stereo, whose left and right are looked at together.
        sample_rate: in Hz.
        sources: names of what it gives, in order; the last one is the rest.
    """

    def __init__(
        self,
        levels=12,
        width=24,
        down=15,
        up=5,
        channels="each",
        sample_rate=22_050,
        sources=("vocals", "accompaniment"),
    ):
        super().__init__()
        self.arguments = {
            "levels": levels, "width": width, "down": down, "up": up, "channels": channels, "sample_rate": sample_rate,
            "sources": list(sources),
        }  # fmt: skip
        if down % 2 == 0 or up % 2 == 0:
            raise ValueError(f"convolutions need odd sizes to be centred on their sample, got {down} and {up}")
        self.channels, self.sample_rate, self.sources, self.levels = channels, sample_rate, tuple(sources), levels
        sides = {"each": 1, "joint": 2}[channels]
        widths = [width * (level + 1) for level in range(levels)]
        self.down = nn.ModuleList(
            convolution(inputs, outputs, down) for inputs, outputs in zip([sides, *widths], widths, strict=False)
        )
        self.centre = convolution(widths[-1], width * (levels + 1), down)
        self.up = nn.ModuleList(
            convolution(width * (level + 2) + widths[level], widths[level], up) for level in reversed(range(levels))
        )
        self.last = nn.Conv1d(width + sides, (len(sources) - 1) * sides, 1)

    def forward(self, waveform):
        """(batch, channels, time) -> (batch, sources, channels, time)."""
        loudness = waveform.square().mean(dim=(1, 2), keepdim=True).clamp_min(1e-12).sqrt()  # (batch, 1, 1)
        mixture = F.pad(waveform / loudness, (0, -waveform.shape[-1] % 2**self.levels))
        h, skips = mixture, []
        for layer in self.down:
            skips.append(layer(h))  # (batch, width · level, time / 2^(level - 1))
            h = skips[-1][..., ::2]
        h = self.centre(h)
        for layer in self.up:
            h = layer(torch.cat((interpolated(h), skips.pop()), dim=1))
        h = self.last(torch.cat((h, mixture), dim=1)).float()
        h = h[..., : waveform.shape[-1]] * loudness
        others = h.unflatten(1, (len(self.sources) - 1, -1))  # (batch, sources - 1, channels, time)
        return torch.cat((others, waveform.unsqueeze(1) - others.sum(1, keepdim=True)), dim=1)
