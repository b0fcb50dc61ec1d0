"""A separator at several speeds: estimates are set back to the mixture's, and their mean is taken."""

import math

import pytest
import torch

from helpers.separation import every_speed
from helpers.separation.every_speed import EverySpeed


def sines(seconds=2.0, sample_rate=16_000):
    """Return two sines (2, time)."""
    time = torch.arange(round(seconds * sample_rate)) / sample_rate
    return torch.stack([0.4 * torch.sin(2 * math.pi * hertz * time) for hertz in (440.0, 1000.0)])


def pitch(waveform, sample_rate):
    """Return the frequency of the highest peak of the spectrum, to half a hertz."""
    window = torch.hann_window(waveform.shape[-1])
    return float(torch.fft.rfft(waveform[0] * window, 2 * sample_rate).abs().argmax()) / 2


def test_estimates_of_every_speed_are_set_back_to_the_mixture_s():
    separate = EverySpeed(lambda wave, _: {"half": wave / 2, "none": 0 * wave})
    for rate, length in ((8000, 999), (44_100, 1), (44_100, 30_011)):
        wave = sines(length / rate, rate)
        estimates = separate(wave, rate)
        assert estimates["half"].shape == wave.shape and not estimates["none"].any()
        inside = slice(500, -500)  # a resampled tone rings where it begins and ends
        assert (estimates["half"] - wave / 2)[:, inside].abs().sum() <= 2e-4 * max(1, length)


def test_every_speed_is_heard_at_its_pitch_and_counts_alike(monkeypatch):
    heard = []
    monkeypatch.setattr(every_speed, "SEMITONES", (-12.0, 0.0, 3.0))

    def separator(waveform, sample_rate):
        heard.append(pitch(waveform, sample_rate))
        return {"number": torch.full_like(waveform, len(heard))}

    wave = sines()[:1]
    found = EverySpeed(separator)(wave, 16_000)
    assert heard == pytest.approx([220, 440, 440 * 2**0.25], abs=0.75)
    assert found["number"][:, 500:-500].numpy() == pytest.approx(2.0, abs=1e-3)  # the mean of 1, 2 and 3


def test_what_no_speed_can_hold_goes_to_the_rest():
    class Halves:
        rest = "band"

        def __call__(self, waveform, sample_rate):
            return {"voice": waveform / 2, "band": waveform / 2}

    wave = torch.randn(1, 16_000, generator=torch.Generator().manual_seed(0))  # noise: energy up to half the rate
    estimates = EverySpeed(Halves())(wave, 16_000)
    assert (sum(estimates.values()) - wave).abs().max() < 1e-5 < (estimates["voice"] - wave / 2).abs().max()
