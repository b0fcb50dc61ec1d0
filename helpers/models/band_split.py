"""The band-split model (BSRNN: Luo and Yu, 2023), small enough to be trained on two CPU cores.

In a spectrogram, unlike in a photograph, a pattern at 200 Hz and the same pattern at 7 kHz are different things. So the
spectrum is cut into bands, narrow ones where music is dense, and every band has layers of its own. Between these, LSTMs
look along time and along the bands in turn. The masks are complex: they also turn the phase.
"""

import torch
from torch import nn
from torch.nn import functional as F

from helpers.models.audio_model import Analysis, AudioModel, run_lstm

SPEECH = ((1000, 125), (4000, 375), (8000, 1000))  # up to so many Hz, bands of so many Hz; for 16 kHz: 20 bands


def band_sizes(bins, sample_rate, bands):
    """Return how many bins each band has, from 0 Hz up; they add up to `bins`.

    bands: pairs (up to so many Hz, bands of so many Hz), rising. Bins above the last pair make one more band, and one
    that gets less than a bin is left out.
    """
    edges, start = [], 0.0  # in Hz
    for end, width in bands:
        count = max(1, round((end - start) / width))
        edges += [start + (end - start) * (number + 1) / count for number in range(count)]
        start = end
    spacing = sample_rate / (2 * (bins - 1))  # in Hz, from one bin to the next
    inner = [min(bins, round(edge / spacing)) for edge in edges if edge < sample_rate / 2]
    borders = [0, *inner, bins]
    return [stop - start for start, stop in zip(borders, borders[1:], strict=False) if stop > start]


class Recurrent(nn.Module):
    """A bidirectional LSTM and a linear layer, added to the input."""

    def __init__(self, features):
        super().__init__()
        self.norm = nn.LayerNorm(features)
        self.lstm = nn.LSTM(features, features, batch_first=True, bidirectional=True)
        self.last = nn.Linear(2 * features, features)

    def forward(self, x):
        """(sequences, length, features) -> the same shape."""
        h, _ = run_lstm(self.lstm, self.norm(x))  # (sequences, length, 2·features)
        return x + self.last(h)


class BandSplit(nn.Module):
    """One linear layer and norm per band, from the values of its bins to its features."""

    def __init__(self, sizes, values, features):
        super().__init__()
        self.sizes = sizes
        self.linears = nn.ModuleList(nn.Linear(size * values, features) for size in sizes)
        self.norms = nn.ModuleList(nn.LayerNorm(features) for _ in sizes)

    def forward(self, x):
        """(batch, frames, bins, values) -> (batch, bands, frames, features)."""
        features = []
        for linear, norm, band in zip(self.linears, self.norms, x.split(self.sizes, dim=2), strict=True):
            features.append(norm(linear(band.flatten(2))))  # (batch, frames, features)
        return torch.stack(features, dim=1)


class MaskEstimator(nn.Module):
    """Two layers per band, from its features to the values of its bins; the second is gated, as in BSRNN."""

    def __init__(self, sizes, values, features):
        super().__init__()
        self.values = values
        self.norms = nn.ModuleList(nn.LayerNorm(features) for _ in sizes)
        self.hidden = nn.ModuleList(nn.Linear(features, 2 * features) for _ in sizes)
        self.last = nn.ModuleList(nn.Linear(2 * features, 2 * size * values) for size in sizes)

    def forward(self, x):
        """(batch, bands, frames, features) -> (batch, frames, bins, values)."""
        masks = []
        for norm, hidden, last, band in zip(self.norms, self.hidden, self.last, x.unbind(1), strict=True):
            h = torch.tanh(hidden(norm(band)))  # (batch, frames, 2·features)
            masks.append(F.glu(last(h)))  # (batch, frames, bins of the band · values)
        return torch.cat(masks, dim=-1).unflatten(-1, (-1, self.values))


class BandSplitModel(AudioModel):
    """Complex masks from bands, which add up to one: the estimates add up to the mixture.

    Args:
        features: of every band and frame. blocks: pairs of LSTMs, one along time and one along the bands.
        bands: pairs (up to so many Hz, bands of so many Hz), see band_sizes().
        across_time, across_bands, channels, add_up: as they are. Checkpoints name them, from when there was a choice.
        settings: AudioModel's.
    """

    def __init__(
        self, features=64, blocks=3, across_time="recurrent", across_bands="recurrent", bands=SPEECH, channels="each",
        add_up=True, **settings,
    ):  # fmt: skip
        super().__init__(**settings)
        self.arguments |= {
            "features": features, "blocks": blocks, "across_time": across_time, "across_bands": across_bands,
            "bands": [list(pair) for pair in bands], "channels": channels, "add_up": add_up,
        }  # fmt: skip
        if (across_time, across_bands, channels, add_up) != ("recurrent", "recurrent", "each", True):
            raise ValueError(f"no such band-split model any more, take a newer checkpoint: {self.arguments}")
        sizes = band_sizes(self.stft.bins, self.sample_rate, bands)
        self.split = BandSplit(sizes, 3, features)
        self.across_time = nn.ModuleList(Recurrent(features) for _ in range(blocks))
        self.across_bands = nn.ModuleList(Recurrent(features) for _ in range(blocks))
        self.masks = MaskEstimator(sizes, 2 * len(self.sources), features)

    def analyse(self, waveform):
        """(batch, 1, time) -> Analysis, with complex masks."""
        spectrogram, scale = self.scaled_stft(waveform)  # complex (batch, 1, bins, frames)
        magnitude = spectrogram.abs().clamp_min(1e-4)
        loudness = magnitude**0.3  # power-law compression: a range of 60 dB becomes one of 18
        direction = spectrogram / magnitude * loudness
        values = torch.cat((direction.real, direction.imag, loudness), dim=1)  # (batch, 3, bins, frames)
        h = self.split(values.permute(0, 3, 2, 1))  # (batch, bands, frames, features)
        bands, frames = h.shape[1:3]
        for across_time, across_bands in zip(self.across_time, self.across_bands, strict=True):
            h = across_time(h.flatten(0, 1))  # (batch · bands, frames, features)
            h = h.unflatten(0, (-1, bands)).transpose(1, 2)  # (batch, frames, bands, features)
            h = across_bands(h.flatten(0, 1))  # (batch · frames, bands, features)
            h = h.unflatten(0, (-1, frames)).transpose(1, 2)  # (batch, bands, frames, features)
        masks = self.masks(h).float()  # (batch, frames, bins, sources · 2)
        masks = masks.unflatten(-1, (len(self.sources), 1, 2)).permute(0, 3, 4, 2, 1, 5).contiguous()
        masks = torch.view_as_complex(masks)  # (batch, sources, 1, bins, frames)
        masks = masks + (1 - masks.sum(1, keepdim=True)) / len(self.sources)  # the least change that makes their sum 1
        estimates = masks * spectrogram.unsqueeze(1)  # (batch, sources, 1, bins, frames)
        return Analysis(spectrogram, scale, estimates, estimates.abs(), masks)
