"""The band-split model: the separator of today's kind, small enough to be trained on two CPU cores.

A spectrogram is no photograph: what 200 Hz looks like says little of what 7 kHz does. So the spectrum is cut into
bands, narrow ones where music is dense and wide ones above, and every band has layers of its own, which turn its bins
into a vector of features (BSRNN: Luo and Yu, 2023). From then on the picture is small, bands by frames, and the model
looks along time and along the bands in turn, with recurrent, convolutional or attention layers (attention: BS-RoFormer,
Lu et al., 2023). In the end every band's features become complex masks on its bins, for each source: such a mask also
turns the phase, which one on magnitudes cannot.
"""

import torch
from torch import nn
from torch.nn import functional as F

from helpers.stft import STFT

SPEECH = ((1000, 125), (4000, 375), (8000, 1000))  # up to so many Hz, bands of so many Hz; for 16 kHz: 20 bands
MUSIC = ((1000, 100), (4000, 250), (8000, 500), (16_000, 1000), (20_000, 2000), (22_050, 2050))  # 41 bands, as BSRNN's


def band_sizes(bins, sample_rate, bands):
    """Return how many bins each band has, from 0 Hz up; they add up to `bins`.

    bands: pairs (up to so many Hz, bands of so many Hz), rising. Bins above the last pair make one more band, and one
    that gets less than a bin is left out.
    """
    edges, start = [], 0.0
    for end, width in bands:
        count = max(1, round((end - start) / width))
        edges += [start + (end - start) * (number + 1) / count for number in range(count)]
        start = end
    hertz = sample_rate / (2 * (bins - 1))  # from one bin to the next
    edges = [0, *(min(bins, round(edge / hertz)) for edge in edges if edge < sample_rate / 2), bins]
    return [stop - start for start, stop in zip(edges, edges[1:], strict=False) if stop > start]


# ---- layers along one axis: (sequences, length, features) -> the same, added to their input ----------------------


class Recurrent(nn.Module):
    """A bidirectional LSTM and a linear layer: the choice of BSRNN. What it learns holds for any length."""

    def __init__(self, features):
        super().__init__()
        self.norm = nn.LayerNorm(features)
        self.lstm = nn.LSTM(features, features, batch_first=True, bidirectional=True)
        self.last = nn.Linear(2 * features, features)

    def forward(self, x):
        return x + self.last(self.lstm(self.norm(x))[0])


class Convolution(nn.Module):
    """Each feature's own convolution over 7 places, then two linear layers (ConvNeXt: Liu et al., 2022)."""

    def __init__(self, features, dilation=1):
        super().__init__()
        self.along = nn.Conv1d(features, features, 7, padding=3 * dilation, dilation=dilation, groups=features)
        self.norm = nn.LayerNorm(features)
        self.up, self.down = nn.Linear(features, 2 * features), nn.Linear(2 * features, features)

    def forward(self, x):
        h = self.norm(self.along(x.transpose(1, 2)).transpose(1, 2))
        return x + self.down(F.gelu(self.up(h)))


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

    Written out, for on a CPU in bfloat16 it is twice as fast as torch's own function on sequences as short as these.
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
        h = self.queries_keys_values(self.norm1(x))  # (sequences, length, 3·features)
        queries, keys, values = h.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (..., heads, length, f)
        products = rotate(queries) @ rotate(keys).transpose(-1, -2) * queries.shape[-1] ** -0.5
        weights = products.softmax(-1).to(values.dtype)  # (sequences, heads, length, length), each row adds up to 1
        x = x + self.last((weights @ values).transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


def layer(kind, features, depth):
    """Return the layer along one axis for the block of number `depth`."""
    if kind == "recurrent":
        return Recurrent(features)
    if kind == "convolution":
        return Convolution(features, dilation=2**depth)
    if kind == "attention":
        return Attention(features)
    raise ValueError(f"unknown layer '{kind}': take recurrent, convolution or attention")


# ---- from bins to bands and back ---------------------------------------------------------------------------------


class BandSplit(nn.Module):
    """One linear layer and norm a band, from the values of its bins to its features."""

    def __init__(self, sizes, values, features):
        super().__init__()
        self.sizes = sizes
        self.linears = nn.ModuleList(nn.Linear(size * values, features) for size in sizes)
        self.norms = nn.ModuleList(nn.LayerNorm(features) for _ in sizes)

    def forward(self, x):
        """(batch, frames, bins, values) -> (batch, bands, frames, features)."""
        parts = zip(self.linears, self.norms, x.split(self.sizes, dim=2), strict=True)
        return torch.stack([norm(linear(part.flatten(2))) for linear, norm, part in parts], dim=1)


class MaskEstimator(nn.Module):
    """Two layers a band, from its features to the values of its bins; the second is gated, as in BSRNN."""

    def __init__(self, sizes, values, features):
        super().__init__()
        self.values = values
        self.norms = nn.ModuleList(nn.LayerNorm(features) for _ in sizes)
        self.hidden = nn.ModuleList(nn.Linear(features, 2 * features) for _ in sizes)
        self.last = nn.ModuleList(nn.Linear(2 * features, 2 * size * values) for size in sizes)

    def forward(self, x):
        """(batch, bands, frames, features) -> (batch, frames, bins, values)."""
        parts = zip(self.norms, self.hidden, self.last, x.unbind(1), strict=True)
        masks = [F.glu(last(torch.tanh(hidden(norm(part))))) for norm, hidden, last, part in parts]
        return torch.cat(masks, dim=-1).unflatten(-1, (-1, self.values))


class BandSplitModel(nn.Module):
    """Complex masks from bands; an audio model (helpers.separation.networks).

    Args:
        features: of every band and frame. blocks: pairs of layers, one along time and one along the bands.
        across_time, across_bands: "recurrent", "convolution" or "attention".
        bands: pairs (up to so many Hz, bands of so many Hz), see band_sizes().
        channels: "each", or "joint" for stereo, whose left and right are looked at together.
        add_up: what the masked mixtures leave over, or have too much, is shared among the sources, so that they add up
            to the mixture: of all changes that do it, the one of least energy. True sources add up, so the squared
            error over all of them can only become smaller.
        sample_rate: in Hz. n_fft, hop_length: of the STFT, in samples.
        sources: names of what the masks give, in order.

    Along time, attention is best given chunks as long as those it was trained on; the others take any.
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
        sample_rate=16_000,
        n_fft=1024,
        hop_length=256,
        sources=("vocals", "accompaniment"),
    ):
        super().__init__()
        self.arguments = {
            "features": features, "blocks": blocks, "across_time": across_time, "across_bands": across_bands,
            "bands": [list(pair) for pair in bands], "channels": channels, "add_up": add_up,
            "sample_rate": sample_rate, "n_fft": n_fft, "hop_length": hop_length, "sources": list(sources),
        }  # fmt: skip
        self.channels, self.add_up, self.sample_rate, self.sources = channels, add_up, sample_rate, tuple(sources)
        self.stft = STFT(n_fft, hop_length)
        sides = {"each": 1, "joint": 2}[channels]
        sizes = band_sizes(self.stft.bins, sample_rate, bands)
        self.split = BandSplit(sizes, 3 * sides, features)
        self.across_time = nn.ModuleList(layer(across_time, features, depth) for depth in range(blocks))
        self.across_bands = nn.ModuleList(layer(across_bands, features, depth) for depth in range(blocks))
        self.masks = MaskEstimator(sizes, 2 * sides * len(sources), features)

    def analyse(self, waveform):
        """(batch, channels, time) -> its spectrogram over its scale, (batch, channels, bins, frames), and that scale.

        The scale (batch, 1, 1, 1) is the magnitude of white noise as loud (RMS) as the waveform: a louder mixture gives
        louder sources and nothing else.
        """
        power = waveform.square().mean(dim=(1, 2)) * self.stft.window.square().sum()
        scale = power.clamp_min(1e-12).sqrt().view(-1, 1, 1, 1)
        return self.stft(waveform) / scale, scale

    def masks_of(self, spectrogram):
        """Complex (batch, channels, bins, frames), over its scale -> (batch, sources, channels, bins, frames)."""
        magnitude = spectrogram.abs().clamp_min(1e-4)
        loudness = magnitude**0.3  # as ears do: 60 dB become 18
        direction = spectrogram / magnitude * loudness
        values = torch.cat((direction.real, direction.imag, loudness), dim=1)  # (batch, 3·channels, bins, frames)
        h = self.split(values.permute(0, 3, 2, 1))  # (batch, bands, frames, features)
        bands, frames = h.shape[1:3]
        for across_time, across_bands in zip(self.across_time, self.across_bands, strict=True):
            h = across_time(h.flatten(0, 1)).unflatten(0, (-1, bands))  # (batch·bands, frames, features) inside
            h = across_bands(h.transpose(1, 2).flatten(0, 1)).unflatten(0, (-1, frames))  # (batch·frames, bands, f.)
            h = h.transpose(1, 2)
        masks = self.masks(h).float()  # (batch, frames, bins, sources·channels·2)
        masks = masks.unflatten(-1, (len(self.sources), -1, 2)).permute(0, 3, 4, 2, 1, 5)
        return torch.view_as_complex(masks.contiguous())

    def forward(self, waveform):
        """(batch, channels, time) -> (batch, sources, channels, time)."""
        spectrogram, scale = self.analyse(waveform)
        masks = self.masks_of(spectrogram)
        if self.add_up:
            masks = masks + (1 - masks.sum(1, keepdim=True)) / len(self.sources)
        return self.stft.inverse(masks * (spectrogram * scale).unsqueeze(1), waveform.shape[-1])
