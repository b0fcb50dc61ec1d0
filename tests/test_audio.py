"""Audio files: every format and shape, parts, resampling against closed forms, the cache, bad files."""

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from helpers.data import audio
from helpers.runtime import UserError

RATE = 8000


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr("helpers.runtime.cache_dir", lambda: tmp_path / "cache")
    return tmp_path / "cache"


def noise(channels, frames, seed=0, level=0.1):
    return level * torch.randn(channels, frames, generator=torch.Generator().manual_seed(seed)).clamp(-3, 3)


def sine(frequency, rate, frames, start=0.0):
    return torch.sin(2 * torch.pi * frequency * (torch.arange(frames, dtype=torch.float64) / rate + start)).float()


def decibels(error, signal):
    return 10 * np.log10(float((error**2).mean()) / float((signal**2).mean()) + 1e-20)


# ---- reading and writing -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize(
    ("ending", "subtype", "error"),
    [("wav", "PCM_U8", 2**-7), ("wav", "PCM_16", 2**-15), ("wav", "PCM_24", 2**-23), ("wav", "FLOAT", 0),
     ("wav", "DOUBLE", 0), ("flac", "PCM_16", 2**-15), ("aiff", "PCM_16", 2**-15)],
)  # fmt: skip
def test_lossless_formats_come_back(tmp_path, ending, subtype, error, channels):
    wave = noise(channels, 1001)
    audio.write_audio(tmp_path / f"a.{ending}", wave, RATE, subtype)
    found, rate = audio.read_audio(tmp_path / f"a.{ending}")
    assert rate == RATE and found.dtype == torch.float32 and found.shape == wave.shape
    assert (found - wave).abs().max() <= error
    assert audio.audio_shape(tmp_path / f"a.{ending}") == audio.Shape(RATE, channels, 1001)


@pytest.mark.parametrize("ending", ["ogg", "mp3"])
@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_lossy_formats_and_their_parts(tmp_path, ending, rate):
    wave = torch.stack([sine(440, rate, 2 * rate), sine(550, rate, 2 * rate)]) / 2
    audio.write_audio(tmp_path / f"a.{ending}", wave, rate)
    whole, found_rate = audio.read_audio(tmp_path / f"a.{ending}")
    assert found_rate == rate and abs(whole.shape[1] - 2 * rate) < 0.1 * rate
    assert decibels(whole[:, 4000:20_000] - wave[:, 4000:20_000], wave) < -20
    for start in (rate, rate + 1, 900, 20_011):
        part, _ = audio.read_audio(tmp_path / f"a.{ending}", start, 5000)
        assert decibels(part - whole[:, start : start + 5000], wave) < -60


@pytest.mark.parametrize("rate", [8000, 11_025, 48_000, 96_000, 192_000])
def test_parts_are_slices_at_any_rate(tmp_path, rate):
    wave = noise(2, 3000)
    audio.write_audio(tmp_path / "a.wav", wave, rate, "FLOAT")
    for start, frames in ((0, 3000), (0, 1), (2999, 1), (1234, 567), (3000, 0)):
        part, found = audio.read_audio(tmp_path / "a.wav", start, frames)
        assert found == rate and torch.equal(part, wave[:, start : start + frames])
    assert torch.equal(audio.read_audio(tmp_path / "a.wav", 100)[0], wave[:, 100:])
    for start, frames in ((-1, 5), (0, 3001), (2999, 2), (5, -1)):
        with pytest.raises(IndexError, match="not inside"):
            audio.read_audio(tmp_path / "a.wav", start, frames)


def test_one_sample_is_audio(tmp_path):
    audio.write_audio(tmp_path / "a.wav", torch.full((1, 1), 0.5), 44_100)
    assert audio.read_audio(tmp_path / "a.wav")[0].tolist() == [[0.5]]
    assert audio.converted(tmp_path / "a.wav", 8000).exists()


def test_bad_files_are_named_with_the_remedy(tmp_path):
    soundfile.write(tmp_path / "none.wav", np.zeros((0, 2)), RATE)
    soundfile.write(tmp_path / "nan.wav", np.array([0.0, np.nan, 0.1]), RATE, "FLOAT")
    soundfile.write(tmp_path / "infinite.wav", np.array([0.0, 0.1, -np.inf]), RATE, "DOUBLE")
    for name, words in (
        ("none.wav", "holds no samples"),
        ("nan.wav", "no finite numbers"),
        ("infinite.wav", "no finite numbers"),
        ("absent.wav", "there is no file.*check its name"),
        ("", "is a folder: give the audio files in it"),
    ):
        with pytest.raises(UserError, match=words) as caught:
            audio.read_audio(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value) and "\n" not in str(caught.value)


def test_a_flac_cut_short_is_an_error_not_a_shorter_song(tmp_path):
    audio.write_audio(tmp_path / "a.flac", noise(2, 50_000), RATE)
    whole = (tmp_path / "a.flac").read_bytes()
    (tmp_path / "a.flac").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="a.flac"):
        audio.read_audio(tmp_path / "a.flac")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission(tmp_path):
    audio.write_audio(tmp_path / "a.wav", noise(1, 10), RATE)
    (tmp_path / "a.wav").chmod(0)
    with pytest.raises(UserError, match="change its name or its permissions"):
        audio.read_audio(tmp_path / "a.wav")


def test_writing_refuses_what_is_no_number_and_leaves_nothing_behind(tmp_path):
    with pytest.raises(UserError, match="not written"):
        audio.write_audio(tmp_path / "a.wav", torch.tensor([[0.0, float("nan")]]), RATE)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="b.wav cannot be written"):
        audio.write_audio(tmp_path / "file" / "b.wav", noise(1, 10), RATE)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_failed_write_keeps_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "a.wav"
    audio.write_audio(path, noise(1, 10), RATE)
    before = path.read_bytes()

    def fail(part, *_, **__):
        Path(part).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(soundfile, "write", fail)
    with pytest.raises(UserError, match="No space left.*free some disk space"):
        audio.write_audio(path, noise(1, 10, seed=1), RATE)
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


# ---- rate and channels -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rate", "new"), [(44_100, 32_000), (44_100, 16_000), (16_000, 44_100), (48_000, 44_100)])
def test_resampling_a_sine_gives_the_same_sine(rate, new):
    frames = rate + 17
    waves = torch.stack([sine(1000, rate, frames), 0.5 * sine(3000, rate, frames)])
    found = audio.resample(waves, rate, new)
    assert found.shape == (2, audio.resampled_length(frames, rate, new)) and found.dtype == torch.float32
    expected = torch.stack([sine(1000, new, found.shape[1]), 0.5 * sine(3000, new, found.shape[1])])
    inner = slice(new // 10, -new // 10)  # the filter rings where the sine begins and ends
    assert decibels((found - expected)[:, inner], expected) < -70


def test_resampling_removes_what_the_new_rate_cannot_hold():
    high = sine(9500, 44_100, 44_100)[None]
    assert decibels(audio.resample(high, 44_100, 16_000)[:, 2000:-2000], high) < -100


@pytest.mark.parametrize("frames", [1, 2, 100, 44_099, 44_101])
@pytest.mark.parametrize(("rate", "new"), [(44_100, 16_000), (16_000, 44_100), (44_100, 44_100), (96_000, 8000)])
def test_lengths_are_as_said(frames, rate, new):
    found = audio.resample(torch.zeros(1, frames), rate, new)
    assert found.shape[1] == audio.resampled_length(frames, rate, new)
    assert abs(found.shape[1] - frames * new / rate) <= 0.5 or found.shape[1] == 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
def test_a_waveform_on_a_gpu_is_resampled_and_stays_there():
    wave = noise(2, 5000)
    found = audio.resample(wave.to("cuda"), 44_100, 16_000)
    assert found.is_cuda and torch.equal(found.cpu(), audio.resample(wave, 44_100, 16_000))


def test_channels():
    wave = torch.arange(12.0).reshape(3, 4)
    assert audio.to_mono(wave).tolist() == [[4, 5, 6, 7]]
    assert torch.equal(audio.to_channels(wave, 3), wave)
    assert torch.equal(audio.to_channels(wave, 1), audio.to_mono(wave))
    assert torch.equal(audio.to_channels(wave[:1], 2), wave[:1].repeat(2, 1))
    assert audio.to_mono(torch.stack([wave, 2 * wave])).shape == (2, 1, 4)
    with pytest.raises(UserError, match="3 channels.*mix it down"):
        audio.to_channels(wave, 2)


# ---- the cache ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mono", [False, True])
def test_what_is_converted_is_resampled_and_down_mixed(tmp_path, mono):
    wave = noise(2, 20_011)
    audio.write_audio(tmp_path / "a.wav", wave, 44_100, "FLOAT")
    found, rate = audio.read_audio(audio.converted(tmp_path / "a.wav", 32_000, mono))
    expected = audio.resample(audio.to_mono(wave) if mono else wave, 44_100, 32_000)
    assert rate == 32_000 and found.shape == expected.shape
    assert (found - expected).abs().max() < 1e-5


def test_the_cache_is_used_and_renewed(tmp_path, cache):
    path = tmp_path / "a.wav"
    audio.write_audio(path, noise(2, 5000), 44_100)
    assert audio.converted(path, 44_100) == path and not cache.exists()
    first = audio.converted(path, 16_000)
    made = first.stat().st_mtime_ns
    assert audio.converted(path, 16_000) == first and first.stat().st_mtime_ns == made
    others = {first, audio.converted(path, 16_000, mono=True), audio.converted(path, 8000)}
    assert len(others) == 3
    audio.write_audio(path, noise(2, 6000, seed=1), 44_100)
    renewed = audio.converted(path, 16_000)
    assert renewed not in others and audio.audio_shape(renewed).frames == audio.resampled_length(6000, 44_100, 16_000)


def test_a_damaged_source_leaves_nothing_in_the_cache(tmp_path, cache):
    samples = np.zeros(5000)
    samples[4000] = np.nan
    soundfile.write(tmp_path / "a.wav", samples, RATE, "FLOAT")
    with pytest.raises(UserError, match="no finite numbers"):
        audio.converted(tmp_path / "a.wav", 4000)
    assert [path for path in cache.rglob("*") if path.is_file()] == []
