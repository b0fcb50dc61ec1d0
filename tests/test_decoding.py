"""Files are read whole or refused by name, whatever their ending says: MP3 of all kinds, videos, damaged files."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch

from helpers.data import audio, decoding
from helpers.runtime import UserError

RATE, SECONDS = 44_100, 4
FRAME = 1152  # samples of an MP3 frame; encoder and decoder together delay by up to two


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr("helpers.runtime.cache_dir", lambda: tmp_path / "cache")
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with one sound, a tone of 440 Hz whose last second is one of 1000 Hz, in many kinds of files."""
    folder = tmp_path_factory.mktemp("files")
    time = np.arange(SECONDS * RATE) / RATE
    tone = 0.3 * np.sin(2 * np.pi * np.where(time < SECONDS - 1, 440, 1000) * time)
    soundfile.write(folder / "a.wav", np.stack([tone, tone], 1), RATE)
    soundfile.write(folder / "gsm.wav", tone[::5], 8820, "GSM610")
    make(folder, "xing.mp3", "-q:a", "2")
    make(folder, "info.mp3", "-b:a", "128k")
    make(folder, "vbr.mp3", "-q:a", "2", "-write_xing", "0")
    make(folder, "cbr.mp3", "-b:a", "128k", "-write_xing", "0")
    make(folder, "layer2.mp2")
    for name in ("a.ac3", "a.mkv", "a.m4a"):
        make(folder, name)
    make(folder, "flac.ogg", "-c:a", "flac")
    picture = ("-f", "lavfi", "-i", "color=c=red:s=64x64:d=4")
    run(*picture, "-i", folder / "a.wav", folder / "video.avi")
    run(*picture, folder / "mute.mp4")
    (folder / "piped.mp3").write_bytes(run("-i", folder / "a.wav", "-f", "mp3", "-").stdout)
    wav, mp3 = (folder / "a.wav").read_bytes(), (folder / "xing.mp3").read_bytes()
    size, tag = wav.index(b"data") + 4, mp3.index(b"Xing") + 4
    (folder / "crashed.wav").write_bytes(wav[:size] + bytes(4) + wav[size + 4 :])  # a recorder's
    (folder / "unfinished.mp3").write_bytes(mp3[: tag + 4] + bytes(4) + mp3[tag + 8 :])  # a stream's
    (folder / "joined.mp3").write_bytes(mp3 + mp3)
    (folder / "padded.mp3").write_bytes(mp3 + bytes(5000))
    (folder / "junk.mp3").write_bytes(bytes(3000) + mp3)
    (folder / "mkv.wav").write_bytes((folder / "a.mkv").read_bytes())
    return folder


def run(*arguments):
    return subprocess.run([decoding.ffmpeg(), "-v", "error", *arguments], check=True, capture_output=True)


def make(folder, name, *options):
    run("-i", folder / "a.wav", *options, folder / name)


def check(path, seconds, rate=RATE, slack=3 * FRAME):
    """The file has that length, and its last half second, also read alone, is the tone of 1000 Hz."""
    waveform, found_rate = audio.read_audio(path)
    assert found_rate == rate and abs(waveform.shape[1] - seconds * rate) <= slack
    assert audio.audio_shape(path) == audio.Shape(rate, *waveform.shape)
    end = waveform.shape[1] - rate
    part, _ = audio.read_audio(path, end, rate // 2)
    assert torch.allclose(part, waveform[:, end : end + rate // 2], atol=1e-3)
    assert np.abs(np.fft.rfft(part[0].numpy())).argmax() == pytest.approx(500, abs=3)  # bins of 2 Hz


@pytest.mark.parametrize("name", ["vbr.mp3", "cbr.mp3", "piped.mp3", "layer2.mp2", "unfinished.mp3", "junk.mp3"])
def test_an_mp3_that_does_not_say_its_length_is_read_to_its_end(files, name):
    check(files / name, SECONDS)


def test_mp3_files_put_together_are_read_to_the_end_of_the_last(files, capfd):
    check(files / "joined.mp3", 2 * SECONDS)
    check(files / "padded.mp3", SECONDS)
    assert capfd.readouterr() == ("", "")  # libmpg123 has nothing to say about them


@pytest.mark.parametrize("name", ["xing.mp3", "info.mp3"])
def test_an_mp3_that_says_its_length_needs_no_ffmpeg(files, name, monkeypatch):
    monkeypatch.setattr(decoding, "unpack_stream", None)
    check(files / name, SECONDS, slack=0)


@pytest.mark.parametrize("name", ["a.ac3", "a.mkv", "mkv.wav", "a.m4a", "flac.ogg", "video.avi", "crashed.wav"])
def test_what_libsndfile_refuses_ffmpeg_reads_by_its_content(files, name):
    check(files / name, SECONDS, slack=0 if name in ("crashed.wav", "flac.ogg") else 2 * FRAME)


@pytest.mark.parametrize(
    ("codec", "ending", "subtype"),
    [("alac", "m4a", "PCM_24"), ("flac", "ogg", "PCM_24"), ("copy", "mkv", "PCM_24"), ("pcm_f32le", "mov", "FLOAT"),
     ("pcm_s16le", "mov", "PCM_16"), ("aac", "m4a", "PCM_16"), ("libopus", "mkv", "PCM_16")],
)  # fmt: skip
def test_what_ffmpeg_unpacks_keeps_its_depth(tmp_path, codec, ending, subtype):
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (48_000, 2))
    soundfile.write(tmp_path / "a.wav", samples, 48_000, "PCM_24")
    run("-i", tmp_path / "a.wav", "-c:a", codec, tmp_path / f"b.{ending}")
    with decoding.open_sound(tmp_path / f"b.{ending}") as file:
        assert file.subtype == subtype
        assert subtype == "PCM_16" or np.abs(file.read() - samples).max() <= 2**-23


def test_gsm(files):
    check(files / "gsm.wav", SECONDS, 8820, slack=320)


def test_a_long_name_does_not_matter(files, tmp_path):
    path = tmp_path / f"{'ü' * 120}.mp3"
    path.write_bytes((files / "cbr.mp3").read_bytes())
    check(path, SECONDS)
    assert audio.converted(path, 16_000).exists()


BAD = {
    "page.mp3": (b"\n<!DOCTYPE html><html><body>" + b"no such page " * 400, "cannot be read as audio (ffmpeg: "),
    "text.mp3": (b"no music at all, only words " * 50, "cannot be read as audio (ffmpeg: Invalid data"),
    "tagged.mp3": (b"ID3\3\0\0\0\0\0\x0a" + bytes(10) + b"words and words " * 500, "cannot be read as audio"),
    "empty.wav": (b"", "cannot be read as audio"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_audio_is_refused_in_one_sentence(tmp_path, name, capfd):
    content, words = BAD[name]
    (tmp_path / name).write_bytes(content)
    opened = len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0
    with pytest.raises(UserError, match=re.escape(words)) as caught:
        audio.read_audio(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value) and "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")  # libmpg123 has nothing to say about it
    assert not opened or len(os.listdir("/proc/self/fd")) == opened


@pytest.mark.skipif(sys.platform != "linux", reason="other systems take other names")
@pytest.mark.parametrize(
    ("name", "words"),
    [("x" * 300 + ".wav", "may not be read (File name too long)"), ("loop.wav", "(Too many levels of symbolic links)"),
     (os.fsdecode(b"Stra\xdfe.wav"), "(its name is not in UTF-8): change its name")],
)  # fmt: skip
def test_names_that_no_file_can_be_opened_by(tmp_path, name, words):
    (tmp_path / "loop.wav").symlink_to("loop.wav")
    if "UTF-8" in words:
        (tmp_path / name).touch()
    with pytest.raises(UserError, match=re.escape(words)):
        audio.read_audio(tmp_path / name)


CUT = {
    "a.wav": "only 2.4 of 4.0 s are there", "a.aiff": "only 2.4 of 4.0 s are there", "a.au": "only 2.4 of 4.0 s are",
    "a.w64": "only 2.4 of 4.0 s are there", "a.rf64": "only 2.4 of 4.0 s are there", "a.flac": "its end is missing",
    "a.ogg": "it breaks off within a page", "opus.ogg": "it breaks off within a page", "flac.ogg": "within a page",
    "xing.mp3": "40% of it is missing", "a.mkv": "of 4.0 s are there", "front.m4a": "of 4.0 s are there",
    "piped.flac": "s of it are there",
}  # fmt: skip


@pytest.fixture(scope="module")
def more(files):
    """The folder of `files`, with more of them, all of 4 s."""
    samples, _ = soundfile.read(files / "a.wav")
    samples += np.random.default_rng(0).normal(0, 0.01, samples.shape)  # as large as music is
    for name, form, subtype in (("a.ogg", "OGG", "VORBIS"), ("opus.ogg", "OGG", "OPUS"), ("a.rf64", "RF64", None)):
        soundfile.write(files / name, samples, 48_000 if subtype == "OPUS" else RATE, subtype, format=form)
    for name in ("a.aiff", "a.au", "a.w64", "a.flac"):
        soundfile.write(files / name, samples, RATE)
    make(files, "front.m4a", "-movflags", "faststart")
    for form in ("wav", "flac"):
        (files / f"piped.{form}").write_bytes(run("-i", files / "a.flac", "-f", form, "-").stdout)
    return files


@pytest.mark.parametrize("name", [*CUT, "piped.wav"])
def test_what_is_whole_is_read_and_what_is_cut_short_is_refused_with_its_seconds(more, tmp_path, name, capfd):
    waveform, rate = audio.read_audio(more / name)
    assert abs(waveform.shape[1] / rate - SECONDS * (RATE / 48_000 if name == "opus.ogg" else 1)) < 0.1
    content, cut = (more / name).read_bytes(), tmp_path / name
    capfd.readouterr()
    for part in (0.6, 0.97):
        cut.write_bytes(content[: int(part * len(content))])
        if name == "piped.wav":  # whose header promises nothing
            assert audio.audio_shape(cut).frames == pytest.approx(part * SECONDS * RATE, abs=50)
            continue
        with pytest.raises(UserError, match=r"^\S+ is cut short, .*: get it again, or save what is") as caught:
            audio.audio_shape(cut)
        assert part == 0.97 or CUT[name] in str(caught.value)
        with pytest.raises(UserError):
            audio.read_audio(cut)


def test_a_header_that_is_wrong_by_some_bytes_is_no_cut(files, tmp_path):
    content = (files / "a.wav").read_bytes()
    (tmp_path / "a.wav").write_bytes(content[:-44])
    assert audio.audio_shape(tmp_path / "a.wav").frames == SECONDS * RATE - 11


def test_a_full_disk_is_not_the_files_fault(files, monkeypatch):
    done = subprocess.CompletedProcess([], 1, "", "Error writing trailer: No space left on device\n")
    monkeypatch.setattr(decoding, "_run_ffmpeg", lambda *_, **__: done)
    with pytest.raises(UserError, match="cannot unpack .*a.m4a to .*cache .*: free disk space"):
        audio.read_audio(files / "a.m4a")


def test_a_file_without_sound_a_pipe_and_a_song_cut_short(files, tmp_path):
    with pytest.raises(UserError, match="mute.mp4 has no sound"):
        audio.read_audio(files / "mute.mp4")
    with pytest.raises(UserError, match="a.m4a has fewer than 2 audio streams"):
        decoding.unpack_stream(files / "a.m4a", 1)
    content = (files / "info.mp3").read_bytes()
    (tmp_path / "cut.mp3").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match="cut.mp3 is cut short"):
        audio.read_audio(tmp_path / "cut.mp3")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.wav")
        with pytest.raises(UserError, match="pipe.wav is a pipe or a device.*save it to a file"):
            audio.read_audio(tmp_path / "pipe.wav")


def test_without_ffmpeg_the_file_and_the_remedy_are_named(files, tmp_path, monkeypatch, cache):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(UserError, match="a.m4a .*need the program ffmpeg.*`apt install ffmpeg`.*pip install"):
        audio.read_audio(files / "a.m4a")
    assert [path for path in cache.rglob("*") if path.is_file() or "part" in path.name] == []


def test_streams_are_unpacked_once_and_again_when_the_file_changed(files, tmp_path, cache, monkeypatch):
    path = tmp_path / "two.mkv"
    run("-i", files / "a.wav", "-i", files / "gsm.wav", "-map", "0", "-map", "1", "-c:a", "flac", path)
    unpacked = [decoding.unpack_stream(path, number) for number in range(2)]
    assert [audio.audio_shape(file).channels for file in unpacked] == [2, 1]
    assert (audio.read_audio(unpacked[0])[0] - audio.read_audio(files / "a.wav")[0]).abs().max() <= 2**-15
    with monkeypatch.context() as patched:
        patched.setattr(subprocess, "run", None)
        assert decoding.unpack_stream(path, 1) == unpacked[1]
    path.write_bytes((files / "a.mkv").read_bytes())
    assert decoding.unpack_stream(path) != unpacked[0]
    path.write_bytes(b"rubbish")
    with pytest.raises(UserError, match="two.mkv"):
        decoding.unpack_stream(path)
    assert not [found for found in cache.rglob("*") if "part" in found.name]


def test_titles_of_streams(files, tmp_path):
    path = tmp_path / "a.stem.mp4"
    maps = ("-map", "0", "-map", "0", "-metadata:s:a:1", "title=Lead Vox", "-c:a", "aac", path)
    run("-i", files / "a.wav", *maps)
    assert decoding.stream_titles(path) == ["", "Lead Vox"]
    stems = b'{"mastering_dsp":{},"version":1,"stems":[{"color":"#009E73","name":"Drums"},{"name":"Synth"}]}'
    path.write_bytes(path.read_bytes() + stems)
    assert decoding.stream_titles(path) == ["mixture", "Drums", "Synth"]
    path.write_bytes(b"rubbish")
    assert decoding.stream_titles(path) == []
