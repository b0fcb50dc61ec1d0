"""Mask models: a network reads the magnitudes s_t of a mixture frame by frame and gives one mask per source, m_t ⊙ s_t.

SingleFrameNet and LSTMNet follow homework 5 of ECE 277/477 Computer Audition, SourceLSTM the MIR-1K post (Huang et al.,
2015). Inside the networks everything is (batch, frames, ...), which is what nn.Linear and nn.LSTM read.
"""

import torch
from torch import nn
from torch.nn import functional as F

from helpers.models.audio_model import QUIETEST, AudioModel, check_choice, masked, new_lstm, run_lstm

FLOOR = 1e-4  # smallest magnitude of the log features: -80 dB, relative to white noise as loud as the mixture
EPSILON = 1e-3  # added to each output of a ratio mask, so that the ratio is defined where all outputs are 0
LOUDEST = 1e3  # +60 dB: up to this peak a model of level "none" takes mixtures as they are


class MaskModel(AudioModel):
    """What the mask models share: waveforms to features, outputs to masks.

    Args:
        features: what the network reads of a frame: "log", logarithms of the magnitudes, which show a soft harmonic
            beside a loud one; or "magnitude", as in the homework. Standardised bin by bin after fit_statistics().
        masks: how outputs become masks that add up to one: "sigmoid", of one output, the first of two sources' mask;
            "sum", a softmax over one output per source; "ratio", ReLUs y_k / (y_1 + y_2 + ...).
        level: what the mixture is divided by: "rms", its root mean square; "max", its largest sample; "none", nothing.
        settings: AudioModel's; by default the homework's, 32 kHz, n_fft 4096, hop_length 2048.
    """

    def __init__(self, features="log", masks="sigmoid", level="rms", **settings):
        super().__init__(**({"sample_rate": 32_000, "n_fft": 4096, "hop_length": 2048} | settings))
        self.arguments |= {"features": features, "masks": masks, "level": level}
        check_choice("features", features, ("log", "magnitude"))
        check_choice("masks", masks, ("sigmoid", "sum", "ratio"))
        check_choice("level", level, ("rms", "max", "none"))
        if masks == "sigmoid" and len(self.sources) != 2:
            raise ValueError(f"a mask and what it leaves are two sources, not {len(self.sources)}: take masks='sum'")
        self.features, self.masks, self.level = features, masks, level
        self.outputs = 1 if masks == "sigmoid" else len(self.sources)
        self.register_buffer("mean", torch.zeros(self.stft.bins))  # of each bin's feature, see fit_statistics()
        self.register_buffer("std", torch.ones(self.stft.bins))

    def level_of(self, waveform):
        """(batch, 1, time) -> (batch, 1, 1): what the mixture is divided by."""
        if self.level == "rms":
            return super().level_of(waveform)
        peak = waveform.abs().amax(dim=(1, 2), keepdim=True)
        return peak.clamp_min(QUIETEST) if self.level == "max" else (peak / LOUDEST).clamp_min(1.0)

    def raw_features(self, magnitudes):
        """Magnitudes (batch, bins, frames) -> features (batch, frames, bins), not standardised."""
        features = magnitudes.clamp_min(FLOOR).log() if self.features == "log" else magnitudes
        return features.transpose(1, 2)

    def features_of(self, magnitudes):
        """Magnitudes (batch, bins, frames) -> features (batch, frames, bins)."""
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
            shares = F.relu(outputs) + EPSILON  # in each term, so that the masks add up to one everywhere
            masks = shares / shares.sum(dim=2, keepdim=True)
        return masks.permute(0, 2, 3, 1)

    def analyse(self, waveform, state=None, margin=0):
        """(batch, 1, time) -> Analysis, of all frames but the first and last `margin`.

        state: the Analysis's before, where these frames follow on those. A subclass has forward_frames(magnitudes,
        state) -> masks (batch, sources, bins, frames), state.
        """
        spectrogram, scale = self.scaled_stft(waveform)  # complex (batch, 1, bins, frames)
        spectrogram = spectrogram[..., margin : spectrogram.shape[-1] - margin]
        masks, state = self.forward_frames(spectrogram.squeeze(1).abs(), state)
        return masked(spectrogram, scale, masks.unsqueeze(2), state=state)


@torch.no_grad()
def fit_statistics(model, batches):
    """Measure mean and deviation of every bin's feature over batches (mixture (batch, 1, time), ...), in `model`.

    A bin that hardly changes, such as one above the data's band, counts as changing by a tenth of what bins do on
    average: divided by less, whatever a song to separate has there would be far too large.
    """
    count, total, squares = 0, 0.0, 0.0
    for mixture, *_ in batches:
        spectrogram, _ = model.scaled_stft(mixture)
        features = model.raw_features(spectrogram.squeeze(1).abs())
        features = features.flatten(0, 1).cpu().double()  # (batch · frames, bins); not every GPU has float64
        count += len(features)
        total, squares = total + features.sum(0), squares + features.square().sum(0)
    mean = total / count
    std = (squares / count - mean.square()).clamp_min(0).sqrt()
    std = std.clamp_min(0.1 * std.mean())
    model.mean.copy_(mean)
    model.std.copy_(torch.where(std > 0, std, 1.0))  # 1 where there was silence only


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
    """Convolutions along frequency with ReLU, each of stride 2.

    About bins/16 bands are left. The same filters everywhere: few weights, and a harmonic is one wherever it lies.
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
        """(batch, frames, bins) -> (batch, frames, code · bands)."""
        batch, frames, bins = features.shape
        padded = F.pad(features, (0, 16 * (self.bands - 1) + 1 - bins))
        h = self.body(padded.flatten(0, 1).unsqueeze(1))  # (batch · frames, code, bands)
        return self.dropout(h.flatten(1)).unflatten(0, (batch, frames))


class ConvDecoder(nn.Module):
    """The encoder's mirror image."""

    def __init__(self, bins, width, code, outputs, dropout):
        super().__init__()
        self.bins, self.code = bins, code
        self.body = nn.Sequential()
        for inputs, channels in ((code, width), (width, width), (width, width // 2)):
            self.body.extend([nn.ConvTranspose1d(inputs, channels, 9, stride=2, padding=4), nn.ReLU()])
        self.body.extend([nn.Dropout(dropout), nn.ConvTranspose1d(width // 2, outputs, 9, stride=2, padding=4)])

    def forward(self, code):
        """(batch, frames, code · bands) -> (batch, frames, outputs, bins)."""
        h = code.flatten(0, 1).unflatten(1, (self.code, -1))  # (batch · frames, code, bands)
        outputs = self.body(h)[..., : self.bins]  # (batch · frames, outputs, bins)
        return outputs.unflatten(0, code.shape[:2])


NETWORKS = {"dense": (DenseEncoder, DenseDecoder, 1024, 512), "conv": (ConvEncoder, ConvDecoder, 32, 8)}


class SingleFrameNet(MaskModel):
    """An encoder and a decoder of one magnitude frame: its mask depends on no other (homework 5, figure 1).

    network: "dense", fully connected layers; "conv", convolutions along frequency. width, code: units of the hidden
    layers and length of the code, or channels of both; default: see NETWORKS. dropout: probability that a hidden unit
    is left out in training. settings: MaskModel's.
    """

    def __init__(self, network="dense", width=None, code=None, dropout=0.0, **settings):
        super().__init__(**settings)
        encoder, decoder, usual_width, usual_code = NETWORKS[network]
        width, code = width or usual_width, code or usual_code
        self.arguments |= {"network": network, "width": width, "code": code, "dropout": dropout}
        self.encoder = encoder(self.stft.bins, width, code, dropout)
        self.decoder = decoder(self.stft.bins, width, code, self.outputs, dropout)

    def forward_frames(self, magnitudes, state=None):
        """Magnitudes over their scale (batch, bins, frames) -> masks (batch, sources, bins, frames), None."""
        h = self.encoder(self.features_of(magnitudes))  # (batch, frames, code)
        return self.masks_of(self.decoder(h)), None


class LSTMNet(SingleFrameNet):
    """SingleFrameNet with a memory: an LSTM reads the codes (homework 5, figure 2).

    Fuse layers bring its outputs and the codes, which skip it, back to a code's length. hidden: units of an LSTM layer,
    in each direction. layers: of the LSTM. bidirectional: read the frames backwards, too. settings: SingleFrameNet's.
    """

    def __init__(self, hidden=512, layers=1, bidirectional=False, **settings):
        super().__init__(**settings)
        self.arguments |= {"hidden": hidden, "layers": layers, "bidirectional": bidirectional}
        size = self.encoder.size
        self.lstm = new_lstm(size, hidden, layers, bidirectional, self.arguments["dropout"])
        memory = hidden * (1 + bidirectional)
        self.fuse = nn.Sequential(nn.Linear(size + memory, size), nn.ReLU(), nn.Linear(size, size), nn.ReLU())

    @classmethod
    def from_single_frame(cls, model, **settings):
        """Return an LSTMNet that gives exactly what the SingleFrameNet `model` gives, and has a memory to learn.

        Encoder, decoder and statistics are copied. The fuse layers begin by handing on the codes, which no ReLU
        changes, since they left one. settings: hidden, layers, bidirectional, dropout.
        """
        net = cls(**(model.arguments | settings)).to(model.mean.device)
        net.load_state_dict(model.state_dict(), strict=False)
        for layer in net.fuse[::2]:
            nn.init.eye_(layer.weight)  # 1 from each number of the code to itself, 0 from the LSTM
            nn.init.zeros_(layer.bias)
        return net

    def forward_frames(self, magnitudes, state=None):
        """Magnitudes over their scale (batch, bins, frames) -> masks (batch, sources, bins, frames), state."""
        h = self.encoder(self.features_of(magnitudes))  # (batch, frames, code)
        remembered, state = remember(self.lstm, h, state)  # (batch, frames, hidden · directions)
        fused = self.fuse(torch.cat((h, remembered), dim=2))  # (batch, frames, code)
        return self.masks_of(self.decoder(fused)), state


class SourceLSTM(MaskModel):
    """An LSTM reads the frames; one fully connected layer with ReLU per source gives its amount y_k in each bin.

    hidden, layers, bidirectional, dropout: as LSTMNet's. settings: MaskModel's; by default the post's.
    """

    def __init__(self, hidden=320, layers=2, bidirectional=False, dropout=0.0, **settings):
        defaults = {"sample_rate": 16_000, "n_fft": 1024, "hop_length": 256, "masks": "ratio", "level": "max"}
        super().__init__(**(defaults | settings))
        self.arguments |= {"hidden": hidden, "layers": layers, "bidirectional": bidirectional, "dropout": dropout}
        self.lstm = new_lstm(self.stft.bins, hidden, layers, bidirectional, dropout)
        self.dropout = nn.Dropout(dropout)
        memory = hidden * (1 + bidirectional)
        self.dense = nn.ModuleList(nn.Linear(memory, self.stft.bins) for _ in range(self.outputs))
        if self.masks == "ratio":
            for layer in self.dense:
                nn.init.ones_(layer.bias)  # equal masks at first; where a ReLU gives 0, nothing would be learnt

    def forward_frames(self, magnitudes, state=None):
        """Magnitudes over their scale (batch, bins, frames) -> masks (batch, sources, bins, frames), state."""
        remembered, state = remember(self.lstm, self.features_of(magnitudes), state)
        remembered = self.dropout(remembered)  # (batch, frames, hidden · directions)
        outputs = torch.stack([layer(remembered) for layer in self.dense], dim=2)  # (batch, frames, outputs, bins)
        return self.masks_of(outputs), state


def remember(lstm, frames, state):
    """Return the LSTM's outputs (batch, frames, hidden · directions), and its state unless it reads both ways."""
    outputs, state = run_lstm(lstm, frames, state)
    return outputs, None if lstm.bidirectional else state
