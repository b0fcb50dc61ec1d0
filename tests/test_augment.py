"""Tracks played like a tape, and voices whose formants move while their pitch stays."""

import math

import numpy as np
import pytest
import soundfile
import torch
from scipy.signal import lfilter, welch
from toy_corpus import track_of

from helpers.data.augment import at_speeds, equalised, move_formants, transposed, with_new_singers
from helpers.data.batches import load_samples
from helpers.data.corpora import load_corpus
from helpers.data.tracks import Corpus

RATE = 16_000

# ---- speed -------------------------------------------------------------------------------------------------------


def sines(seconds=2.0, sample_rate=16_000, pitches=(440.0, 1000.0)):
    time = torch.arange(round(seconds * sample_rate)) / sample_rate
    sources = {name: 0.4 * torch.sin(2 * math.pi * f * time)[None] for name, f in zip("ab", pitches, strict=True)}
    return track_of("sines", sample_rate, sources)


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


def test_files_are_transposed_as_waveforms_are(tmp_path, monkeypatch):
    for song in ("one", "two"):
        (tmp_path / "songs" / song).mkdir(parents=True)
        for name, waveform in sines().sources.items():
            file = {"a": "vocals", "b": "other"}[name]
            soundfile.write(tmp_path / "songs" / song / f"{file}.wav", waveform[0].numpy(), 16_000, subtype="FLOAT")
    monkeypatch.setattr("helpers.runtime.cache_dir", lambda: tmp_path / "cache")
    corpus = load_corpus(str(tmp_path / "songs"), "all")
    faster = transposed(corpus[0], 3.0)
    assert faster.source("vocals").allclose(transposed(sines(), 3.0).source("a"), atol=2e-3)


def test_a_corpus_has_every_track_at_every_speed():
    corpus = Corpus("sines", "train", (sines(), sines(1.0)), ("a", "b"), "")
    found = at_speeds(corpus, (-2.0, 0.0, 2.0))
    assert [track.name for track in found] == ["sines -2", "sines -2", "sines", "sines", "sines +2", "sines +2"]
    samples = load_samples(found)
    assert samples.sample_rate == 16_000 and len(samples.lengths) == 6
    assert samples.lengths.tolist() == [track.frames for track in found]


# ---- formants ----------------------------------------------------------------------------------------------------


def vowel(pitch, formants, seconds=1.5):
    """A pulse train through resonators of 80 Hz bandwidth: (1, time)."""
    pulses = np.zeros(round(seconds * RATE))
    pulses[np.arange(0, len(pulses), RATE / pitch).round().astype(int)] = 1
    for formant in formants:
        radius = math.exp(-math.pi * 80 / RATE)
        pulses = lfilter([1], [1, -2 * radius * math.cos(2 * math.pi * formant / RATE), radius**2], pulses)
    return torch.from_numpy(0.3 * pulses / np.abs(pulses).max()).float()[None]


def spectrum(waveform):
    """Power at every multiple of one hertz."""
    waveform = waveform.flatten().numpy()[:RATE]
    return np.abs(np.fft.rfft(waveform * np.hanning(RATE))) ** 2


def centroid(waveform, low, high):
    """Centre of gravity of the spectrum between two frequencies, Hz."""
    power = spectrum(waveform)[low:high]
    return (np.arange(low, high) * power).sum() / power.sum()


@pytest.mark.parametrize("factor", [0.85, 1.2])
def test_formants_move_and_the_pitch_stays(factor):
    before = vowel(100, (700, 2400))
    after = move_formants(before[None], torch.tensor([factor]), RATE)[0]
    assert after.shape == before.shape
    expected = vowel(100, (700 * factor, 2400 * factor))
    for low, high in ((400, 1200), (1700, 3300)):
        moved = centroid(after, low, high) - centroid(before, low, high)
        wanted = centroid(expected, low, high) - centroid(before, low, high)
        assert moved == pytest.approx(wanted, rel=0.45)
    power = spectrum(after)
    harmonics = power[100:3000:100].sum()
    assert harmonics > 100 * power[150:3000:100].sum()  # all energy still lies at multiples of 100 Hz


def test_each_voice_has_its_own_factor_and_a_factor_of_one_changes_nothing():
    voices = torch.stack((vowel(110, (600, 2000)), vowel(220, (600, 2000))))
    moved = move_formants(voices, torch.tensor([1.0, 1.15]), RATE)
    assert moved[0].allclose(voices[0], atol=1e-5)
    alone = move_formants(voices[1:], torch.tensor([1.15]), RATE)
    assert moved[1].allclose(alone[0], atol=1e-6)
    assert not moved[1].allclose(voices[1], atol=1e-2)


def test_silence_stays_silent_and_finite():
    assert move_formants(torch.zeros(1, 1, 5000), torch.tensor([1.2]), RATE).abs().max() == 0


def test_it_works_on_another_device():
    assert move_formants(torch.zeros(2, 1, 5000, device="meta"), torch.tensor([0.9, 1.2]), RATE).is_meta


def test_new_singers_sing_over_the_same_band():
    voice, band = vowel(200, (700, 1800)), torch.randn(1, 24_000, generator=torch.Generator().manual_seed(0))
    sources = torch.stack((voice, band))[None].repeat(2, 1, 1, 1)
    given = [(sources.sum(1), sources)] * 3

    def drawn(seed):
        return list(with_new_singers(given, torch.Generator().manual_seed(seed), RATE))

    found, again = drawn(1), drawn(1)
    for (mixture, parts), (same, _) in zip(found, again, strict=True):
        assert mixture.equal(same) and mixture.allclose(parts.sum(1))
        assert parts[:, 1].equal(sources[:, 1])
    assert not found[0][1][0, 0].allclose(found[0][1][1, 0], atol=1e-3)  # another tract for each of a batch
    assert not found[0][0].allclose(found[1][0], atol=1e-3)
    assert sources[0, 0].equal(voice)  # what was given is not written to


# ---- equalisers --------------------------------------------------------------------------------------------------


def equalised_once(sources, decibels=4.0, seed=0):
    return next(equalised([(None, sources)], torch.Generator().manual_seed(seed), RATE, decibels))


def test_an_equaliser_changes_every_frequency_within_its_bounds_and_smoothly():
    noise = torch.randn(2, 2, 1, 4 * RATE, generator=torch.Generator().manual_seed(3))
    mixture, sources = equalised_once(noise)
    assert mixture.equal(sources.sum(1)) and sources.shape == noise.shape
    before, after = (welch(part.numpy(), RATE, nperseg=512)[1][..., 3:-3] for part in (noise, sources))
    gains = 10 * np.log10(after / before)  # (batch, sources, channels, frequencies)
    assert np.abs(gains).max() < 4.2 and np.abs(np.diff(gains)).max() < 1
    assert (np.ptp(gains, axis=-1) > 1).all()
    assert len({round(float(gain), 3) for gain in gains[..., 20].ravel()}) == 4  # every source of every segment


def test_an_equaliser_treats_left_and_right_alike_and_repeats():
    left = torch.randn(1, 2, 1, 8000, generator=torch.Generator().manual_seed(3))
    stereo = equalised_once(torch.cat((left, -left), dim=2))[1]
    assert stereo[:, :, 0].allclose(-stereo[:, :, 1], atol=1e-5)
    assert stereo[:, :, :1].allclose(equalised_once(left)[1], atol=1e-5)
    assert not stereo[:, :, :1].allclose(equalised_once(left, seed=1)[1], atol=1e-2)
    assert equalised_once(left, decibels=0.0)[1].allclose(left, atol=1e-4)


def test_silence_stays_silent_when_it_is_equalised():
    assert equalised_once(torch.zeros(1, 2, 1, 5000))[1].abs().max() == 0
