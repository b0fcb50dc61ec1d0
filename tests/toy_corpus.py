"""Corpora of a few thousand samples, in memory, for the tests."""

import hashlib
from dataclasses import dataclass

import torch

from helpers.data import audio
from helpers.data.tracks import Corpus, Track

RATE = 800  # a block of silence is then 100 samples
STEMS = ("vocals", "drums", "bass", "other")


def noise(channels, frames, seed=0, level=0.05):
    """Return noise that is exact in 16 bits."""
    wave = torch.randn(channels, frames, generator=torch.Generator().manual_seed(seed)).clamp(-4, 4) * level
    return (wave * 32_768).round() / 32_768


@dataclass(frozen=True, eq=False)
class MemoryStem:
    """A waveform (channels, time) in memory, with the interface of helpers.data.tracks.FileStem."""

    waveform: torch.Tensor
    sample_rate: int

    @property
    def shape(self):
        return audio.Shape(self.sample_rate, *self.waveform.shape)

    def read(self, start, frames):
        return self.waveform[:, start : start + frames]

    def at(self, sample_rate, mono):
        waveform = audio.to_mono(self.waveform) if mono else self.waveform
        return MemoryStem(audio.resample(waveform, self.sample_rate, sample_rate), sample_rate)

    def version(self):
        return hashlib.sha256(self.waveform.contiguous().numpy().tobytes()).hexdigest()


def track_of(name, sample_rate, sources, **facts):
    """Return a Track of waveforms in memory: {source: (channels, time)}."""
    stems = {source: (MemoryStem(waveform, sample_rate),) for source, waveform in sources.items()}
    return Track(name, sample_rate, stems, **facts)


def make(lengths=(1000, 1500, 2100), names=STEMS, channels=2, waves=None):
    """Return a Corpus of noise in memory, or of these {source: waveform} of each track."""
    waves = waves or [
        {name: noise(channels, length, 10 * track + row) for row, name in enumerate(names)}
        for track, length in enumerate(lengths)
    ]
    tracks = tuple(track_of(f"track {number}", RATE, found) for number, found in enumerate(waves))
    return Corpus("toy", "train", tracks, tuple(waves[0]), "")
