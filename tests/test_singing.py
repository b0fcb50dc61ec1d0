"""The singing voice sings the notes, vowels and consonants it was given."""

import numpy as np
import pytest
from listening import heard_pitch, off_harmonics
from scipy.signal import welch

from helpers.data import singing

RATE = 16000


@pytest.mark.parametrize("rate", [16000, 44100])
def test_the_sung_pitch_is_the_intended_one(rate):
    pitches = [45, 52, 57, 64, 69, 62, 76]
    words = [("a", "m"), ("i", "s"), ("o", ""), ("e", "t"), ("u", "l"), ("ae", "k"), ("uh", "n")]
    notes = [
        singing.Note(0.2 + 0.7 * index, 0.9 + 0.7 * index, pitches[index], *word, 1.0, index == 0, index == 6)
        for index, word in enumerate(words)
    ]
    sound = singing.sing(notes, singing.Singer(), 5.5, rate, np.random.default_rng(1))
    for note in notes:
        assert heard_pitch(sound, rate, note.start + 0.15, note.end - 0.1) == pytest.approx(100 * note.pitch, abs=50)


def test_vibrato_sets_in_late_at_its_rate_and_extent():
    singer = singing.Singer(rate=5.6, extent=70, delay=0.3)
    notes = [singing.Note(0.0, 4.0, 60, last=True)]
    curve = singing.pitch_curve(notes, singer, 4 * singing.CONTROL, np.random.default_rng(0))
    cents = 1200 * np.log2(curve / 440) + 6900 - 6000
    swing = np.abs(np.fft.rfft((cents - cents.mean())[200:] * np.hanning(600), 8192))
    rates = np.fft.rfftfreq(8192, 1 / singing.CONTROL)
    assert rates[(swing * (rates > 3)).argmax()] == pytest.approx(5.6, abs=0.4)
    assert 45 < np.sqrt(2) * cents[200:].std() < 100
    assert np.abs(np.diff(cents[5:60])).max() < 0.4 * np.abs(np.diff(cents[200:])).max()


def test_notes_slide_into_each_other():
    notes = [singing.Note(0.0, 1.0, 60), singing.Note(1.0, 2.0, 67, last=True)]
    singer = singing.Singer(extent=0, slide=0.03)
    curve = singing.pitch_curve(notes, singer, 400, np.random.default_rng(0))
    steps = 1200 * np.abs(np.diff(np.log2(curve)))
    assert steps.max() < 100 and (steps > 10).sum() >= 10  # 700 cents in several steps, none a jump


@pytest.mark.parametrize("vowel", ["a", "i", "u"])
def test_vowels_have_the_formants_of_their_table(vowel):
    notes = [singing.Note(0.1, 3.0, 36, vowel, last=True)]  # so low that harmonics show the envelope
    sound = singing.sing(notes, singing.Singer(breath=0.0), 3.0, RATE, np.random.default_rng(2))
    hertz, power = welch(sound[RATE // 2 : -RATE], RATE, nperseg=512, nfft=4096)
    level_db = 10 * np.log10(power)
    first, second, _ = singing.VOWELS[vowel]
    assert hertz[:1600][level_db[:1600].argmax()] == pytest.approx(first, abs=90)
    low, high = {"a": (900, 1500), "i": (1500, 2600), "u": (700, 1500)}[vowel]
    near = (hertz > low) & (hertz < high)
    assert hertz[near][level_db[near].argmax()] == pytest.approx(second, rel=0.12)


def test_hissing_consonants_are_high_and_nothing_is_voiced_during_them():
    notes = [singing.Note(0.5, 1.0, 50, "a", "s", 1.0, True), singing.Note(1.0, 1.6, 50, "a", "s", 1.0, False, True)]
    sound = singing.sing(notes, singing.Singer(), 2.0, RATE, np.random.default_rng(0))
    hiss, vowel = sound[int(0.93 * RATE) : int(0.98 * RATE)], sound[int(0.65 * RATE) : int(0.85 * RATE)]

    def share(piece):
        power = np.abs(np.fft.rfft(piece * np.hanning(len(piece)))) ** 2
        return power[int(3500 / RATE * len(piece)) :].sum() / power.sum()

    assert share(hiss) > 0.6 and share(vowel) < 0.2


def test_silence_is_sung_as_silence():
    assert not singing.sing([], singing.Singer(), 0.5, RATE, np.random.default_rng(0)).any()


def test_loudness_is_evened_out_by_half_and_quiet_breaths_stay_quiet():
    times = np.arange(RATE) / RATE
    levels = (-40, 0, -10, 0)
    sound = np.concatenate([10 ** (level / 20) * np.sin(2 * np.pi * 200 * times) for level in levels])
    even = singing.compressed(sound, RATE).reshape(4, RATE)[:, RATE // 4 : -RATE // 4]
    breath, loud, soft, again = 20 * np.log10(even.std(axis=1))
    assert loud == pytest.approx(again, abs=0.1) and loud - soft == pytest.approx(5, abs=0.2)
    assert breath < loud - 30


def test_the_voice_has_no_aliases():
    smooth, rng = singing.Singer(rough=0.0), np.random.default_rng(0)
    pulses = singing.glottal_pulses(np.full(600, 880.0), np.ones(600), smooth, 3 * RATE, RATE, rng)
    assert off_harmonics(pulses[RATE : 2 * RATE], RATE, 880) < -60
