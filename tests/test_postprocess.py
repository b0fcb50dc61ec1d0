"""Post-processing: the denoiser on sounds made for it, filters against SciPy's formulas."""

import functools

import numpy as np
import pytest
import torch
from scipy import signal
from toy_corpus import track_of

from helpers.separation.postprocess import (
    Postprocessed,
    Remembered,
    Rest,
    denoise,
    envelope,
    high_pass,
    low_pass,
    pause_level,
    sweep,
)

RATE = 1000


def noise(channels, frames, level, seed=0):
    return level * torch.randn(channels, frames, generator=torch.Generator().manual_seed(seed))


def burst_in_hiss(channels=1, frames=4000, start=1500, stop=2200):
    """Hiss of RMS 0.01 with a loud sound in it."""
    sound = noise(channels, frames, 0.01)
    sound[:, start:stop] += 0.5 * torch.sin(0.6 * torch.arange(stop - start))
    return sound


def sine(hertz, frames=4000):
    return torch.sin(2 * torch.pi * hertz / RATE * torch.arange(frames))[None]


# ---- the denoiser ------------------------------------------------------------------------------------------------


def test_the_envelope_is_scipys():
    sound = noise(2, 4000, 0.3)  # 4000 = 2⁵·5³ is fast as it is
    assert np.allclose(envelope(sound), np.abs(signal.hilbert(sound.double().numpy())))
    steady = envelope(sine(50, 4001))  # prime
    assert steady.shape == (1, 4001) and np.allclose(steady[:, 500:3500], 1, atol=0.01)


@pytest.mark.parametrize("settings", [{"statistic": "median", "softness": 0.5}, {"statistic": "mean", "softness": 2}])
def test_a_burst_in_hiss_stays_and_the_hiss_goes(settings):
    sound = burst_in_hiss(2)
    sound[1, 1500:2200] *= 0.01  # the right is quiet there, and belongs to the left
    clean = denoise(sound, RATE, **settings)
    assert clean.shape == sound.shape and clean.dtype == sound.dtype
    assert clean[:, 1500:2200].equal(sound[:, 1500:2200])
    assert not clean[:, :1200].any() and not clean[:, 2500:].any()
    assert (clean.abs() <= sound.abs()).all()


def test_nothing_is_ever_amplified():
    sound = noise(2, 3001, 1.0) * torch.rand(1, 3001, generator=torch.Generator().manual_seed(0)) ** 4
    sound[:, 1000:1500] *= 0.01
    clean = denoise(sound, RATE, softness=1.0, fade=0.1)
    assert (clean.abs() <= sound.abs()).all() and (clean * sound >= 0).all() and not clean.equal(sound)


def test_silence_and_a_single_sample():
    assert denoise(torch.zeros(2, 3000), RATE).equal(torch.zeros(2, 3000))
    assert denoise(torch.ones(1, 1), RATE).equal(torch.ones(1, 1))


def test_a_steady_sound_stays():
    assert denoise(sine(50), RATE).equal(sine(50))


def plainly_denoised(sound, window, hop, measure, softness, fade):
    """The same in plain loops, of one channel and in samples."""
    loudness = np.abs(signal.hilbert(sound))
    threshold = measure(loudness) / softness
    starts = [*range(0, len(sound) - window, hop), len(sound) - window]
    quiet = [measure(loudness[start : start + window]) < threshold for start in starts]
    gain = np.ones(len(sound))
    for number, start in enumerate(starts):
        before = number == 0 or quiet[number - 1]
        after = number == len(starts) - 1 or quiet[number + 1]
        if before and quiet[number] and after:
            for step in range(fade):
                for place in (start - step, start + window - 1 + step):
                    if 0 <= place < len(sound):
                        gain[place] = min(gain[place], step / fade)
            gain[start : start + window] = 0
    return gain * sound


@pytest.mark.parametrize("statistic, measure", [("median", np.median), ("mean", np.mean)])
def test_it_is_what_plain_loops_give(statistic, measure):
    sound = noise(1, 2000, 1.0, 3) * (1.1 + torch.sin(torch.arange(2000) / 150))
    clean = denoise(sound, RATE, window=0.1, hop=0.05, statistic=statistic, softness=1.2, fade=0.06)
    expected = plainly_denoised(sound[0].double().numpy(), 100, 50, measure, 1.2, 60)
    assert np.allclose(clean[0].numpy(), expected, atol=1e-6) and (expected == 0).any() and (expected != 0).any()


def test_softer_mutes_less():
    sound = noise(1, 4000, 1.0) * (1.1 + torch.sin(torch.arange(4000) / 150))
    kept = [int((denoise(sound, RATE, softness=softness, fade=0) != 0).sum()) for softness in (0.25, 1, 1.5, 8)]
    assert kept == sorted(kept) and kept[0] == 0 and kept[-1] == 4000 and len(set(kept)) == 4


def test_a_short_sound_between_two_silences_stays():
    sound = sine(125, 1000)
    sound[:, :400] *= 0.01
    sound[:, 500:] *= 0.01
    clean = denoise(sound, RATE, window=0.1, hop=0.1, statistic="mean", softness=1.0, fade=0.0)
    assert not clean[:, :299].any() and not clean[:, 601:].any()
    assert clean[:, 300:600].equal(sound[:, 300:600])  # its neighbours are left to fade


def test_fades_are_straight_lines_into_the_muted_place():
    sound = torch.cat((torch.ones(1, 1000), 0.01 * torch.ones(1, 1000), torch.ones(1, 1000)), dim=1) * sine(250, 3000)
    gain = (denoise(sound, RATE, softness=1.0, fade=0.2) / sound)[0]
    muted = (gain == 0).nonzero().flatten()
    inside = sound[0].abs() > 1e-6
    steps = torch.arange(1, 150)
    before, after = gain[muted[0] - steps], gain[muted[-1] + steps]
    assert before[inside[muted[0] - steps]].allclose((steps / 200)[inside[muted[0] - steps]], atol=1e-5)
    assert after[inside[muted[-1] + steps]].allclose((steps / 200)[inside[muted[-1] + steps]], atol=1e-5)


def test_settings_that_make_no_sense_are_refused():
    for settings in ({"hop": 0.2}, {"hop": 0}, {"softness": 0}, {"fade": -1}, {"window": 0}):
        with pytest.raises(ValueError):
            denoise(sine(50), RATE, **settings)


# ---- filters -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function, kind", [(low_pass, "lowpass"), (high_pass, "highpass")])
def test_filters_have_butterworths_response_twice_and_no_delay(function, kind):
    sections = signal.butter(4, 100, kind, fs=RATE, output="sos")
    middle = slice(1000, 3000)
    for hertz in (20, 90, 100, 150, 400):
        _, response = signal.sosfreqz(sections, [hertz], fs=RATE)
        filtered = function(sine(hertz), RATE, 100)
        assert filtered[:, middle].allclose(abs(response[0]) ** 2 * sine(hertz)[:, middle], atol=2e-4)
    for frames in (1, 2, 17):
        sound = noise(2, frames, 0.1)
        assert function(sound, RATE, 100).shape == sound.shape and function(sound, RATE, 100).dtype == torch.float32


def test_filters_leave_silence_and_refuse_odd_cutoffs():
    assert not low_pass(torch.zeros(1, 100), RATE, 100).any()
    for cutoff in (0, 500, 600):
        with pytest.raises(ValueError, match="critical frequencies"):
            high_pass(sine(50), RATE, cutoff)


# ---- behind a Separator ------------------------------------------------------------------------------------------


def halves(waveform, sample_rate):
    return {"vocals": 0.5 * waveform, "accompaniment": 0.5 * waveform}


def test_a_separator_is_made_of_a_separator():
    sound = burst_in_hiss(2)
    steps = {"vocals": [functools.partial(high_pass, cutoff=20), functools.partial(denoise, softness=0.5)]}
    estimates = Postprocessed(halves, steps)(sound, RATE)
    expected = denoise(high_pass(0.5 * sound, RATE, 20), RATE, softness=0.5)
    assert list(estimates) == ["vocals", "accompaniment"]
    assert estimates["vocals"].equal(expected) and estimates["accompaniment"].equal(0.5 * sound)


# ---- Separators around others, and many steps at once --------------------------------------------------------------


def half(waveform, sample_rate):
    """A Separator that gives half of everything to the voice, and nothing to the rest."""
    return {"vocals": waveform / 2, "accompaniment": 0 * waveform}


def test_the_other_source_is_the_rest_of_the_mixture():
    wave = noise(1, 500, 0.1)
    estimates = Rest(half, "vocals")(wave, RATE)
    assert torch.equal(estimates["vocals"], wave / 2) and torch.equal(estimates["accompaniment"], wave - wave / 2)


def test_a_waveform_is_separated_once():
    asked = []

    def separate(waveform, sample_rate):
        asked.append(sample_rate)
        return half(waveform, sample_rate)

    remembered, wave = Remembered(separate), noise(1, 500, 0.1)
    first, again = remembered(wave, RATE), remembered(wave.clone(), RATE)
    assert asked == [RATE] and torch.equal(first["vocals"], again["vocals"])
    remembered(2 * wave, RATE)
    remembered(wave, 2 * RATE)
    assert asked == [RATE, RATE, 2 * RATE]


def song_with_a_pause():
    """Two seconds of a voice that is silent in the second one, over a band; 1,000 Hz."""
    voice, band = noise(1, 2000, 0.1), noise(1, 2000, 0.1, seed=1)
    voice[:, 1000:] = 0
    return track_of("song", RATE, {"vocals": voice, "accompaniment": band})


def test_the_level_in_pauses_is_that_of_the_estimate_over_the_mixture_there():
    song = song_with_a_pause()
    assert pause_level(song, song.mixture / 10) == pytest.approx(-20, abs=1e-3)
    loud = song.mixture.clone()
    loud[:, :1000] *= 100  # where somebody sings it does not count
    assert pause_level(song, loud / 10) == pytest.approx(-20, abs=1e-3)


def test_a_sweep_puts_the_step_first_that_helps_most():
    song = song_with_a_pause()
    cut = torch.cat((torch.ones(1, 1000), torch.zeros(1, 1000)), dim=1)
    steps = {"cut": lambda voice, rate: cut * voice, "nothing": lambda voice, rate: voice}
    rows = sweep(half, [song, song], steps)
    assert rows[0]["step"] == "cut" and {row["step"] for row in rows} == {"cut", "nothing", "as it is"}
    assert rows[1]["SDR"] == rows[2]["SDR"] < rows[0]["SDR"] and rows[0]["pauses"] < -60 < rows[1]["pauses"]


def test_what_is_remembered_is_bounded_and_cannot_be_changed(monkeypatch):
    monkeypatch.setattr("helpers.separation.postprocess.MEMORY", 3 * 2 * 500 * 4)  # three pairs of 500 floats
    asked = []

    def separate(waveform, sample_rate):
        asked.append(float(waveform[0, 0]))
        return {"vocals": waveform / 2, "accompaniment": waveform / 2}

    remembered = Remembered(separate)
    for level in (1, 2, 3, 4, 4, 2, 1):  # the oldest goes first
        remembered(torch.full((1, 500), float(level)), RATE).clear()
    assert asked == [1, 2, 3, 4, 1] and len(remembered.known) == 3
    assert set(remembered(torch.ones(1, 500), RATE)) == {"vocals", "accompaniment"}


def test_pauses_are_below_a_thousandth_of_the_voice_s_peak_and_a_song_may_have_none():
    voice, band = torch.ones(1, 2000), torch.ones(1, 2000)
    for level, expected in ((0.9e-3, -20.0), (1.1e-3, None)):
        for loudness in (1.0, 100.0):  # relative to the voice itself
            quiet = voice.clone()
            quiet[:, 1000:] = level
            song = track_of("song", 1000, {"vocals": loudness * quiet, "accompaniment": band})
            found = pause_level(song, song.mixture / 10)
            assert found is expected if expected is None else found == pytest.approx(expected, abs=1e-3)
