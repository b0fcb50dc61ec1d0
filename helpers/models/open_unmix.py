"""Open-Unmix's architecture: three bidirectional LSTM layers on magnitudes give a mask (Stöter et al., 2019).

Unlike in the package, spectrograms are over the segment's level, and the shift and scale of every bin begin at 0
and 1 instead of the training set's statistics.
"""

import torch
from torch import nn

from helpers.models.audio_model import AudioModel, new_lstm, run_lstm

HIGHEST = 16_000  # Hz: what lies above is not looked at, only masked


class Unmixer(nn.Module):
    """The network of one source: magnitudes in, its mask out."""

    def __init__(self, bins, seen, hidden, layers, dropout):
        super().__init__()
        self.seen = seen
        self.shift, self.scale = nn.Parameter(torch.zeros(seen)), nn.Parameter(torch.ones(seen))
        self.enter, self.norm = nn.Linear(seen, hidden, bias=False), nn.BatchNorm1d(hidden)
        self.lstm = new_lstm(hidden, hidden // 2, layers, bidirectional=True, dropout=dropout)
        self.fuse, self.fused_norm = nn.Linear(2 * hidden, hidden, bias=False), nn.BatchNorm1d(hidden)
        self.leave, self.last_norm = nn.Linear(hidden, bins, bias=False), nn.BatchNorm1d(bins)
        self.last_scale, self.last_shift = nn.Parameter(torch.ones(bins)), nn.Parameter(torch.ones(bins))

    def forward(self, magnitudes):
        """(batch, 1, bins, frames) -> (batch, bins, frames), not negative, not confined to 1."""
        frames = magnitudes[:, 0, : self.seen].transpose(1, 2)  # (batch, frames, seen)
        h = torch.tanh(over_features(self.norm, self.enter((frames + self.shift) * self.scale)))
        remembered, _ = run_lstm(self.lstm, h)  # (batch, frames, hidden)
        h = torch.relu(over_features(self.fused_norm, self.fuse(torch.cat((h, remembered), dim=-1))))
        masks = over_features(self.last_norm, self.leave(h)).float() * self.last_scale + self.last_shift
        return torch.relu(masks).transpose(1, 2)


def over_features(norm, frames):
    """Apply a BatchNorm1d to (batch, frames, features)."""
    return norm(frames.transpose(1, 2)).transpose(1, 2)


class OpenUnmix(AudioModel):
    """A network for every source.

    hidden: width of all layers, even; 512 in the package. layers: of the LSTM. dropout: between these. settings:
    AudioModel's.
    """

    def __init__(self, hidden=512, layers=3, dropout=0.4, **settings):
        super().__init__(**settings)
        self.arguments |= {"hidden": hidden, "layers": layers, "dropout": dropout}
        seen = min(self.stft.bins, round(HIGHEST / self.sample_rate * self.stft.n_fft) + 1)
        self.networks = nn.ModuleList(Unmixer(self.stft.bins, seen, hidden, layers, dropout) for _ in self.sources)

    def masks(self, mixture):
        """Magnitudes (batch, 1, bins, frames) -> masks (batch, sources, bins, frames), not negative."""
        return torch.stack([network(mixture) for network in self.networks], dim=1)
