"""IRMAS, .stem.mp4 files and folders of the user's own: what their names say, and what is wrong with them."""

import subprocess
import sys

import pytest
import torch
from toy_songs import RATE, noise, stub_streams, write_song

from helpers.data import audio, corpora, layouts
from helpers.data import download as downloads
from helpers.runtime import UserError


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """No network, and an empty cache."""
    monkeypatch.setattr(audio, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(downloads, "online", lambda urls: False)


# ---- .stem.mp4 --------------------------------------------------------------------------------------------------


def test_stem_mp4(tmp_path, monkeypatch):
    for split in ("train", "test"):
        (tmp_path / "MUSDB18" / split).mkdir(parents=True)
        (tmp_path / "MUSDB18" / split / f"Artist - My {split}.stem.mp4").touch()
    waves = [noise(2, 500, seed) for seed in range(5)]
    unpacked = stub_streams(monkeypatch, waves, tmp_path)
    part = corpora.load_corpus("musdb18", "test", tmp_path)
    assert part.name == "multitrack-2 (MUSDB18 layout)" and part[0].name == "Artist - My test"
    assert part[0].artist == "Artist" and unpacked == []
    track = part[0]
    assert torch.equal(track.mixture, waves[0])  # its own stream, not the sum
    for number, name in enumerate(("drums", "bass", "other", "vocals"), 1):
        assert torch.equal(track.sources[name], waves[number])


def test_stem_mp4_through_the_real_ffmpeg(tmp_path):
    try:
        program = audio.ffmpeg()
    except UserError:
        pytest.skip("there is no ffmpeg here")
    pitches = {"mixture": 300, "drums": 400, "bass": 500, "other": 600, "vocals": 700}
    command = [program, "-v", "error"]
    for pitch in pitches.values():
        command += ["-f", "lavfi", "-i", f"sine=frequency={pitch}:sample_rate={RATE}:duration=1"]
    for number in range(5):
        command += ["-map", f"{number}:a"]
    (tmp_path / "MUSDB18/test").mkdir(parents=True)
    path = tmp_path / "MUSDB18/test/An Artist - A Song.stem.mp4"
    subprocess.run([*command, "-c:a", "aac", "-ac", "2", path], check=True)
    track = corpora.load_corpus("musdb18", "test", tmp_path)[0]
    assert track.channels == 2 and abs(track.seconds - 1) < 0.1
    for name, wave in {**track.sources, "mixture": track.mixture}.items():
        part = wave[0, 8192 : 8192 + RATE // 2]
        assert torch.fft.rfft(part * torch.hann_window(len(part))).abs().argmax() == pitches[name] // 2
    unpacked = list((tmp_path / "cache/unpacked").rglob("*.wav"))
    assert len(unpacked) == 5 and torch.equal(track.source("bass", 9000, 50), track.sources["bass"][:, 9000:9050])


def test_stem_mp4_without_ffmpeg_says_so_at_once(tmp_path, monkeypatch):
    (tmp_path / "MUSDB18/test").mkdir(parents=True)
    (tmp_path / "MUSDB18/test/a.stem.mp4").touch()
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(UserError, match="ffmpeg, which is not installed: `apt install ffmpeg`"):
        corpora.load_corpus("musdb18", "test", tmp_path)


# ---- damage --------------------------------------------------------------------------------------------------------


def test_a_song_without_a_stem_is_named(tmp_path):
    write_song(tmp_path / "MUSDB18-HQ/train/a", frames=20)
    (tmp_path / "MUSDB18-HQ/train/a/bass.wav").unlink()
    with pytest.raises(UserError, match=r"MUSDB18-HQ/train/a lacks bass.wav: unpack the archive again"):
        corpora.load_corpus("musdb18hq", "train", tmp_path)


def test_a_stem_cut_short_is_named(tmp_path):
    waves = write_song(tmp_path / "MUSDB18-HQ/train/a", frames=3 * RATE)
    audio.write_audio(tmp_path / "MUSDB18-HQ/train/a/bass.wav", waves["bass"][:, :RATE], RATE)
    track = corpora.load_corpus("musdb18hq", "train", tmp_path)[0]
    with pytest.raises(UserError, match=r"bass.wav is 2.0 s shorter than the other stems of 'a'"):
        track.sources["vocals"]


# ---- IRMAS -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("[voi][pop_roc]0013__3.wav", ("voi", None, "pop_roc", "0013", 3)),
        ("008__[cel][nod][cla]0058__1.wav", ("cel", False, "cla", "0058", 1)),
        ("[gac][dru][cou_fol]0101__12.wav", ("gac", True, "cou_fol", "0101", 12)),
        ("[cla][cla]0163__2.wav", ("cla", None, "cla", "0163", 2)),
        ("[cla][nod][jaz_blu]0002__2.wav", ("cla", False, "jaz_blu", "0002", 2)),
        ("[org][dru]0002__2.wav", ("org", True, None, "0002", 2)),
        ("[pia]0002__2.wav", ("pia", None, None, "0002", 2)),
    ],
)
def test_irmas_names(name, expected):
    assert tuple(layouts.irmas_tags(name).values()) == expected


@pytest.mark.parametrize("name", ["readme.wav", "0013__3.wav", "[voi][pop_roc]0013.wav", "[voi]0013__3.txt", ""])
def test_names_that_are_not_of_irmas(name):
    assert layouts.irmas_tags(name) is None


def test_irmas(tmp_path):
    waves = {}
    for kind in ("voi", "cel"):
        (tmp_path / "IRMAS-TrainingData" / kind).mkdir(parents=True)
        for recording in range(1, 21):
            for excerpt in (1, 2):
                name = f"[{kind}][dru][pop_roc]{recording:04}__{excerpt}"
                waves[name] = noise(2, 200, recording)
                path = tmp_path / "IRMAS-TrainingData" / kind / f"{name}.wav"
                audio.write_audio(path, waves[name], RATE)
    (tmp_path / "IRMAS-TrainingData/voi/notes.wav").write_text("not one of them")
    parts = {split: corpora.load_corpus("irmas", split, tmp_path) for split in corpora.SPLITS}
    assert [len(part) for part in parts.values()] == [32, 4, 4] and parts["train"].sources == ()
    assert {part.name for part in parts.values()} == {"40 excerpts (IRMAS layout), voi"}
    recordings = [{track.song for track in part} for part in parts.values()]
    assert len(set.union(*recordings)) == 20 == sum(map(len, recordings))
    track = parts["test"][0]
    assert len(track.sources) == 0 and torch.equal(track.mixture, waves[track.name])
    assert track.tags["instrument"] == "voi" and track.tags["drums"] is True and track.tags["genre"] == "pop_roc"
    both = corpora.load_corpus("irmas", "test", tmp_path, classes=("voi", "cel"))
    assert both.name == "80 excerpts (IRMAS layout), voi+cel" and len(both) == 8
    with pytest.raises(UserError, match="unknown class 'voice'.*voi"):
        corpora.load_corpus("irmas", "test", tmp_path, classes=("voice",))


# ---- a folder of the user's own ----------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["wav", "flac", "ogg", "mp3"])
def test_a_folder_of_stems(tmp_path, ending):
    names = ("piano", "vocals", "bass")
    waves = write_song(tmp_path / "mine/one", 6000, 1, names, mixture=False, channels=1, ending=ending, rate=16_000)
    write_song(tmp_path / "mine/two", 6000, 2, names, mixture=True, channels=2, ending=ending, rate=16_000)
    (tmp_path / "mine/notes.txt").write_text("a file between the songs")
    (tmp_path / "mine/one/cover.jpg").write_text("a picture")
    part = corpora.load_corpus(tmp_path / "mine", "all")
    assert part.name == "mine (2 songs)" and part.sources == ("vocals", "bass", "piano")
    one, two = part
    assert one.sample_rate == 16_000 and (one.channels, two.channels) == (1, 2)
    if ending in ("wav", "flac"):
        assert torch.equal(one.sources["piano"], waves["piano"])
        assert torch.allclose(one.mixture, sum(waves.values()), atol=1e-6)
    assert torch.allclose(one.mixture, sum(one.sources.values()), atol=1e-6)
    assert torch.equal(two.mixture, audio.read_audio(tmp_path / f"mine/two/mixture.{ending}")[0])
    assert corpora.load_corpus(str(tmp_path / "mine"), "all", sample_rate=8000, mono=True)[1].channels == 1


def test_a_folder_with_splits(tmp_path):
    for split, song in (("train", "a"), ("train", "b"), ("test", "c")):
        write_song(tmp_path / "mine" / split / song, 50)
    assert [track.name for track in corpora.load_corpus(tmp_path / "mine", "train")] == ["a", "b"]
    with pytest.raises(UserError, match="has the splits train, test: make 'validation'"):
        corpora.load_corpus(tmp_path / "mine", "validation")


def test_a_folder_with_something_wrong(tmp_path):
    write_song(tmp_path / "mine/one", 50)
    with pytest.raises(UserError, match="no subfolders train, validation and test: .*split='all'"):
        corpora.load_corpus(tmp_path / "mine", "train")
    write_song(tmp_path / "mine/two", 50, names=("vocals", "piano"))
    with pytest.raises(UserError, match="song 'two' .*'piano'.*give all songs the same"):
        corpora.load_corpus(tmp_path / "mine", "all")
    write_song(tmp_path / "mine/two", 50, names=("vocals",), ending="flac", mixture=False)
    with pytest.raises(UserError, match="one source twice"):
        corpora.load_corpus(tmp_path / "mine", "all")
    (tmp_path / "bare/song").mkdir(parents=True)
    with pytest.raises(UserError, match="bare/song holds no audio"):
        corpora.load_corpus(tmp_path / "bare", "all")
    (tmp_path / "nothing").mkdir()
    with pytest.raises(UserError, match="nothing holds no songs"):
        corpora.load_corpus(tmp_path / "nothing", "all")
