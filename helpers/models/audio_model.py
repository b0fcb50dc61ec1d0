"""What all audio models share: their arguments, the level and the STFT of what they hear, and what losses read."""

from dataclasses import dataclass

import torch
from torch import nn

from helpers.runtime import in_float32
from helpers.stft import STFT

VOICE = ("vocals", "accompaniment")
QUIETEST = 1e-6  # -120 dB: the least that a mixture is divided by, so that silence stays silence


@dataclass
class Analysis:
    """What a model makes of mixtures, over `scale`. Its aim is `model.stft(sources) / scale.unsqueeze(1)`."""

    spectrogram: torch.Tensor  # complex (batch, channels, bins, frames), of the mixture
    scale: torch.Tensor  # (batch, 1, 1, 1); by default the magnitude of white noise as loud as the mixture
    estimates: torch.Tensor  # complex (batch, sources, channels, bins, frames)
    magnitudes: torch.Tensor  # (batch, sources, channels, bins, frames), of the estimates
    masks: torch.Tensor | None = None  # (batch, sources, channels, bins, frames): estimates = masks · spectrogram
    state: tuple | None = None  # of an LSTM after the last frame: (h, c), each (layers, batch, hidden)
    vae: tuple | None = None  # of a MusicVAE, what its autoencode() gives


def masked(spectrogram, scale, masks, **more):
    """Return the Analysis of real masks (batch, sources, channels, bins, frames) on the mixture's spectrogram."""
    mixture = spectrogram.unsqueeze(1)  # (batch, 1, channels, bins, frames)
    return Analysis(spectrogram, scale, masks * mixture, masks * mixture.abs(), masks, **more)


def painted(spectrogram, scale, magnitudes, **more):
    """Return the Analysis of magnitudes, as above, that get the mixture's phase; where the mixture is 0, 0."""
    phase = (spectrogram / spectrogram.abs().clamp_min(1e-12)).unsqueeze(1)
    return Analysis(spectrogram, scale, magnitudes * phase, magnitudes, **more)


class AudioModel(nn.Module):
    """A network that separates: mixtures (batch, 1, time) -> estimates (batch, sources, 1, time).

    Every channel of a recording is a mixture of its own. A subclass has `masks`, magnitudes (batch, 1, bins, frames) ->
    masks (batch, sources, bins, frames), or overrides `analyse`; one without an STFT overrides `forward`. It adds its
    other arguments, plain values that a file can hold, to `self.arguments`.

    Args:
        sample_rate: in Hz. n_fft, hop_length: of the STFT, in samples; None for a model without one.
        sources: names of what it gives, in order.
        rest: one of them, which in separation gets all that the others leave of the mixture: what lies above half the
            model's own rate, too.
    """

    def __init__(self, sample_rate=16_000, n_fft=1024, hop_length=256, sources=VOICE, rest=None):
        super().__init__()
        self.sample_rate, self.sources = sample_rate, tuple(sources)
        self.arguments = {"sample_rate": sample_rate, "sources": list(sources)}
        self.rest = rest
        if rest:
            check_choice("source", rest, self.sources)
            self.arguments["rest"] = rest
        if n_fft:
            self.arguments |= {"n_fft": n_fft, "hop_length": hop_length}
            self.stft = STFT(n_fft, hop_length)

    def level_of(self, waveform):
        """(batch, 1, time) -> (batch, 1, 1): the loudness (root mean square) that a mixture is divided by."""
        peak = waveform.abs().amax(dim=(1, 2), keepdim=True).clamp_min(QUIETEST)
        loudness = peak * (waveform / peak).square().mean(dim=(1, 2), keepdim=True).sqrt()  # no square overflows
        return loudness.clamp_min(QUIETEST)

    def normalise(self, waveform):
        """(batch, 1, time) -> the waveform over its level, and that level (batch, 1, 1)."""
        level = self.level_of(waveform)
        return waveform / level, level

    def scaled_stft(self, waveform):
        """(batch, 1, time) -> its spectrogram over its scale, and that scale: see Analysis."""
        waveform, level = self.normalise(waveform)
        spectrogram = self.stft(waveform) / self.stft.noise_magnitude  # complex (batch, 1, bins, frames)
        return spectrogram, level.unsqueeze(3) * self.stft.noise_magnitude

    def analyse(self, waveform):
        """(batch, 1, time) -> Analysis."""
        spectrogram, scale = self.scaled_stft(waveform)
        return masked(spectrogram, scale, self.masks(spectrogram.abs()).unsqueeze(2))

    def to_waveforms(self, analysis, length):
        """Return the estimates of an Analysis as waveforms (batch, sources, channels, length)."""
        norm = self.stft.noise_magnitude
        return self.stft.inverse(analysis.estimates * norm, length) * (analysis.scale / norm)

    def forward(self, waveform):
        """(batch, 1, time) -> (batch, sources, 1, time)."""
        return self.to_waveforms(self.analyse(waveform), waveform.shape[-1])


def new_lstm(size, hidden, layers, bidirectional, dropout):
    """Return an LSTM over (batch, frames, size), with dropout between its layers."""
    dropout = dropout if layers > 1 else 0.0
    return nn.LSTM(size, hidden, layers, batch_first=True, bidirectional=bidirectional, dropout=dropout)


@in_float32
def run_lstm(lstm, frames, state=None):
    """Return what an LSTM gives for (batch, frames, size), and its state afterwards; never in half precision."""
    return lstm(frames, state)


def check_choice(name, value, known):
    """Raise ValueError unless `value` is one of the `known` ones."""
    if value not in known:
        raise ValueError(f"unknown {name} '{value}': take {', '.join(known)}")
