"""The band-split model: the separator of today's kind, small enough to be trained on two CPU cores.

In a spectrogram, unlike in a photograph, a pattern at 200 Hz and the same pattern at 7 kHz are different things. So the
spectrum is cut into bands, narrow ones where music is dense and wide ones above, and every band has layers of its own,
which turn its bins into a vector of features (BSRNN: Luo and Yu, 2023). On this smaller picture, bands by frames, the
model looks along time and along the bands in turn, with recurrent or attention layers (attention: BS-RoFormer, Lu et
al., 2023). In the end every band's features become complex masks on its bins, for each source: such a mask also turns
the phase, which one on magnitudes cannot.
"""

import torch
from torch import nn
from torch.nn import functional as F

from helpers.models.audio_model import Analysis, AudioModel, check_choice, run_lstm

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
    """A bidirectional LSTM and a linear layer: the choice of BSRNN. What it learns holds for any length."""

    def __init__(self, features):
        super().__init__()
        self.norm = nn.LayerNorm(features)
        self.lstm = nn.LSTM(features, features, batch_first=True, bidirectional=True)
        self.last = nn.Linear(2 * features, features)

    def forward(self, x):
        """(sequences, length, features) -> the same shape."""
        h, _ = run_lstm(self.lstm, self.norm(x))  # (sequences, length, 2·features)
        return x + self.last(h)


def rotate(x, base=10_000.0):
    """Rotary position embedding (RoPE: Su et al., 2021) of (..., length, features), features even.

    Pairs of features are turned by an angle that grows with the position, so that the product of a query and a key
    depends on how far they are apart, not on where they are.
    """
    length, half = x.shape[-2], x.shape[-1] // 2
    speeds = base ** -(torch.arange(half, device=x.device) / half)
    angles = torch.arange(length, device=x.device)[:, None] * speeds  # (length, half)
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    first, second = x[..., :half], x[..., half:]
    return torch.cat((first * cos - second * sin, first * sin + second * cos), dim=-1)


class Attention(nn.Module):
    """Attention with rotary positions, then two linear layers: the choice of BS-RoFormer.

    Written out: on a CPU in bfloat16 it is twice as fast as torch's own function on sequences as short as these.
    """

    def __init__(self, features, heads=2):
        super().__init__()
        if features % (2 * heads):
            raise ValueError(f"{features} features cannot be shared by {heads} heads in pairs")
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(features), nn.LayerNorm(features)
        self.queries_keys_values = nn.Linear(features, 3 * features, bias=False)
        self.last = nn.Linear(features, features)
        self.up, self.down = nn.Linear(features, 2 * features), nn.Linear(2 * features, features)

    def forward(self, x):
        """(sequences, length, features) -> the same shape."""
        size = x.shape[-1] // self.heads  # features of a head
        queries, keys, values = self.queries_keys_values(self.norm1(x)).chunk(3, dim=-1)
        queries = queries.unflatten(-1, (self.heads, size)).transpose(1, 2)  # (sequences, heads, length, size)
        keys = keys.unflatten(-1, (self.heads, size)).transpose(1, 2)  # the same
        values = values.unflatten(-1, (self.heads, size)).transpose(1, 2)  # the same
        scores = rotate(queries) @ rotate(keys).transpose(-1, -2)  # (sequences, heads, length, length)
        weights = torch.softmax(scores / size**0.5, dim=-1)  # each row adds up to 1
        h = weights.to(values.dtype) @ values  # (sequences, heads, length, size)
        x = x + self.last(h.transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


LAYERS = {"recurrent": Recurrent, "attention": Attention}


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
    """Complex masks from bands.

    Args:
        features: of every band and frame. blocks: pairs of layers, one along time and one along the bands.
        across_time, across_bands: "recurrent" or "attention".
        bands: pairs (up to so many Hz, bands of so many Hz), see band_sizes().
        channels: "each", or "joint" for stereo, whose left and right are looked at together.
        add_up: what the masked mixtures leave over, or have too much, is shared among the sources, so that they add up
            to the mixture: of all changes that do it, the one of least energy. True sources add up, so the squared
            error over all of them can only become smaller.
        settings: AudioModel's.

    Along time, attention is best given chunks as long as those it was trained on; LSTMs take any.
    """

    def __init__(
        self,
        features=64,
        blocks=3,
        across_time="recurrent",
        across_bands="attention",
        bands=SPEECH,
        channels="each",
        add_up=True,
        **settings,
    ):
        super().__init__(**settings)
        self.arguments |= {
            "features": features, "blocks": blocks, "across_time": across_time, "across_bands": across_bands,
            "bands": [list(pair) for pair in bands], "channels": channels, "add_up": add_up,
        }  # fmt: skip
        check_choice("layer", across_time, LAYERS)
        check_choice("layer", across_bands, LAYERS)
        self.channels, self.add_up = channels, add_up
        sides = {"each": 1, "joint": 2}[channels]
        sizes = band_sizes(self.stft.bins, self.sample_rate, bands)
        self.split = BandSplit(sizes, 3 * sides, features)
        self.across_time = nn.ModuleList(LAYERS[across_time](features) for _ in range(blocks))
        self.across_bands = nn.ModuleList(LAYERS[across_bands](features) for _ in range(blocks))
        self.masks = MaskEstimator(sizes, 2 * sides * len(self.sources), features)

    def masks_of(self, spectrogram):
        """Complex (batch, channels, bins, frames), over its scale -> (batch, sources, channels, bins, frames)."""
        magnitude = spectrogram.abs().clamp_min(1e-4)
        loudness = magnitude**0.3  # power-law compression: a range of 60 dB becomes one of 18
        direction = spectrogram / magnitude * loudness
        values = torch.cat((direction.real, direction.imag, loudness), dim=1)  # (batch, 3·channels, bins, frames)
        h = self.split(values.permute(0, 3, 2, 1))  # (batch, bands, frames, features)
        bands, frames = h.shape[1:3]
        for across_time, across_bands in zip(self.across_time, self.across_bands, strict=True):
            h = across_time(h.flatten(0, 1))  # (batch · bands, frames, features)
            h = h.unflatten(0, (-1, bands)).transpose(1, 2)  # (batch, frames, bands, features)
            h = across_bands(h.flatten(0, 1))  # (batch · frames, bands, features)
            h = h.unflatten(0, (-1, frames)).transpose(1, 2)  # (batch, bands, frames, features)
        masks = self.masks(h).float()  # (batch, frames, bins, sources · channels · 2)
        masks = masks.unflatten(-1, (len(self.sources), -1, 2))  # (batch, frames, bins, sources, channels, 2)
        masks = masks.permute(0, 3, 4, 2, 1, 5)  # (batch, sources, channels, bins, frames, 2)
        return torch.view_as_complex(masks.contiguous())

    def analyse(self, waveform):
        """(batch, channels, time) -> Analysis, with complex masks."""
        spectrogram, scale = self.scaled_stft(waveform)
        masks = self.masks_of(spectrogram)
        if self.add_up:
            masks = masks + (1 - masks.sum(1, keepdim=True)) / len(self.sources)
        estimates = masks * spectrogram.unsqueeze(1)  # (batch, sources, channels, bins, frames)
        return Analysis(spectrogram, scale, estimates, estimates.abs(), masks)
