"""IRMAS, .stem.mp4 files and folders of the user's own: what their names say, and what is wrong with them."""

import subprocess
import sys

import pytest
import torch
from toy_songs import RATE, STEMS, noise, stub_streams, write_song

from helpers.data import audio, corpora, decoding, layouts
from helpers.data import download as downloads
from helpers.runtime import UserError


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """No network, and an empty cache."""
    monkeypatch.setattr("helpers.runtime.cache_dir", lambda: tmp_path / "cache")
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
    program = decoding.ffmpeg()
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
    unpacked = list((tmp_path / "cache/unpacked").iterdir())
    assert len(unpacked) == 5 and torch.equal(track.source("bass", 9000, 50), track.sources["bass"][:, 9000:9050])


ORDERS = {
    "titles": (("Master", "Vox", "Drums", "Synth", "Bass"), ("mixture", "vox", "drums", "synth", "bass")),
    "another place for the mixture": (("Drums", "Rest", "Mix"), ("drums", "rest", "mixture")),
    "titles of the stems alone": (("", "Bass", "Vox"), ("mixture", "bass", "vox")),
    "no titles": (("",) * 5, layouts.STEM_STREAMS),
    "all titles alike": (("Stereo",) * 5, layouts.STEM_STREAMS),
}


@pytest.mark.parametrize("kind", ORDERS)
def test_titles_say_which_stream_of_a_stem_mp4_is_which(tmp_path, kind):
    titles, expected = ORDERS[kind]
    command = [decoding.ffmpeg(), "-v", "error"]
    for number in range(len(titles)):
        command += ["-f", "lavfi", "-i", f"sine=frequency={300 + 100 * number}:sample_rate={RATE}:duration=0.6"]
    for number, title in enumerate(titles):
        command += ["-map", f"{number}:a", f"-metadata:s:a:{number}", f"title={title}"]
    (tmp_path / "mine").mkdir()
    subprocess.run([*command, "-c:a", "aac", tmp_path / "mine/Me - Mine.stem.mp4"], check=True)
    (track,) = corpora.load_corpus(tmp_path / "mine", "all")
    assert {*track.stems, "mixture"} == set(expected) and track.artist == "Me"
    for name, wave in {**track.sources, "mixture": track.mixture}.items():
        part = wave[0, 2048 : 2048 + RATE // 2]
        peak = torch.fft.rfft(part * torch.hann_window(len(part))).abs().argmax()
        assert peak == (300 + 100 * expected.index(name)) // 2


def test_stem_mp4_without_ffmpeg_says_so(tmp_path, monkeypatch):
    (tmp_path / "MUSDB18/test").mkdir(parents=True)
    (tmp_path / "MUSDB18/test/a.stem.mp4").touch()
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    (track,) = corpora.load_corpus("musdb18", "test", tmp_path)
    with pytest.raises(UserError, match="a.stem.mp4 cannot be read: .*ffmpeg, which is not installed: `apt install"):
        assert track.seconds


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


def test_irmas(tmp_path):
    (tmp_path / "IRMAS-TrainingData/voi").mkdir(parents=True)
    waves = {}
    for recording in range(1, 21):
        for name in (f"[voi][dru][pop_roc]{recording:04}__1", f"008__[voi][nod][cla]{recording:04}__2"):
            waves[name] = noise(2, 200, recording)
            audio.write_audio(tmp_path / f"IRMAS-TrainingData/voi/{name}.wav", waves[name], RATE)
    for name in ("notes", "[voi][pop_roc]0013", "0013__3"):
        (tmp_path / f"IRMAS-TrainingData/voi/{name}.wav").write_text("not one of them")
    parts = {split: corpora.load_corpus("irmas", split, tmp_path) for split in corpora.SPLITS}
    assert [len(part) for part in parts.values()] == [32, 4, 4] and parts["train"].sources == ()
    recordings = [{track.song for track in part} for part in parts.values()]
    assert len(set.union(*recordings)) == 20 == sum(map(len, recordings))
    track = parts["test"][0]
    assert len(track.sources) == 0 and torch.equal(track.mixture, waves[track.name])


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
    for split, song in (("train", "a"), ("train", "b"), ("validation", "c")):
        write_song(tmp_path / "mine" / split / song, 50)
    assert [track.name for track in corpora.load_corpus(tmp_path / "mine", "train")] == ["a", "b"]
    assert [track.name for track in corpora.load_corpus(tmp_path / "mine", "validation")] == ["c"]
    with pytest.raises(UserError, match="no split 'test', only train, validation: take .* songs into .*mine/test"):
        corpora.load_corpus(tmp_path / "mine", "test")
    (tmp_path / "packed").mkdir()
    (tmp_path / "mine").rename(tmp_path / "packed/mine")  # one folder too deep
    assert len(corpora.load_corpus(tmp_path / "packed", "train")) == 2


def test_of_a_folder_without_validation_every_tenth_song_is_held_out(tmp_path):
    for number in range(13):
        write_song(tmp_path / "mine/train" / f"song {number:02}", 20, names=("vocals", "rest"))
    train, validation = (corpora.load_corpus(tmp_path / "mine", split) for split in ("train", "validation"))
    assert [track.name for track in validation] == ["song 02", "song 12"] and len(train) == 11
    assert "every tenth song of train validates: song 02, song 12" in corpora.split_table(train, validation)
    for number in range(1, 13):
        (tmp_path / "mine/train" / f"song {number:02}").rename(tmp_path / f"elsewhere {number}")
    assert len(corpora.load_corpus(tmp_path / "mine", "train")) == 1
    with pytest.raises(UserError, match="train holds one song, none is left to validate on: add songs, or .*/val"):
        corpora.load_corpus(tmp_path / "mine", "validation")


def test_songs_without_folders_of_splits_train_but_for_every_tenth(tmp_path):
    for song in "abcd":
        write_song(tmp_path / "mine" / song, 20, names=("vocals", "rest"))
    parts = [corpora.load_corpus(tmp_path / "mine", split) for split in ("train", "validation", "all")]
    assert [[track.name for track in part] for part in parts] == [["a", "b", "d"], ["c"], ["a", "b", "c", "d"]]
    assert "every tenth song of all validates: c" in corpora.split_table(*parts)


def test_a_folder_around_public_corpora(tmp_path):
    write_song(tmp_path / "around/MUSDB18-HQ/test/a", 20)
    assert corpora.load_corpus(tmp_path / "around", "test").name == "multitrack-1 (MUSDB18-HQ layout)"
    write_song(tmp_path / "around/SiSEC-excerpts/test/a", 20, names=("vocals", "accompaniment"))
    with pytest.raises(UserError, match="around holds several corpora: name one of musdb18hq, sisec-excerpts"):
        corpora.load_corpus(tmp_path / "around", "test")


@pytest.mark.parametrize("name", ["", "nosuch+", "nosuch + mir1k", __file__])
def test_a_name_that_is_no_corpus_is_refused(name):
    with pytest.raises(UserError, match="unknown corpus '"):
        corpora.load_corpus(name, "all" if name == __file__ else "test")


def test_a_corpus_that_cannot_be_fetched_is_not_said_to_be(tmp_path):
    with pytest.raises(UserError, match=r"DSD100 is not in .*: get http://liutkus.net/DSD100.zip \(14,000 MB\)"):
        corpora.load_corpus("dsd100", "test", tmp_path, real=True)
    with pytest.raises(UserError, match="take one of mir1k, musdb18hq, musdb18, musdb18-7s, irmas$"):
        corpora.fetch("nosuch", tmp_path)


def test_a_folder_with_something_wrong(tmp_path):
    write_song(tmp_path / "mine/one", 50)
    with pytest.raises(UserError, match="no split 'test', only all: .* put songs into .*mine/test"):
        corpora.load_corpus(tmp_path / "mine", "test")
    with pytest.raises(UserError, match="mine holds one song, none is left to validate on: add songs"):
        corpora.load_corpus(tmp_path / "mine", "validation")
    write_song(tmp_path / "mine/two", 50, names=("vocals", "piano"))
    with pytest.raises(UserError, match="song 'one' .* and 'two' .*'piano'.*give all songs the same"):
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


@pytest.mark.parametrize(
    "name",
    ["mixture", "mix", "Mixdown", "MASTER", "Mix Down", "full", "full-mix", "FullMix", "Sun_mix", "My song - Master"],
)
def test_a_file_of_the_mixture_is_no_source(tmp_path, name):
    waves = write_song(tmp_path / "mine/one", 50, names=("vocals", "accompaniment", name), mixture=False)
    (track,) = corpora.load_corpus(tmp_path / "mine", "all")
    assert set(track.stems) == {"vocals", "accompaniment"} and torch.equal(track.mixture, waves[name])


@pytest.mark.parametrize("name", ["drums_mix", "backing mix", "instrumental mix", "remixed", "fullness", "mixer"])
def test_files_that_are_no_mixture_in_spite_of_their_names(tmp_path, name):
    write_song(tmp_path / "mine/one", 50, names=("vocals", name), mixture=False)
    (track,) = corpora.load_corpus(tmp_path / "mine", "all")
    assert set(track.stems) == {"vocals", name}


SUMS = {  # a file beside the stems, what it is the sum of
    "song.wav": ("vocals", "drums", "bass", "other"),
    "instrumental.flac": ("drums", "bass", "other"),
    "coded.mp3": ("vocals", "drums", "bass", "other"),
}


@pytest.mark.parametrize("mixture", [True, False])
@pytest.mark.parametrize("name", SUMS)
def test_a_stem_that_is_the_sum_of_others_is_refused(tmp_path, name, mixture):
    write_song(tmp_path / "mine/one", RATE, mixture=mixture)
    # Low frequencies: MP3 would change more of white noise than it does of music.
    waves = {stem: noise(2, RATE, seed).cumsum(-1) / 100 for seed, stem in enumerate(STEMS)}
    for stem, wave in waves.items():
        audio.write_audio(tmp_path / "mine/one" / f"{stem}.wav", wave, RATE, "FLOAT")
    assert len(corpora.load_corpus(tmp_path / "mine", "all")[0].stems) == 4
    path = tmp_path / "mine/one" / name
    audio.write_audio(path, 0.6 * sum(waves[part] for part in SUMS[name]), RATE)
    words = f"one/{name} is the sum of {', '.join(sorted(SUMS[name]))}, .*: call it mixture{path.suffix} if "
    with pytest.raises(UserError, match=words) as caught:
        corpora.load_corpus(tmp_path / "mine", "all")
    assert "move the files of this name away" in str(caught.value) and "\n" not in str(caught.value)


def test_stems_that_are_alike_but_no_sums_are_kept(tmp_path):
    waves = write_song(tmp_path / "mine/one", RATE, mixture=False)
    others = {"bass amp": (3 * waves["bass"]).tanh() / 3, "vocals double": waves["vocals"].roll(100, -1)}
    others |= {"silent": torch.zeros(2, RATE), "silent too": torch.zeros(2, RATE)}
    for name, wave in others.items():
        audio.write_audio(tmp_path / "mine/one" / f"{name}.wav", wave, RATE)
    (track,) = corpora.load_corpus(tmp_path / "mine", "all")
    assert len(track.stems) == 8
