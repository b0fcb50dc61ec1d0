"""Corpora of a few thousand samples for the tests of helpers.data.batches."""

import torch

from helpers.data.tracks import Corpus, Track

RATE = 800  # a block of silence is then 100 samples
STEMS = ("vocals", "drums", "bass", "other")


def noise(channels, frames, seed=0, level=0.05):
    """Return noise that is exact in 16 bits."""
    wave = torch.randn(channels, frames, generator=torch.Generator().manual_seed(seed)).clamp(-4, 4) * level
    return (wave * 32_768).round() / 32_768


def make(lengths=(1000, 1500, 2100), names=STEMS, channels=2, waves=None):
    """Return a Corpus of noise in memory, or of these {source: waveform} of each track."""
    waves = waves or [
        {name: noise(channels, length, 10 * track + row) for row, name in enumerate(names)}
        for track, length in enumerate(lengths)
    ]
    tracks = tuple(Track.from_waveforms(f"track {number}", RATE, found) for number, found in enumerate(waves))
    return Corpus("toy", "train", tracks, tuple(waves[0]), "")
