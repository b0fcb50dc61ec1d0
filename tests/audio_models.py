"""Audio models that need no training: what they must give is known."""

import torch
from torch import nn

from helpers import models


class Identity(nn.Module):
    """Every source is a known part of the mixture."""

    def __init__(self, sample_rate=8000, sources=("vocals", "accompaniment"), channels="each", parts=(0.75, 0.25)):
        super().__init__()
        self.arguments = {
            "sample_rate": sample_rate, "sources": list(sources), "channels": channels, "parts": list(parts),
        }  # fmt: skip
        self.sample_rate, self.sources, self.channels = sample_rate, tuple(sources), channels
        self.parts = nn.Parameter(torch.tensor(parts))
        self.seen = []  # shapes of the batches

    def forward(self, batch):
        self.seen.append(tuple(batch.shape))
        return batch.unsqueeze(1) * self.parts[:, None, None]


class SwapSides(Identity):
    """The first source is the mixture with left and right exchanged, the second the mixture."""

    def forward(self, batch):
        return torch.stack([batch.flip(1), batch], dim=1)


class Broken(Identity):
    """Gives NaN."""

    def forward(self, batch):
        return super().forward(batch) * torch.nan


def register(monkeypatch):
    """Let checkpoints name these models."""
    for model in (Identity, SwapSides, Broken):
        monkeypatch.setitem(models.ARCHITECTURES, model.__name__, model)


def noise(channels, frames, seed=0, level=0.1):
    """Return white noise (channels, frames) that does not clip."""
    return level * torch.randn(channels, frames, generator=torch.Generator().manual_seed(seed)).clamp(-3, 3)
