"""The band: tones and strings without aliases or clicks, and drums that are low or high as they should be."""

import numpy as np
import pytest
from listening import heard_pitch, off_harmonics

from helpers.data import band

RATE = 16000


@pytest.mark.parametrize("pitch", [40, 69, 93])
def test_tones_have_no_aliases(pitch):
    base = 440 * 2 ** ((pitch - 69) / 12)
    saw = 1 / np.arange(1, 61)
    tone = band.drone(pitch, 1.2, RATE, saw, 0.01, 0.05)[RATE // 10 : RATE // 10 + RATE]
    assert off_harmonics(tone, RATE, base) < -60
    string = band.pluck(pitch, RATE, 4.0, 0.1, 8000, 0.2, 0)[RATE // 10 : RATE // 10 + RATE]
    assert off_harmonics(string, RATE, base) < -40
    assert heard_pitch(string, RATE, 0.0, 0.5, high=2000) == pytest.approx(100 * pitch, abs=10)


def test_a_string_dies_away_in_its_time():
    string = band.pluck(57, RATE, 1.0, 0.0, 3000, 0.3, 0)
    early, late = (np.mean(string[at : at + 1600] ** 2) for at in (1600, 9600))
    assert 10 * np.log10(early / late) == pytest.approx(30, abs=2)  # 60 dB a second, half a second apart


@pytest.mark.parametrize("pitch", [28, 45, 64])
def test_a_string_is_heard_once_and_begins_and_ends_without_a_click(pitch):
    string = band.pluck(pitch, RATE, 1.2, 3.0, 600, 0.2, 0)
    end = np.abs(string[-RATE // 10 :]).max()
    assert max(abs(string[0]), abs(string[-1]), end) < 0.01 * np.abs(string).max()


def test_the_drum_kit_has_a_low_kick_and_a_high_hat():
    def centre(sound):
        power = np.abs(np.fft.rfft(sound)) ** 2
        return (power * np.fft.rfftfreq(len(sound), 1 / 44100)).sum() / power.sum()

    for seed in range(5):
        kit = band.draw_kit(44100, np.random.default_rng(seed), np.random.default_rng(100 + seed))
        assert centre(kit["kick"][0]) < 500 < centre(kit["snare"][0]) < 6500 < centre(kit["hat"][0])
        assert not np.array_equal(kit["snare"][0], kit["snare"][1])
