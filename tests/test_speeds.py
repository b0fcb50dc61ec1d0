"""Tracks played like a tape: pitch and length change together, sources stay together."""

import math

import numpy as np
import pytest
import soundfile
import torch

from helpers.data.batches import hold
from helpers.data.corpora import load_corpus
from helpers.data.speeds import EverySpeed, at_speeds, transposed
from helpers.data.tracks import Corpus, Track


def sines(seconds=2.0, sample_rate=16_000, pitches=(440.0, 1000.0)):
    time = torch.arange(round(seconds * sample_rate)) / sample_rate
    sources = {name: 0.4 * torch.sin(2 * math.pi * f * time)[None] for name, f in zip("ab", pitches, strict=True)}
    return Track.from_waveforms("sines", sample_rate, sources)


def pitch(waveform, sample_rate):
    """The frequency of the highest peak of the spectrum, to half a hertz."""
    spectrum = np.abs(np.fft.rfft(waveform[0].numpy() * np.hanning(waveform.shape[-1]), 2 * sample_rate))
    return spectrum.argmax() / 2


@pytest.mark.parametrize("semitones", [-3.0, 1.5, 12.0])
def test_pitch_rises_as_the_track_gets_shorter(semitones):
    track = transposed(sines(), semitones)
    speed = 2 ** (semitones / 12)
    assert track.sample_rate == 16_000 and track.seconds == pytest.approx(2.0 / speed, abs=1e-3)
    for source, before in (("a", 440.0), ("b", 1000.0)):
        assert pitch(track.source(source), 16_000) == pytest.approx(before * speed, abs=0.75)
    inside = slice(1000, -1000)
    assert track.source("a")[:, inside].abs().max().item() == pytest.approx(0.4, abs=0.01)
    assert track.mixture.allclose(track.source("a") + track.source("b"), atol=1e-6)
    again = track.at(8000)
    assert pitch(again.source("a"), 8000) == pytest.approx(440 * speed, abs=0.75)
    assert again.seconds == pytest.approx(track.seconds, abs=1e-3)


def test_files_are_transposed_as_waveforms_are(tmp_path):
    for song in ("one", "two"):
        (tmp_path / "songs" / song).mkdir(parents=True)
        for name, waveform in sines().sources.items():
            file = {"a": "vocals", "b": "other"}[name]
            soundfile.write(tmp_path / "songs" / song / f"{file}.wav", waveform[0].numpy(), 16_000, subtype="FLOAT")
    corpus = load_corpus(str(tmp_path / "songs"), "all", cache_dir=tmp_path / "cache")
    faster = transposed(corpus[0], 3.0)
    assert faster.source("vocals").allclose(transposed(sines(), 3.0).source("a"), atol=2e-3)


def test_a_corpus_has_every_track_at_every_speed():
    corpus = Corpus("sines", "train", (sines(), sines(1.0)), ("a", "b"), "")
    found = at_speeds(corpus, (-2.0, 0.0, 2.0))
    assert [track.name for track in found] == ["sines -2", "sines -2", "sines", "sines", "sines +2", "sines +2"]
    held = hold(found)
    assert held.sample_rate == 16_000 and len(held.lengths) == 6
    assert held.lengths.tolist() == [track.frames for track in found]


@pytest.mark.parametrize("rate", [8000, 44_100])
@pytest.mark.parametrize("length", [1, 999, 30_011])
def test_estimates_of_every_speed_are_set_back_to_the_mixture_s(rate, length):
    wave = torch.stack([sines(length / rate, rate).source(name)[0] for name in "ab"])
    found = EverySpeed(lambda heard, _: {"half": heard / 2, "none": 0 * heard}, (-3.0, 0.0, 1.5, 3.0))(wave, rate)
    assert found["half"].shape == wave.shape and not found["none"].any()
    inside = slice(500, -500)  # a resampled tone rings where it begins and ends
    assert (found["half"] - wave / 2)[:, inside].abs().sum() <= 2e-4 * max(1, length)


def test_every_speed_is_heard_at_its_pitch_and_counts_alike():
    heard, done = [], []

    def separator(waveform, sample_rate):
        heard.append(pitch(waveform, sample_rate))
        return {"number": torch.full_like(waveform, len(heard))}

    wave = sines().source("a")
    found = EverySpeed(separator, (-12.0, 0.0, 3.0), done.append)(wave, 16_000)
    assert heard == pytest.approx([220, 440, 440 * 2**0.25], abs=0.75)
    assert found["number"][:, 500:-500].numpy() == pytest.approx(2.0, abs=1e-3)  # the mean of 1, 2 and 3
    assert done == pytest.approx([1 / 3, 2 / 3, 1])
