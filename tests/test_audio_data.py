"""AudioData's items against librosa's chain; any file becomes one size, and a bad one is named."""

import pickle

import librosa
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader
from toy_corpus import RATE, STEMS, make

from helpers.data import audio
from helpers.data.audio_data import AudioData, mixture_files
from helpers.data.corpora import load_corpus
from helpers.runtime import UserError


def noise(channels, frames, seed=0):
    fading = torch.linspace(0, -5, frames).exp()  # some frames fall below the floor
    return 0.2 * fading * torch.randn(channels, frames, generator=torch.Generator().manual_seed(seed)).clamp(-4, 4)


def written(path, wave, rate=44_100):
    audio.write_audio(path, wave, rate, "FLOAT")
    return path


@pytest.mark.parametrize("hop_length", [128, 256])
def test_an_item_is_librosa_s_spectrogram_in_decibels_scaled(tmp_path, hop_length):
    wave = noise(2, 22_050)
    file = written(tmp_path / "a.wav", wave)
    (item,) = AudioData([file], 0.5, hop_length)
    mono = wave.mean(0).numpy()
    magnitudes = np.abs(librosa.stft(mono, n_fft=512, hop_length=hop_length, pad_mode="constant"))
    loudness = np.sqrt(np.mean(mono**2) * np.sum(np.hanning(513)[:-1] ** 2))  # of white noise as loud, in every bin
    levels = librosa.amplitude_to_db(magnitudes, ref=loudness, amin=1e-10, top_db=None)
    assert item.dtype == torch.float32 and item.shape[:2] == (1, 257)
    frames = levels.shape[1]  # ours has one more where the end would lie under a window's edge
    assert 0 <= item.shape[2] - frames <= 1
    np.testing.assert_allclose(item[0, :, :frames], np.maximum(0, (levels + 60) / 80), atol=2e-4)
    assert float(item.min()) == 0 < 0.7 < float(item.max()) < 1


@pytest.mark.parametrize(
    "rate, channels, seconds", [(44_100, 1, 1.0), (16_000, 1, 0.4), (48_000, 2, 2.3), (8000, 3, 1)]
)
def test_every_file_becomes_one_size(tmp_path, rate, channels, seconds):
    wave = noise(channels, round(seconds * rate))
    data = AudioData([written(tmp_path / "a.wav", wave, rate)], seconds=1.0)
    expected = audio.resample(wave.mean(0, keepdim=True), rate, 44_100)[:, :44_100]
    found = data.waveform(0)
    assert found.shape == (1, 44_100) and data[0].shape == (1, 257, 173)
    middle = slice(0, expected.shape[1] - 500)  # a resampled end sees what follows it or not
    torch.testing.assert_close(found[:, : expected.shape[1]][:, middle], expected[:, middle], atol=1e-4, rtol=0)
    assert not found[:, expected.shape[1] :].any()


def test_the_level_of_a_file_does_not_matter_and_silence_is_black(tmp_path):
    wave = noise(1, 8000)
    files = [written(tmp_path / f"{gain}.wav", gain * wave, 16_000) for gain in (1.0, 0.01, 0.0)]
    loud, quiet, silent = AudioData(files, 0.5)
    torch.testing.assert_close(loud, quiet, atol=1e-4, rtol=0)
    assert not silent.any()


def test_a_loader_makes_batches_of_it_with_and_without_workers(tmp_path):
    data = AudioData([written(tmp_path / f"{n}.wav", noise(1, 4000 + 100 * n, n), 16_000) for n in range(5)], 0.25)
    assert len(data) == 5
    batches = list(DataLoader(data, batch_size=2))
    assert [len(batch) for batch in batches] == [2, 2, 1] and batches[0].shape == (2, 1, 257, 44)
    assert torch.equal(pickle.loads(pickle.dumps(data))[4], data[4])  # as where workers are spawned
    for here, there in zip(batches, DataLoader(data, batch_size=2, num_workers=1), strict=True):
        assert torch.equal(here, there)


@pytest.mark.parametrize("content", [None, b"", b"no sound at all" * 50])
def test_a_bad_file_is_named(tmp_path, content):
    path = tmp_path / "broken.wav"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match="broken.wav"):
        AudioData([path])[0]


def test_mixtures_that_are_files_are_named_and_others_are_written_as_excerpts(tmp_path):
    folder = tmp_path / "IRMAS-TrainingData" / "voi"
    names = [f"[voi][pop_roc]000{number}__1.wav" for number in range(12)]
    for name in names:
        written(folder / name, noise(2, 100))
    corpus = load_corpus("irmas", "train", tmp_path, real=True)
    found = mixture_files(corpus, folder=tmp_path / "excerpts")
    assert {path.parent for path in found} == {folder} and len(found) == len(corpus)
    assert mixture_files(corpus, limit=2, folder=tmp_path / "excerpts") == found[:2]
    assert not (tmp_path / "excerpts").exists()

    songs = make((1000, 300, 2100))  # 1.25, 0.375 and 2.625 s
    files = mixture_files(songs, seconds=0.5, folder=tmp_path / "excerpts")
    assert [file.name for file in files[:3]] == ["track 0 01.wav", "track 0 02.wav", "track 1 01.wav"]
    assert len(files) == 2 + 1 + 5 and len(STEMS) == 4
    wave, rate = audio.read_audio(files[1])
    assert rate == RATE and torch.equal(wave, songs[0].mixture[:, 400:800])
    assert mixture_files(songs, seconds=0.5, limit=3, folder=tmp_path / "some") == [
        tmp_path / "some" / file.name for file in files[:3]
    ]
    assert sorted(path.name for path in (tmp_path / "some").iterdir())[-1] == "track 1 01.wav"  # no more was made
