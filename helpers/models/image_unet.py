"""The U-Net of images: the supervised reference that the VAE is measured against."""

import torch
from torch import nn
from torch.nn import functional as F


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions with batch normalisation, added to their own input (He et al., 2016)."""

    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(out_channels)
        same = in_channels == out_channels
        self.shortcut = nn.Identity() if same else nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x):
        """(batch, in_channels, height, width) -> (batch, out_channels, height, width)."""
        h = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.shortcut(x) + self.norm2(self.conv2(h)))


def residual_stage(in_channels, out_channels, blocks):
    """Return `blocks` residual blocks in a row; the first one changes the number of channels."""
    rest = [ResidualBlock(out_channels, out_channels) for _ in range(blocks - 1)]
    return nn.Sequential(ResidualBlock(in_channels, out_channels), *rest)


def feasible_interval(mixture):
    """Return (low, high), what a source in [0, 1] can be at each pixel of `mixture` x = (a + b) / 2: a = 2x - b."""
    return (2 * mixture - 1).clamp(min=0), (2 * mixture).clamp(max=1)


def clip_to_feasible(mixture, sources):
    """Move both sources, (batch, 2, height, width), to the nearest pair that adds up to 2x and lies in [0, 1]."""
    low, high = feasible_interval(mixture)
    first = sources[:, :1] + mixture - sources.mean(dim=1, keepdim=True)  # half of what is missing; none if they add up
    first = first.clamp(low, high)
    return torch.cat((first, 2 * mixture - first), dim=1)


class ImageUNet(nn.Module):
    """Separate x = (a + b) / 2 into a and b (U-Net: Ronneberger, Fischer and Brox, 2015).

    The last layer gives where the first source lies between the ends of its feasible interval. The second one is what
    remains, so that both add up to the mixture.

    channels: channels at each scale, finest first; each further scale halves height and width. blocks: residual blocks
    at each scale, on the way down and again on the way up. feasible: False gives the plain U-Net, two free outputs.
    """

    def __init__(self, channels=(32, 64, 128), blocks=(1, 1, 2), feasible=True):
        super().__init__()
        self.arguments = {"channels": list(channels), "blocks": list(blocks), "feasible": feasible}
        self.feasible = feasible
        inputs = (1, *channels[:-1])
        self.down = nn.ModuleList(residual_stage(*sizes) for sizes in zip(inputs, channels, blocks, strict=True))
        self.narrow, self.up = nn.ModuleList(), nn.ModuleList()
        for level in reversed(range(len(channels) - 1)):
            width = channels[level]
            self.narrow.append(nn.Conv2d(channels[level + 1], width, 1))
            self.up.append(residual_stage(2 * width, width, blocks[level]))
        self.head = nn.Conv2d(channels[0], 1 if feasible else 2, 1)

    def forward(self, mixture):
        """(batch, 1, height, width) in [0, 1] -> both sources (batch, 2, height, width), in [0, 1]."""
        h, skips = mixture, []
        for level, stage in enumerate(self.down):
            h = stage(F.max_pool2d(h, 2) if level else h)  # (batch, channels[level], height / 2^level, ...)
            skips.append(h)
        for narrow, stage, skip in zip(self.narrow, self.up, skips[-2::-1], strict=True):
            h = F.interpolate(narrow(h), scale_factor=2, mode="nearest")
            h = stage(torch.cat((h, skip), dim=1))
        fraction = torch.sigmoid(self.head(h).float())
        if not self.feasible:
            return fraction
        low, high = feasible_interval(mixture)
        first = low + (high - low) * fraction
        return torch.cat((first, 2 * mixture - first), dim=1)
