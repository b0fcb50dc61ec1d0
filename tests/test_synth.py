"""The embedded songs: what every song must hold to, and that they are worth separating."""

import numpy as np
import pytest
import torch
from listening import heard_pitch
from scipy.signal import stft, welch

from helpers.data import corpora, synth

RATE = 16000


@pytest.fixture(scope="module")
def songs():
    return {seed: synth.arrange(seed, 12.0, RATE) for seed in range(5)}


def level(sound, rate, low, high):
    """The mean power density between two frequencies, in dB."""
    hertz, power = welch(sound, rate, nperseg=2048)
    return 10 * np.log10(power[(hertz >= low) & (hertz < high)].mean())


# ---- songs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rate", "channels", "seconds"), [(16000, 2, 3.0), (32000, 1, 2.5), (44100, 2, 1.7)])
def test_a_song_has_four_stems_whose_sum_does_not_clip(rate, channels, seconds):
    stems = synth.song(7, seconds, rate, channels)
    assert list(stems) == ["vocals", "drums", "bass", "other"]
    for stem in stems.values():
        assert stem.shape == (channels, round(seconds * rate)) and stem.dtype == torch.float32
        assert torch.isfinite(stem).all()
    assert 0.3 < sum(stems.values()).abs().max() < 1


def test_mono_is_the_mean_of_the_two_channels():
    mono, stereo = synth.song(3, 2.0, RATE, 1), synth.song(3, 2.0, RATE, 2)
    for name, stem in mono.items():
        torch.testing.assert_close(stem, stereo[name].mean(dim=0, keepdim=True))
    assert not torch.equal(stereo["other"][0], stereo["other"][1])


def test_a_seed_is_a_song_whatever_else_draws_numbers():
    np.random.seed(0)
    torch.manual_seed(0)
    first = synth.song(5, 2.0, RATE)
    state, torch_state = np.random.get_state()[1].copy(), torch.random.get_rng_state()
    np.random.seed(1)
    torch.manual_seed(1)
    again, other = synth.song(5, 2.0, RATE), synth.song(6, 2.0, RATE)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["vocals"], other["vocals"])
    np.random.seed(0)
    torch.manual_seed(0)
    assert (np.random.get_state()[1] == state).all() and torch.equal(torch.random.get_rng_state(), torch_state)


@pytest.mark.parametrize("arguments", [{"seconds": 0}, {"seconds": np.nan}, {"sample_rate": 4000}, {"channels": 3}])
def test_impossible_songs_are_refused(arguments):
    with pytest.raises(ValueError, match="a song"):
        synth.song(0, **arguments)


@pytest.mark.parametrize("seconds", [0.02, 0.3, 1.0])
def test_very_short_songs_are_songs(seconds):
    for seed in range(3):
        mixture = sum(synth.song(seed, seconds, 8000).values())
        assert mixture.shape == (2, round(seconds * 8000)) and torch.isfinite(mixture).all() and mixture.abs().max() < 1


def test_the_voice_sings_about_half_of_the_time_in_phrases_with_pauses():
    shares, pauses = [], 0
    for seed in range(40):
        rngs = np.random.default_rng(seed).spawn(2)
        plan = synth.draw_plan(20.0, rngs[0])
        notes = synth.draw_melody(plan, rngs[1])
        assert all(note.start < note.end <= 20 for note in notes)
        assert all(note.end <= after.start + 1e-9 for note, after in zip(notes, notes[1:], strict=False))
        assert notes[0].first and notes[-1].last
        shares.append(sum(note.end - note.start for note in notes) / 20)
        pauses += sum(after.start - note.end > 0.1 for note, after in zip(notes, notes[1:], strict=False))
    assert min(shares) > 0.25 and max(shares) < 0.9 and 0.45 < np.mean(shares) < 0.75
    assert pauses > 3 * 40


def test_the_voice_is_silent_where_nothing_is_sung_and_as_loud_as_the_band_where_it_is(songs):
    quiet = []
    for stems, _, notes in songs.values():
        time = np.arange(stems["vocals"].shape[1]) / RATE
        sung, near = np.zeros((2, len(time)), bool)
        for note in notes:
            sung |= (time >= note.start) & (time < note.end)
            near |= (time >= note.start - 0.8) & (time < note.end + 1.5)  # a breath before, the room after
        band_sound = stems["drums"] + stems["bass"] + stems["other"]
        voice, rest = (np.mean(sound[:, sung] ** 2) for sound in (stems["vocals"], band_sound))
        assert abs(10 * np.log10(voice / rest)) < 3.01
        quiet.append((~near).mean())
        if not near.all():
            assert np.mean(stems["vocals"][:, ~near] ** 2) < 1e-4 * voice
    assert max(quiet) > 0.05  # so the line above was put to use


def test_melodies_stay_in_the_key_and_on_the_chords(songs):
    for _, plan, notes in songs.values():
        assert all(note.pitch % 12 in plan.scale for note in notes)
        ends = [note for note in notes[:-1] if note.last]
        assert ends and all(note.pitch % 12 in plan.chord(note.start) for note in ends)
        assert all(0 <= note.pitch - plan.singer.lowest <= 16 for note in notes)


def test_the_band_plays_the_chords(songs):
    for stems, plan, _ in songs.values():
        if stems["bass"].any():
            assert level(stems["bass"][0], RATE, 1500, 8000) < level(stems["bass"][0], RATE, 30, 300) - 20
        hertz, frames, spectrum = stft(stems["other"].mean(axis=0), RATE, nperseg=8192)
        use = (hertz > 150) & (hertz < 800)
        pitch = np.round(69 + 12 * np.log2(hertz[use] / 440)).astype(int) % 12
        energy = np.abs(spectrum[use]) ** 2
        inside = sum(energy[np.isin(pitch, plan.chord(time)), i].sum() for i, time in enumerate(frames))
        assert inside / energy.sum() > 0.6  # three of twelve pitch classes would have a quarter by chance


def test_songs_differ_in_key_metre_tempo_and_singer_and_some_lack_a_stem():
    plans = [synth.draw_plan(20.0, np.random.default_rng(seed)) for seed in range(60)]
    assert {plan.beats for plan in plans} == {3, 4, 6}
    assert len({plan.scale[0] for plan in plans}) == 12
    assert len({tuple(np.diff(plan.scale) % 12) for plan in plans}) == 2
    lowest = [plan.singer.lowest for plan in plans]
    assert min(lowest) <= 46 and max(lowest) >= 58
    assert any(plan.intro for plan in plans) and not all(plan.intro for plan in plans)
    silent = [name for seed in range(40) for name, stem in synth.song(seed, 4.0, 8000, 1).items() if not stem.any()]
    assert {"drums", "bass"} == set(silent) and len(silent) < 15


def test_a_song_is_the_same_at_every_sample_rate():
    low, high = (synth.arrange(11, 4.0, rate)[0] for rate in (RATE, 44100))
    for name in synth.STEMS:
        for start, end in ((60, 300), (300, 1200), (1200, 3000), (3000, 6500)):
            energies = []
            for sound, rate in ((low[name], RATE), (high[name], 44100)):
                hertz = np.fft.rfftfreq(sound.shape[1], 1 / rate)
                power = np.abs(np.fft.rfft(sound)) ** 2 / rate**2
                energies.append(power[:, (hertz >= start) & (hertz < end)].sum() + 1e-9)
            assert abs(10 * np.log10(energies[0] / energies[1])) < 3, (name, start)  # room and breath are other noise


def test_whole_songs_are_sung_at_the_pitch_of_their_notes(songs):
    errors = []
    for stems, _, notes in songs.values():
        for note in notes:
            if note.end - note.start > 0.5:
                found = heard_pitch(stems["vocals"][0], RATE, note.start + 0.15, note.end - 0.1)
                errors.append(abs(found - 100 * note.pitch))
    assert len(errors) > 20
    assert np.mean(np.array(errors) < 50) > 0.9  # the room rings on from the note before


# ---- the corpus ------------------------------------------------------------------------------------------------------


def test_no_song_is_in_two_splits():
    seeds = {split: {track.tags["seed"] for track in synth.corpus(split)} for split in synth.SPLITS}
    assert [len(group) for group in seeds.values()] == [80, 20, 20]
    assert len(set.union(*seeds.values())) == 120
    ranges = sorted((first, first + synth.ROOM) for first, _ in synth.SPLITS.values())
    assert all(end <= start for (_, end), (start, _) in zip(ranges, ranges[1:], strict=False))


def test_a_track_is_its_song_and_is_read_in_parts():
    track = synth.corpus("test", count=2, seconds=2.0, sample_rate=RATE)[1]
    expected = synth.song(track.tags["seed"], 2.0, RATE)
    assert track.sample_rate == RATE and track.frames == 32000 and track.channels == 2
    assert track.split == "test" and list(track.sources) == list(synth.STEMS)
    torch.testing.assert_close(track.sources["vocals"], expected["vocals"])
    torch.testing.assert_close(track.mixture, sum(expected.values()))
    part = track.stems["drums"][0].read(5000, 100)
    torch.testing.assert_close(part, expected["drums"][:, 5000:5100])
    part.zero_()
    torch.testing.assert_close(track.sources["drums"], expected["drums"])


def test_another_rate_is_made_not_resampled():
    stem = synth.corpus("train", count=1, seconds=1.0)[0].stems["bass"][0].at(8000, mono=True)
    assert (stem.shape.sample_rate, stem.shape.channels, stem.shape.frames) == (8000, 1, 8000)
    torch.testing.assert_close(stem.read(0, 8000), synth.song(0, 1.0, 8000, 1)["bass"])


def test_the_corpora_take_the_songs_where_there_are_no_recordings():
    corpus = corpora.embedded_corpus("mir1k", "validation")
    assert corpus.embedded and len(corpus.tracks) == 20
    track = corpus.tracks[0]
    assert list(track.stems) == ["vocals", "accompaniment"] and track.sample_rate == 16000 and track.channels == 1


@pytest.mark.parametrize(("split", "count"), [("dev", None), ("train", 0), ("test", 10**7)])
def test_impossible_splits_are_refused(split, count):
    with pytest.raises(ValueError, match="split"):
        synth.corpus(split, count)


# ---- is it worth separating ------------------------------------------------------------------------------------------


def test_masks_can_separate_the_songs_and_a_filter_cannot(songs):
    ideal, fixed = [], []
    for stems, _, _ in songs.values():
        voice = stems["vocals"].mean(axis=0)
        rest = sum(stems[name] for name in ("drums", "bass", "other")).mean(axis=0)
        voice, rest = voice / voice.std(), rest / rest.std()
        one, two = (stft(sound, RATE, nperseg=1024, noverlap=768)[2] for sound in (voice, rest))
        power = np.abs(one) ** 2, np.abs(two) ** 2

        def score(mask, one=one, two=two):
            return 10 * np.log10((np.abs(one) ** 2).sum() / (np.abs(one - mask * (one + two)) ** 2).sum())

        ideal.append(score(power[0] / (power[0] + power[1] + 1e-12)))
        means = power[0].mean(axis=1), power[1].mean(axis=1)
        fixed.append(score((means[0] / (means[0] + means[1] + 1e-12))[:, None]))  # the best fixed equaliser
    assert 10 < np.mean(ideal) < 20
    assert np.mean(ideal) - np.mean(fixed) > 4
