"""The embedded data: songs with a voice that is in tune and distinct from its band, garments that differ by class."""

import librosa
import numpy as np
import pytest
import torch
from scipy.signal import welch
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier

from helpers.data import embedded, images

RATE = 16_000


# ---- songs -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [8000, 44_100])
def test_a_song_has_four_stems_whose_sum_does_not_clip_and_comes_again_from_its_seed(rate):
    stems = embedded.song(7, 3.0, rate)
    assert list(stems) == ["vocals", "drums", "bass", "other"]
    for stem in stems.values():
        assert stem.shape == (2, 3 * rate) and stem.dtype == torch.float32 and stem.isfinite().all() and stem.any()
    assert 0.3 < sum(stems.values()).abs().max() < 1
    embedded.song.cache_clear()
    np.random.seed(1)
    again, other = embedded.song(7, 3.0, rate), embedded.song(8, 3.0, rate)
    assert all(torch.equal(stems[name], again[name]) for name in stems)
    assert not torch.equal(stems["vocals"], other["vocals"])


@pytest.mark.parametrize(("vowel", "pitch"), [("a", 45), ("e", 57), ("i", 64), ("u", 72)])
def test_the_voice_sings_the_note_it_is_given(vowel, pitch):
    voice = embedded.sung(pitch, 0.7, vowel, 1.05, RATE)
    heard = librosa.hz_to_midi(librosa.yin(voice, fmin=70, fmax=700, sr=RATE))
    time = librosa.times_like(heard, sr=RATE)
    assert np.median(heard[(time > 0.15) & (time < 0.6)]) == pytest.approx(pitch, abs=0.3)


def test_pulses_are_harmonic_and_free_of_aliases():
    wave = embedded.pulses(np.full(RATE, 69.0), RATE)  # one second at 440 Hz
    power = np.abs(np.fft.rfft(wave)) ** 2
    harmonics = np.zeros(len(power), bool)
    harmonics[440 : int(embedded.HIGHEST * RATE) + 1 : 440] = True
    assert power[~harmonics].max() < 1e-6 * power[harmonics].min()
    np.testing.assert_allclose(power[harmonics], (RATE / 2) ** 2, rtol=1e-3)  # each harmonic has amplitude 1


@pytest.mark.parametrize("vowel", embedded.VOWELS)
def test_vowels_have_the_formants_of_their_table(vowel):
    voice = embedded.sung(33, 2.9, vowel, 1.1, RATE)  # so low that the harmonics show the formants
    hertz, power = welch(voice[RATE // 2 : 2 * RATE], RATE, nperseg=512, nfft=4096)
    for formant in embedded.VOWELS[vowel][:2]:
        near, beyond = (power[abs(hertz / (1.1 * formant) - 1) < width].max() for width in (0.15, 0.25))
        assert near == beyond, formant


@pytest.mark.parametrize("seed", range(3))
def test_the_stems_lie_where_their_instruments_do_and_the_voice_pauses(seed):
    stems = {name: stem.mean(dim=0).numpy() for name, stem in embedded.song(seed, 12.0, RATE).items()}
    centre = {}
    for name, stem in stems.items():
        hertz, power = welch(stem, RATE, nperseg=2048)
        centre[name] = (hertz * power).sum() / power.sum()
    assert centre["bass"] < 150 < centre["other"] < 1200 and 250 < centre["vocals"] < 1500
    band = stems["drums"] + stems["bass"] + stems["other"]
    assert abs(10 * np.log10(stems["vocals"].var() / band.var())) < 6
    loud = librosa.feature.rms(y=stems["vocals"])[0] > 0.05 * stems["vocals"].std()
    assert 0.4 < loud.mean() < 0.97


def test_a_good_mask_separates_the_songs_and_a_fixed_equaliser_does_not():
    ideal, fixed = [], []
    for seed in range(3):
        stems = {name: stem.mean(dim=0).numpy() for name, stem in embedded.song(seed, 12.0, RATE).items()}
        voice, band = (librosa.stft(wave, n_fft=1024) for wave in (stems.pop("vocals"), sum(stems.values())))
        power = np.abs(voice) ** 2, np.abs(band) ** 2
        means = [part.mean(axis=1, keepdims=True) for part in power]
        for (one, two), scores in ((power, ideal), (means, fixed)):
            estimate = one / (one + two + 1e-12) * (voice + band)
            scores.append(10 * np.log10(power[0].sum() / (np.abs(voice - estimate) ** 2).sum()))
    assert 10 < np.mean(ideal) < 25 and np.mean(ideal) - np.mean(fixed) > 4


def test_the_splits_share_no_song_and_a_track_is_read_in_parts_at_any_rate():
    parts = {split: embedded.songs(split) for split in embedded.SONGS}
    assert [len(part) for part in parts.values()] == [80, 20, 20]
    assert len({track.stems["vocals"][0].seed for part in parts.values() for track in part}) == 120
    track = parts["test"][1].at(8000, mono=True)
    assert (track.sample_rate, track.channels, track.seconds, track.split) == (8000, 1, 20.0, "test")
    song = embedded.song(2_000_001, 20.0, 8000)
    part = track.source("drums", 5000, 100)
    torch.testing.assert_close(part, song["drums"].mean(dim=0, keepdim=True)[:, 5000:5100])
    torch.testing.assert_close(track.mixture, sum(song.values()).mean(dim=0, keepdim=True))
    part.zero_()
    assert track.source("drums", 5000, 100).any()  # what is kept of a song cannot be changed through a part of it


# ---- images ------------------------------------------------------------------------------------------------------


def test_garments_come_in_equal_classes_again_from_a_seed_and_no_two_are_the_same():
    drawn, labels = embedded.draw_garments(400, seed=4)
    again, same = embedded.draw_garments(400, seed=4)
    assert drawn.shape == (400, 28, 28) and drawn.dtype == np.uint8
    assert np.array_equal(drawn, again) and np.array_equal(labels, same)
    assert np.bincount(labels).tolist() == [40] * 10 and (np.diff(labels) != 0).mean() > 0.5
    other, _ = embedded.draw_garments(400, seed=5)
    assert len({image.tobytes() for image in (*drawn, *other)}) == 800


def test_garments_are_as_bright_as_fashion_mnist_and_their_class_can_be_seen():
    drawn, labels = embedded.draw_garments(1000, seed=1)
    values = drawn / 255
    assert values.mean() == pytest.approx(0.286, abs=0.05)  # the mean of Fashion-MNIST's training images
    assert (values > 0.05).mean() == pytest.approx(0.463, abs=0.05)  # and the share of their pixels with a garment
    assert (values[:, [0, -1]][:, :, [0, -1]] > 0).mean() < 0.05  # the corners are empty
    flat = values.reshape(len(values), -1)
    score = KNeighborsClassifier(3).fit(flat[:800], labels[:800]).score(flat[800:], labels[800:])
    assert 0.6 < score < 0.99  # neither noise nor copies


def test_embedded_images_share_no_writer_and_no_garment_and_digits_look_like_mnist():
    parts = [images.embedded_images(split) for split in images.FORMS]
    assert [len(part.digits) for part in parts] == [1287, 258, 252]
    counting = load_digits().target
    for start, _ in images.FORMS.values():  # every writer's form begins by counting
        assert counting[start : start + 10].tolist() == list(range(10)) and counting[start - 1] == 8
    garments = [{image.numpy().tobytes() for image in part.garments} for part in parts]
    assert len(set.union(*garments)) == sum(map(len, garments)) == sum(count for count, _ in images.DRAWN.values())
    for part in parts:
        assert part.embedded and set(part.digit_labels.tolist()) == set(part.garment_labels.tolist()) == set(range(10))
    values = parts[0].digits.float() / 255
    assert values.mean() == pytest.approx(0.131, abs=0.03)  # MNIST's
    assert (values > 0.05).any(dim=2).sum(dim=1).float().mean() == pytest.approx(19.7, abs=1.5)  # height of a digit
