"""Mask models: a network reads the magnitudes of a mixture frame by frame and says what share of each belongs to whom.

v̂_t = m_t ⊙ s_t: a mask m_t in [0, 1] on the spectrum s_t of frame t, which keeps the mixture's phase. SingleFrameNet
hears one frame at a time, LSTMNet also remembers the frames before it (both follow homework 5 of ECE 277/477 Computer
Audition), and SourceLSTM is all memory, with one output layer a source (the MIR-1K post; Huang et al., 2015).

What goes in and out of the models is (batch, ..., bins, frames); inside everything is (batch, frames, ...), which is
what nn.Linear and nn.LSTM read.
"""

import math
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from helpers.stft import STFT

FLOOR = 1e-4  # what magnitudes over their scale are not resolved below: -80 dB under white noise as loud
SILENCE = 1e-5  # level, -100 dB, below which a mixture is not made louder
EPSILON = 1e-3  # what an output of nothing counts as, where masks are ratios of outputs


class Description(NamedTuple):
    """What a mask model makes of a batch of mixtures, and all that a loss needs."""

    spectrogram: torch.Tensor  # complex (batch, bins, frames), of the mixture
    magnitudes: torch.Tensor  # (batch, bins, frames), its absolute values
    masks: torch.Tensor  # (batch, sources, bins, frames), in [0, 1], adding up to 1
    state: tuple | None  # of the LSTM after the last frame: (h, c), each (layers, batch, hidden)


class MaskModel(nn.Module):
    """What the mask models share: waveforms to features, outputs to masks to waveforms; an audio model.

    Args:
        sample_rate: in Hz. n_fft, hop_length: of the STFT, in samples.
        sources: the names of the sources, in order.
        features: what the network reads of a frame:
            "log": logarithms of the magnitudes, which show a soft harmonic beside a loud one (default);
            "magnitude": the magnitudes themselves, as in the homework.
            Either is standardised bin by bin once fit_statistics() has measured how.
        masks: how outputs become masks that add up to one:
            "sigmoid": one output, the first source's mask; the second source gets what is left (default);
            "sum": one output a source, through a softmax;
            "ratio": one output y_k a source, through a ReLU, and y_k / (y_1 + y_2 + ...).
        level: what the magnitudes are divided by before the network reads them:
            "rms": the mixture's root mean square, so that a louder mixture gives louder sources and nothing else
            (default); "max": its largest sample, to the same end; "none": nothing.
    """

    channels = "each"
    causal = True  # no frame depends on a later one: a long song can be read in pieces, with the state carried on

    def __init__(
        self,
        sample_rate=32_000,
        n_fft=4096,
        hop_length=2048,
        sources=("vocals", "accompaniment"),
        features="log",
        masks="sigmoid",
        level="rms",
    ):
        super().__init__()
        self.arguments = {
            "sample_rate": sample_rate, "n_fft": n_fft, "hop_length": hop_length, "sources": list(sources),
            "features": features, "masks": masks, "level": level,
        }  # fmt: skip
        _check_choice("features", features, ("log", "magnitude"))
        _check_choice("masks", masks, ("sigmoid", "sum", "ratio"))
        _check_choice("level", level, ("rms", "max", "none"))
        if masks == "sigmoid" and len(sources) != 2:
            raise ValueError(f"a mask and what it leaves are two sources, not {len(sources)}: take masks='sum'")
        self.sample_rate, self.sources = sample_rate, tuple(sources)
        self.features, self.masks, self.level = features, masks, level
        self.stft = STFT(n_fft, hop_length)
        self.outputs = 1 if masks == "sigmoid" else len(sources)
        self.register_buffer("mean", torch.zeros(self.stft.bins))
        self.register_buffer("std", torch.ones(self.stft.bins))

    # -- what the subclasses are made of

    def scale_of(self, waveform):
        """(batch, 1, time) -> (batch, 1, 1): the magnitude of white noise at the mixture's level in every bin."""
        if self.level == "none":
            level = waveform.new_ones(len(waveform), 1, 1)
        elif self.level == "max":
            level = torch.linalg.vector_norm(waveform, torch.inf, dim=(1, 2), keepdim=True)
        else:
            level = torch.linalg.vector_norm(waveform, dim=(1, 2), keepdim=True) / math.sqrt(waveform[0].numel())
        return level.clamp_min(SILENCE) * self.stft.window.square().sum().sqrt()

    def raw_features(self, magnitudes):
        """Magnitudes over their scale (batch, bins, frames) -> features (batch, frames, bins), not standardised."""
        features = magnitudes.clamp_min(FLOOR).log() if self.features == "log" else magnitudes
        return features.transpose(1, 2)

    def features_of(self, magnitudes):
        """Magnitudes over their scale (batch, bins, frames) -> features (batch, frames, bins)."""
        return (self.raw_features(magnitudes) - self.mean) / self.std

    def masks_of(self, outputs):
        """(batch, frames, outputs, bins) -> masks (batch, sources, bins, frames)."""
        outputs = outputs.float()
        if self.masks == "sigmoid":
            masks = torch.sigmoid(outputs)
            masks = torch.cat((masks, 1 - masks), dim=2)
        elif self.masks == "sum":
            masks = torch.softmax(outputs, dim=2)
        else:
            # ε in every term, not below the line alone: masks then add up to one even where all outputs are 0
            shares = F.relu(outputs) + EPSILON
            masks = shares / shares.sum(dim=2, keepdim=True)
        return masks.permute(0, 2, 3, 1)

    # -- what they give

    def forward_frames(self, magnitudes, state=None):
        """Magnitudes over their scale (batch, bins, frames) -> masks (batch, sources, bins, frames), state."""
        raise NotImplementedError

    def describe(self, waveform, state=None, margin=0):
        """(batch, 1, time) -> Description, of all frames but the first and last `margin`.

        state: the Description's before, where these frames follow on those.
        """
        spectrogram = self.stft(waveform.squeeze(1))
        spectrogram = spectrogram[..., margin : spectrogram.shape[-1] - margin]
        magnitudes = spectrogram.abs()
        masks, state = self.forward_frames(magnitudes / self.scale_of(waveform), state)
        return Description(spectrogram, magnitudes, masks, state)

    def forward(self, waveform):
        """(batch, 1, time) -> (batch, sources, 1, time)."""
        found = self.describe(waveform)
        estimates = found.masks * found.spectrogram.unsqueeze(1)  # (batch, sources, bins, frames)
        return self.stft.inverse(estimates, waveform.shape[-1]).unsqueeze(2)


def _check_choice(name, value, known):
    """Raise ValueError unless `value` is one of the `known` ones."""
    if value not in known:
        raise ValueError(f"unknown {name} '{value}': take {', '.join(known)}")


@torch.no_grad()
def fit_statistics(model, batches):
    """Measure mean and standard deviation of every bin's feature over all frames of some batches; keep them in `model`.

    batches: an iterable of (mixture (batch, 1, time), ...), training data.

    A bin that hardly changes in them, such as one above the data's band, counts as changing by a tenth of what bins do
    on average: divided by less, whatever a song to separate has there would drown all else.
    """
    count, total, squares = 0, 0.0, 0.0
    for mixture, *_ in batches:
        magnitudes = model.stft(mixture.squeeze(1)).abs() / model.scale_of(mixture)
        features = model.raw_features(magnitudes).flatten(0, 1).cpu().double()  # (batch · frames, bins)
        count += len(features)
        total, squares = total + features.sum(0), squares + features.square().sum(0)
    mean = total / count
    std = (squares / count - mean.square()).clamp_min(0).sqrt()
    model.mean.copy_(mean)
    std = std.clamp_min(0.1 * std.mean())
    model.std.copy_(torch.where(std > 0, std, 1.0))  # 1 where all that was heard is silence


# ---- encoders and decoders of one frame --------------------------------------------------------------------------


class DenseEncoder(nn.Sequential):
    """Two fully connected layers with ReLU: (batch, frames, bins) -> (batch, frames, code)."""

    def __init__(self, bins, width, code, dropout):
        super().__init__(nn.Linear(bins, width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, code), nn.ReLU())
        self.size = code


class DenseDecoder(nn.Sequential):
    """Two fully connected layers: (batch, frames, code) -> (batch, frames, outputs, bins)."""

    def __init__(self, bins, width, code, outputs, dropout):
        super().__init__(
            nn.Linear(code, width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, outputs * bins),
            nn.Unflatten(2, (outputs, bins)),
        )  # fmt: skip


class ConvEncoder(nn.Module):
    """Convolutions along frequency with ReLU, each of stride 2: (batch, frames, bins) -> (batch, frames, code · bands).

    There are about bins/16 bands. The same filters everywhere: few weights, and a harmonic is one wherever it lies.
    """

    def __init__(self, bins, width, code, dropout):
        super().__init__()
        self.bands = -(-(bins - 1) // 16) + 1
        self.size = code * self.bands  # numbers in the code of a frame
        self.body = nn.Sequential()
        for inputs, outputs in ((1, width // 2), (width // 2, width), (width, width), (width, code)):
            self.body.extend([nn.Conv1d(inputs, outputs, 9, stride=2, padding=4), nn.ReLU()])
        self.dropout = nn.Dropout(dropout)

    def forward(self, features):
        padded = F.pad(features, (0, 16 * (self.bands - 1) + 1 - features.shape[-1]))
        h = self.body(padded.flatten(0, 1).unsqueeze(1))  # (batch · frames, code, bands)
        return self.dropout(h.flatten(1)).unflatten(0, features.shape[:2])


class ConvDecoder(nn.Module):
    """The encoder's mirror image: (batch, frames, code · bands) -> (batch, frames, outputs, bins)."""

    def __init__(self, bins, width, code, outputs, dropout):
        super().__init__()
        self.bins, self.code = bins, code
        self.body = nn.Sequential()
        for inputs, channels in ((code, width), (width, width), (width, width // 2)):
            self.body.extend([nn.ConvTranspose1d(inputs, channels, 9, stride=2, padding=4), nn.ReLU()])
        self.body.extend([nn.Dropout(dropout), nn.ConvTranspose1d(width // 2, outputs, 9, stride=2, padding=4)])

    def forward(self, code):
        outputs = self.body(code.flatten(0, 1).unflatten(1, (self.code, -1)))  # (batch · frames, outputs, bins or more)
        return outputs[..., : self.bins].unflatten(0, code.shape[:2])


NETWORKS = {"dense": (DenseEncoder, DenseDecoder, 1024, 512), "conv": (ConvEncoder, ConvDecoder, 32, 8)}


# ---- the models --------------------------------------------------------------------------------------------------


class SingleFrameNet(MaskModel):
    """An encoder and a decoder of one magnitude frame: its mask depends on no other (homework 5, figure 1).

    Args:
        network: "dense", fully connected layers; "conv", convolutions along frequency.
        width: units of the hidden layers, or channels; default 1024, or 32.
        code: length of what the encoder gives, or channels of it; default 512, or 8.
        dropout: probability that a hidden unit is left out in training.
        settings: MaskModel's; by default the homework's, 32 kHz, n_fft 4096, hop_length 2048.
    """

    def __init__(self, network="dense", width=None, code=None, dropout=0.0, **settings):
        super().__init__(**settings)
        _check_choice("network", network, tuple(NETWORKS))
        encoder, decoder, *sizes = NETWORKS[network]
        width, code = width or sizes[0], code or sizes[1]
        self.arguments |= {"network": network, "width": width, "code": code, "dropout": dropout}
        self.encoder = encoder(self.stft.bins, width, code, dropout)
        self.decoder = decoder(self.stft.bins, width, code, self.outputs, dropout)

    def forward_frames(self, magnitudes, state=None):
        h = self.encoder(self.features_of(magnitudes))  # (batch, frames, code)
        return self.masks_of(self.decoder(h)), None


class LSTMNet(SingleFrameNet):
    """SingleFrameNet with a memory: an LSTM reads the codes h_t; its outputs, beside the codes, go to the decoder.

    The codes skip the LSTM, so that the model can do at least what the single-frame one does, and gradients have a
    short way; fuse layers bring both back to a code's length (homework 5, figure 2).

    Args:
        hidden: units of an LSTM layer, in each direction. layers: LSTM layers, 1 to 3.
        bidirectional: read the frames backwards as well; needs the whole song, or chunks of it.
        settings: SingleFrameNet's and MaskModel's.
    """

    def __init__(self, hidden=512, layers=1, bidirectional=False, **settings):
        super().__init__(**settings)
        self.arguments |= {"hidden": hidden, "layers": layers, "bidirectional": bidirectional}
        size, self.causal = self.encoder.size, not bidirectional
        self.lstm = _lstm(size, hidden, layers, bidirectional, self.arguments["dropout"])
        memory = hidden * (1 + bidirectional)
        self.fuse = nn.Sequential(nn.Linear(size + memory, size), nn.ReLU(), nn.Linear(size, size), nn.ReLU())

    @classmethod
    def from_single_frame(cls, model, **settings):
        """Return an LSTMNet that gives exactly what the SingleFrameNet `model` gives, and has a memory to learn.

        Encoder, decoder and statistics are copied. The fuse layers begin by handing on the codes, which no ReLU
        changes, since they left one. settings: hidden, layers, bidirectional.
        """
        net = cls(**model.arguments, **settings)
        net.load_state_dict(model.state_dict(), strict=False)
        for layer in net.fuse[::2]:
            nn.init.eye_(layer.weight)  # 1 from each number of the code to itself, 0 from the LSTM
            nn.init.zeros_(layer.bias)
        return net

    def forward_frames(self, magnitudes, state=None):
        h = self.encoder(self.features_of(magnitudes))  # (batch, frames, code)
        remembered, state = _remember(self.lstm, h, state)  # (batch, frames, hidden · directions)
        fused = self.fuse(torch.cat((h, remembered), dim=2))  # (batch, frames, code)
        return self.masks_of(self.decoder(fused)), state


class SourceLSTM(MaskModel):
    """An LSTM reads the frames, one fully connected layer with ReLU a source says how much of it there is in each bin.

    A masking layer makes masks of that, y_k / (y_1 + y_2 + ...), on the mixture's spectrogram ("Source Separation",
    the post on MIR-1K; the masking layer is that of Huang, Kim, Hasegawa-Johnson and Smaragdis, 2015).

    Args:
        hidden: units of an LSTM layer, in each direction. layers: LSTM layers, 1 to 3.
        bidirectional: read the frames backwards as well; needs the whole song, or chunks of it.
        dropout: probability that an output of an LSTM layer is left out in training.
        settings: MaskModel's; by default 16 kHz, n_fft 1024, hop_length 256, masks "ratio", level "max".
    """

    def __init__(self, hidden=320, layers=2, bidirectional=False, dropout=0.0, **settings):
        defaults = {"sample_rate": 16_000, "n_fft": 1024, "hop_length": 256, "masks": "ratio", "level": "max"}
        super().__init__(**(defaults | settings))
        self.arguments |= {"hidden": hidden, "layers": layers, "bidirectional": bidirectional, "dropout": dropout}
        self.causal = not bidirectional
        self.lstm = _lstm(self.stft.bins, hidden, layers, bidirectional, dropout)
        self.dropout = nn.Dropout(dropout)
        memory = hidden * (1 + bidirectional)
        self.dense = nn.ModuleList(nn.Linear(memory, self.stft.bins) for _ in range(self.outputs))
        if self.masks == "ratio":
            for layer in self.dense:
                nn.init.ones_(layer.bias)  # equal masks at first; where a ReLU gives 0, nothing would be learnt

    def forward_frames(self, magnitudes, state=None):
        remembered, state = _remember(self.lstm, self.features_of(magnitudes), state)  # (batch, frames, hidden · ...)
        remembered = self.dropout(remembered)
        return self.masks_of(torch.stack([layer(remembered) for layer in self.dense], dim=2)), state


def _lstm(size, hidden, layers, bidirectional, dropout):
    """Return an LSTM over (batch, frames, size), with dropout between its layers."""
    if not 1 <= layers <= 3:
        raise ValueError(f"the LSTM may have 1 to 3 layers, not {layers}")
    dropout = dropout if layers > 1 else 0.0
    return nn.LSTM(size, hidden, layers, batch_first=True, bidirectional=bidirectional, dropout=dropout)


def _remember(lstm, frames, state):
    """Return the LSTM's outputs (batch, frames, hidden · directions) and its state, which goes forwards alone."""
    if not lstm.bidirectional:
        return lstm(frames, state)
    if state is not None:
        raise ValueError("a bidirectional LSTM has no state to carry on: it begins at both ends")
    return lstm(frames)[0], None
