"""The corpora: tiny copies in the real layouts, their splits and names, tracks read in parts, and what stands in."""

import os
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from toy_corpus import track_of
from toy_songs import RATE, STEMS, noise, stub_streams, write_song

from helpers.data import audio, corpora, layouts
from helpers.data.batches import SegmentSampler, load_samples
from helpers.data.tracks import Corpus
from helpers.runtime import UserError


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """No network, an empty cache, and quick embedded songs."""
    songs = [track_of("a", RATE, {name: noise(2, 3000, 1) for name in STEMS})]
    monkeypatch.setattr("helpers.runtime.cache_dir", lambda: tmp_path / "cache")
    monkeypatch.setattr(corpora, "online", lambda url: False)
    monkeypatch.setattr(corpora.embedded, "songs", lambda split: songs)


def write_mir1k(data, names):
    waves = {}
    for seed, name in enumerate(names):
        waves[name] = noise(2, 1000 + seed, seed)
        (data / "MIR-1K/Wavfile").mkdir(parents=True, exist_ok=True)
        audio.write_audio(data / "MIR-1K/Wavfile" / f"{name}.wav", waves[name], 16_000)
    return waves


# ---- MIR-1K ------------------------------------------------------------------------------------------------------

CLIPS = ("abjones_1_01", "abjones_5_01", "abjones_5_02", "amy_1_01", "amy_10_03", "amy_5_01", "amy_50_01", "bug_5_01",
         "jmzen_1_02")  # fmt: skip


def test_mir1k_splits_by_song_and_singer(tmp_path):
    waves = write_mir1k(tmp_path, CLIPS)
    parts = {split: corpora.load_corpus("mir1k", split, tmp_path) for split in corpora.SPLITS}
    names = {split: [track.name for track in part] for split, part in parts.items()}
    assert names["train"] == ["abjones_1_01", "amy_1_01", "amy_50_01"]
    assert names["validation"] == ["abjones_5_01", "abjones_5_02", "amy_10_03", "amy_5_01"]
    assert names["test"] == ["bug_5_01", "jmzen_1_02"]
    for part in parts.values():
        assert part.name == "MIR-1K, 9 of 1,000 clips" and not part.embedded
        assert part.sources == ("vocals", "accompaniment")
        for track in part:
            assert track.sample_rate == 16_000 and track.channels == 1 and track.split == part.split
            left, right = waves[track.name]
            assert torch.equal(track.sources["accompaniment"], left[None])
            assert torch.equal(track.sources["vocals"], right[None])
            assert torch.allclose(track.mixture, (left + right)[None], atol=1e-7)
            assert track.frames == len(left)
    assert parts["test"][0].artist == "bug" and parts["test"][0].song == "bug_5"


def test_the_table_of_the_split(tmp_path):
    write_mir1k(tmp_path, CLIPS)
    parts = [corpora.load_corpus("mir1k", split, tmp_path) for split in corpora.SPLITS]
    title, head, *rows = corpora.split_table(*parts).splitlines()
    assert title.startswith("MIR-1K, 9 of 1,000 clips: the usual protocol, singers abjones") and "abjones_5" in title
    assert head.split() == ["split", "artists", "songs", "tracks", "minutes"]
    assert [row.split()[:4] for row in rows] == [
        ["train", "2", "3", "3"], ["validation", "2", "3", "4"], ["test", "2", "2", "2"]
    ]  # fmt: skip


def test_a_mono_file_in_mir1k_is_named(tmp_path):
    write_mir1k(tmp_path, ["amy_1_01"])
    audio.write_audio(tmp_path / "MIR-1K/Wavfile/amy_1_01.wav", noise(1, 100), 16_000)
    track = corpora.load_corpus("mir1k", "train", tmp_path)[0]
    with pytest.raises(UserError, match="amy_1_01.wav has 1 channel"):
        track.sources["vocals"]


# ---- multitrack layouts ------------------------------------------------------------------------------------------


def write_dsd100(data, dev, test, **options):
    waves = {}
    for part, songs in (("Dev", dev), ("Test", test)):
        for seed, name in enumerate(songs):
            waves[name] = write_song(data / "DSD100/Sources" / part / name, seed=seed, mixture=False, **options)
            (data / "DSD100/Mixtures" / part / name).mkdir(parents=True, exist_ok=True)
            path = data / "DSD100/Mixtures" / part / name / "mixture.wav"
            audio.write_audio(path, sum(waves[name].values()), options.get("rate", RATE))
    return waves


def test_dsd100(tmp_path):
    waves = write_dsd100(tmp_path, "abcdefgh", "xy")
    parts = {split: corpora.load_corpus("dsd100", split, tmp_path) for split in corpora.SPLITS}
    names = {split: "".join(track.name for track in part) for split, part in parts.items()}
    assert names == {"train": "abdefg", "validation": "ch", "test": "xy"}
    for part in parts.values():
        assert part.name == "multitrack-10 (DSD100 layout)" and part.sources == STEMS
        for track in part:
            assert set(track.sources) == set(STEMS) and track.sample_rate == RATE
            for name, wave in track.sources.items():
                assert torch.equal(wave, waves[track.name][name])
            assert torch.allclose(track.mixture, sum(waves[track.name].values()), atol=2e-5)


def test_dsd100_validation_is_by_artist(tmp_path):
    songs = [f"{number:03} - {artist} - Song {number}" for number, artist in enumerate("AABBCCCDEFGHIJ")]
    write_dsd100(tmp_path, songs, ["050 - Z - Song"], frames=10)
    parts = {split: corpora.load_corpus("dsd100", split, tmp_path) for split in corpora.SPLITS}
    artists = {split: {track.artist for track in part} for split, part in parts.items()}
    assert artists["validation"] == {"C", "H"} and len(parts["validation"]) == 4
    assert not artists["validation"] & artists["train"] and artists["test"] == {"Z"}


def test_mono_and_32_khz_on_request(tmp_path):
    waves = write_dsd100(tmp_path, "abc", "x", frames=44_100)
    track = corpora.load_corpus("dsd100", "test", tmp_path, sample_rate=32_000, mono=True)[0]
    expected = audio.resample(audio.to_mono(waves["x"]["bass"]), RATE, 32_000)
    assert track.sample_rate == 32_000 and track.frames == 32_000 and track.channels == 1
    assert (track.sources["bass"] - expected).abs().max() < 1e-5
    assert (track.mixture - sum(track.sources.values())).abs().max() < 2e-4
    assert torch.equal(track.source("bass", 5000, 100), track.sources["bass"][:, 5000:5100])
    mono = corpora.load_corpus("dsd100", "test", tmp_path, mono=True)[0]
    assert mono.sample_rate == RATE and torch.allclose(mono.sources["bass"], audio.to_mono(waves["x"]["bass"]))
    assert mono.at(32_000).channels == 1 and torch.equal(mono.at(32_000).sources["bass"], track.sources["bass"])


def test_musdb18hq_stand_ins_are_named_for_what_they_are(tmp_path):
    for split, songs in (("train", "abcdefg"), ("test", "x")):
        for name in songs:
            write_song(tmp_path / "MUSDB18-HQ" / split / name, frames=20)
    parts = {split: corpora.load_corpus("musdb18hq", split, tmp_path) for split in corpora.SPLITS}
    assert {part.name for part in parts.values()} == {"multitrack-8 (MUSDB18-HQ layout)"}
    assert ["".join(track.name for track in part) for part in parts.values()] == ["abdefg", "c", "x"]


def test_the_real_musdb18_is_called_so_and_validates_on_its_usual_songs(tmp_path):
    names = [*layouts.MUSDB_VALIDATION, *(f"Artist {number} - Title" for number in range(86))]
    for split, songs in (("train", names), ("test", [f"Other {number} - Title" for number in range(50)])):
        for name in songs:
            folder = tmp_path / "MUSDB18-HQ" / split / name
            folder.mkdir(parents=True)
            for stem in (*STEMS, "mixture"):
                (folder / f"{stem}.wav").touch()  # listing reads nothing
    parts = {split: corpora.load_corpus("musdb18hq", split, tmp_path) for split in corpora.SPLITS}
    assert [len(part) for part in parts.values()] == [86, 14, 50]
    assert {part.name for part in parts.values()} == {"MUSDB18-HQ"}
    assert {track.name for track in parts["validation"]} == set(layouts.MUSDB_VALIDATION)
    for name in layouts.MUSDB_VALIDATION:  # as many songs of other names are not that corpus
        (tmp_path / "MUSDB18-HQ/train" / name).rename(tmp_path / "MUSDB18-HQ/train" / f"my {name}")
    assert corpora.load_corpus("musdb18hq", "test", tmp_path).name == "multitrack-150 (MUSDB18-HQ layout)"


# ---- tracks ------------------------------------------------------------------------------------------------------


def test_a_track_is_read_by_parts_without_the_rest(tmp_path, monkeypatch):
    waves = write_song(tmp_path / "MUSDB18-HQ/test/a", 5000)
    track = corpora.load_corpus("musdb18hq", "test", tmp_path)[0]
    asked = []
    real = audio.read_audio

    def noted(path, start=0, frames=None):
        asked.append(frames)
        return real(path, start, frames)

    monkeypatch.setattr(audio, "read_audio", noted)
    assert track.frames == 5000 and track.seconds == 5000 / RATE and asked == []
    assert torch.equal(track.source("drums", 1000, 70), waves["drums"][:, 1000:1070]) and asked == [70]
    assert torch.allclose(track.read_mixture(1000, 70), sum(waves.values())[:, 1000:1070], atol=2e-5)
    assert max(asked) == 70
    beyond = track.source("drums", 4990, 30)
    assert torch.equal(beyond[:, :10], waves["drums"][:, 4990:]) and not beyond[:, 10:].any()
    assert not track.source("drums", 6000, 30).any() and track.source("drums", 5000).shape == (2, 0)
    for start, frames in ((-1, 5), (0, -1)):
        with pytest.raises(IndexError):
            track.source("drums", start, frames)
    with pytest.raises(KeyError):
        track.sources["piano"]


def test_shorter_and_mono_stems_are_fitted(tmp_path):
    write_song(tmp_path / "mine/one", 500, names=("vocals",), mixture=False)
    audio.write_audio(tmp_path / "mine/one/bass.wav", noise(1, 400, seed=5), RATE)
    audio.write_audio(tmp_path / "mine/one/other.wav", noise(1, 300, seed=6), 22_050)
    track = corpora.load_corpus(tmp_path / "mine", "all").at(RATE)[0]
    assert track.frames == 600 and track.channels == 2
    bass = track.sources["bass"]
    assert bass.shape == (2, 600) and torch.equal(bass[0], bass[1]) and not bass[:, 400:].any()
    assert torch.allclose(track.mixture, sum(track.sources.values()), atol=1e-6)


def test_sources_can_be_added_up():
    waves = {name: noise(2, 100, seed) for seed, name in enumerate(STEMS)}
    corpus = Corpus("toy", "test", (track_of("a", RATE, waves, artist="me"),), STEMS, "")
    two = corpus.vocals_and_accompaniment()
    assert two.sources == ("vocals", "accompaniment") == tuple(two[0].sources) and two[0].artist == "me"
    rest = waves["drums"] + waves["bass"] + waves["other"]
    assert torch.allclose(two[0].sources["accompaniment"], rest, atol=1e-6)
    only = corpus.regroup({"rhythm": ("drums", "bass")})
    assert torch.allclose(only[0].mixture, sum(waves.values()), atol=1e-6)  # the mixture stays what it was
    with pytest.raises(UserError, match="no source 'vocals'"):
        only.vocals_and_accompaniment()


def test_the_first_tracks_and_seconds_can_be_taken():
    waves = {name: noise(2, 100, seed) for seed, name in enumerate(STEMS)}
    tracks = tuple(track_of(name, RATE, waves) for name in "ab")
    short = Corpus("toy", "test", tracks, STEMS, "").first(1, 60 / RATE)
    (track,) = short.vocals_and_accompaniment().tracks
    assert len(short) == 1 and track.frames == 60 and track.at(RATE // 2).frames == 30
    assert torch.equal(track.source("vocals"), waves["vocals"][:, :60])
    assert not track.source("vocals", 50, 20)[:, 10:].any()  # what follows is silent, as after any track's end
    assert len(Corpus("toy", "test", tracks, STEMS, "").first(5)[1].mixture[0]) == 100


# ---- what takes the place of a missing corpus ----------------------------------------------------------------------


@pytest.mark.parametrize("name", list(corpora.KINDS))
def test_without_data_and_network_the_embedded_songs_take_their_place(tmp_path, name):
    archive = corpora.KINDS[name].archive
    remedy = f"helpers fetch {name} --data-dir" if archive else "put its files there, as /"
    remedy = remedy if not archive or archive.checksum else f"get {archive.url}"  # fetch would refuse it
    with pytest.warns(UserWarning, match=f"the embedded songs take its place: .*{remedy}") as caught:
        part = corpora.load_corpus(name, "test", tmp_path)
    assert caught[0].filename == __file__
    assert part.embedded and part.name == "embedded songs"
    assert part.sources == corpora.KINDS[name].sources == tuple(part[0].sources)
    assert part[0].sample_rate == (16_000 if name == "mir1k" else RATE)
    assert part[0].channels == (1 if name == "mir1k" else 2) and part[0].mixture.abs().max() > 0
    assert corpora.banner(part).startswith("**Embedded data") and "not comparable" in corpora.banner(part)
    with pytest.raises(UserError, match=f"is not in .*{remedy}"):
        corpora.load_corpus(name, "test", tmp_path, real=True)


def test_embedded_songs_that_were_asked_for_come_without_a_warning(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert corpora.load_corpus("embedded", "test", tmp_path, real=True).sources == STEMS


@pytest.fixture
def fetched(monkeypatch):
    """There is a network, and whatever is fetched is two songs in the previews' layout; the names of the archives."""
    addresses = []

    def fetch(archive, target):
        addresses.append(archive.url.rpartition("/")[2])
        for split in ("train", "test"):
            (target / split).mkdir(parents=True)
            (target / split / "a.stem.mp4").touch()

    monkeypatch.setattr(corpora, "online", lambda url: True)
    monkeypatch.setattr(corpora, "fetch_archive", fetch)
    return addresses


@pytest.mark.parametrize("name", ["musdb18hq", "dsd100", "musdb18"])
def test_the_previews_take_the_place_of_songs_with_four_stems(tmp_path, monkeypatch, fetched, name):
    stub_streams(monkeypatch, [noise(2, 100, seed) for seed in range(5)], tmp_path)
    for _ in range(2):
        with pytest.warns(UserWarning, match=f"{corpora.KINDS[name].title} is not in .*previews take its place"):
            part = corpora.load_corpus(name, "test", tmp_path / "data")
    assert fetched == ["MUSDB18-7-STEMS.zip"] and (tmp_path / "data/MUSDB18-7/test/a.stem.mp4").exists()
    assert part.name == "multitrack-2 (MUSDB18 7 s previews layout)" and part.sources == STEMS


def test_nothing_large_and_no_previews_that_cannot_be_read_are_downloaded_unasked(tmp_path, monkeypatch, fetched):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    for name in ("mir1k", "irmas", "musdb18hq"):
        with pytest.warns(UserWarning, match="the embedded songs take its place"):
            assert corpora.load_corpus(name, "test", tmp_path / "data").embedded
    assert fetched == []
    assert corpora.fetch("musdb18", tmp_path / "data") == tmp_path / "data/MUSDB18"  # asked by name
    assert corpora.fetch("MUSDB18", tmp_path / "data") == tmp_path / "data/MUSDB18"  # there already
    assert fetched == ["musdb18.zip"]


def test_the_banner_of_real_tracks(tmp_path):
    write_song(tmp_path / "MUSDB18-HQ/test/a", 60 * 8000, rate=8000)
    part = corpora.load_corpus("musdb18hq", "test", tmp_path)
    assert corpora.banner(part) == "Data: multitrack-1 (MUSDB18-HQ layout) (test: 1 tracks, 1.0 minutes)."


def test_unknown_names():
    for wrong in (["musdb19"], ["mir1k", "dev"], ["mir1k+musdb19"]):
        with pytest.raises(UserError, match="unknown .* take "):
            corpora.load_corpus(*wrong)
    for wrong in ("mnist", "sisec-excerpts"):
        with pytest.raises(UserError, match=f"'{wrong}' cannot be downloaded: take one of mir1k"):
            corpora.fetch(wrong)


# ---- what lies elsewhere than it should --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spelt", "name"),
    [("MIR-1K", "mir1k"), ("mir-1k/", "mir1k"), ("MIR-1K-master", "mir1k"), ("DSD100subset", "dsd100"),
     ("~/data/MUSDB18-HQ", "musdb18hq"), ("musdb18_hq", "musdb18hq"), ("MUSDB18", "musdb18"),
     ("MUSDB18-7", "musdb18-7s"), ("SiSEC-excerpts", "sisec-excerpts"), ("IRMAS", "irmas"), ("mine", None)],
)  # fmt: skip
def test_names_however_spelt(spelt, name):
    assert corpora.kind_of(spelt) == name


@pytest.mark.parametrize("moved", ["MIR-1K/MIR-1K", "MIR-1K/MIR-1K-master", "mir-1k", "MIR-1K-main", "MIR1K/data"])
def test_a_corpus_one_folder_too_deep_or_of_a_name_spelt_otherwise_is_there(tmp_path, moved):
    write_mir1k(tmp_path / "made", CLIPS)
    (tmp_path / "data" / moved).parent.mkdir(parents=True)
    (tmp_path / "made/MIR-1K").rename(tmp_path / "data" / moved)
    found = corpora.load_corpus("MIR-1K", "test", tmp_path / "data", real=True)
    assert [track.name for track in found] == ["bug_5_01", "jmzen_1_02"]
    by_path = corpora.load_corpus(str(tmp_path / "data" / moved.partition("/")[0]), "test")
    assert by_path.name == found.name == "MIR-1K, 9 of 1,000 clips"
    assert corpora.fetch("mir1k", tmp_path / "data") == tmp_path / "data" / moved  # nothing to download


def test_a_part_of_dsd100_by_its_name_or_path_and_musdb18hq_twice_in_itself(tmp_path):
    write_dsd100(tmp_path, "abc", "xy")
    (tmp_path / "DSD100").rename(tmp_path / "DSD100subset")
    for name, folder in (("dsd100", tmp_path), (tmp_path / "DSD100subset", None)):
        assert [track.name for track in corpora.load_corpus(name, "test", folder, real=True)] == ["x", "y"]
    write_song(tmp_path / "musdb18hq/musdb18hq/test/z")
    assert corpora.load_corpus("musdb18hq", "test", tmp_path, real=True)[0].name == "z"


def test_what_another_folder_holds_is_said(tmp_path):
    def refused(name, words):
        with pytest.raises(UserError, match=words) as caught:
            corpora.load_corpus(name, "test", tmp_path, real=True)
        assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)

    write_song(tmp_path / "musdb18/test/a", frames=20)
    refused("musdb18", "musdb18 has the layout of MUSDB18-HQ, .*vocals.wav: call it MUSDB18-HQ")
    (tmp_path / "MUSDB18-HQ/test").mkdir(parents=True)
    (tmp_path / "MUSDB18-HQ/test/a.stem.mp4").touch()
    refused("musdb18hq", "MUSDB18-HQ has the layout of MUSDB18, .*stem.mp4: call it MUSDB18")
    (tmp_path / "MIR-1K/UndividedWavfile").mkdir(parents=True)
    refused("mir1k", "MIR-1K holds UndividedWavfile, but no Wavfile/.*: put MIR-1K's files there, in folders of")
    (tmp_path / "DSD100").mkdir()
    refused("dsd100", "DSD100 holds nothing, but no Sources/")
    with pytest.raises(UserError, match="MIR-1K holds UndividedWavfile"):
        corpora.fetch("mir1k", tmp_path)  # rather than 1.3 GB that cannot be unpacked there


def test_subsets_of_mir1k(tmp_path):
    write_mir1k(tmp_path, ["abjones_1_01", "abjones_1_02", "abjones_2_01", "amy_1_01", "amy_1_02"])
    train, validation = (corpora.load_corpus("mir1k", split, tmp_path) for split in ("train", "validation"))
    assert [track.name for track in validation] == ["amy_1_01", "amy_1_02"]  # a whole song
    assert [track.name for track in train] == ["abjones_1_01", "abjones_1_02", "abjones_2_01"]
    with pytest.raises(UserError, match=r"mir1k has no test tracks \(MIR-1K, 5 of 1,000 clips: .*all others test.*add"):
        corpora.load_corpus("mir1k", "test", tmp_path)


def test_one_singer_left_out(tmp_path):
    write_mir1k(tmp_path, CLIPS)
    parts = [corpora.load_corpus("mir1k", split, tmp_path) for split in ("train", "validation")]
    train, validation = corpora.leave_one_singer_out(*parts, "amy")
    assert {track.artist for track in train} == {"abjones"} and len(train) == 3
    assert {track.artist for track in validation} == {"amy"} and len(validation) == 4
    assert "amy validates" in corpora.split_table(train, validation)
    with pytest.raises(UserError, match=r"has the singers \['abjones', 'amy'\]"):
        corpora.leave_one_singer_out(*parts, "bug")


# ---- voices and bands, and several corpora in one ----------------------------------------------------------------


@pytest.fixture
def takes(tmp_path):
    """The data folder with voices/ and bands/, and MIR-1K beside them; the waveforms of the two takes."""
    write_mir1k(tmp_path, CLIPS)
    waves = {"voices/solo.wav": noise(1, 32_000, 1), "bands/piano trio.flac": noise(2, 16_000, 2)}
    for (name, wave), rate in zip(waves.items(), (32_000, 16_000), strict=True):
        (tmp_path / name).parent.mkdir()
        audio.write_audio(tmp_path / name, wave, rate)
    (tmp_path / "voices/notes.txt").write_text("no take")
    return tmp_path, *waves.values()


def test_voices_and_bands(takes):
    data, solo, trio = takes
    assert corpora.place("voices-and-bands", data) == data
    (data / "mine").mkdir()
    for part in ("voices", "bands"):
        (data / part).rename(data / "mine" / part)
    for name, folder in ((data / "mine", None), ("voices-and-bands", data / "mine")):
        found = corpora.load_corpus(name, "train", folder, real=True)
        assert found.name == "voices and bands" and found.sources == ("vocals", "accompaniment")
        voice, band = found
        assert torch.equal(voice.sources["vocals"], solo) and torch.equal(band.sources["accompaniment"], trio)
        assert torch.equal(voice.sources["accompaniment"], torch.zeros(1, 32_000))
        assert torch.equal(band.sources["vocals"], torch.zeros(2, 16_000)) and torch.equal(band.mixture, trio)
        with pytest.raises(UserError, match="no validation tracks .*for training only.*mir1k.voices-and-bands"):
            corpora.load_corpus(name, "validation", folder, real=True)


def test_clips_with_voices_and_bands_in_one_training(takes):
    data, solo, _ = takes
    name = "MIR-1K+voices-and-bands"
    train = corpora.load_corpus(name, "train", data, 16_000, mono=True, real=True)
    assert train.name == "MIR-1K, 9 of 1,000 clips + voices and bands" and len(train) == 3 + 2
    assert train.about.startswith("the usual protocol") and "training only" in train.about
    validation = corpora.load_corpus(name, "validation", data, 16_000, mono=True, real=True)
    assert validation.name == "MIR-1K, 9 of 1,000 clips" and len(validation) == 4
    samples = load_samples(replace(train, tracks=train.tracks[3:]))
    assert samples.values[:, 0, :16_000].ne(0).any(-1).tolist() == [True, False]
    sampler = SegmentSampler(samples, 0.1, 32, torch.Generator().manual_seed(0), remix=1.0)
    _, sources = next(sampler.batches(1))  # (batch, sources, channels, time)
    assert (sources.abs().amax((-2, -1)) > 0).all(-1).float().mean() > 0.8  # a voice with a band
    with pytest.raises(UserError, match=r"sample rates \[16000, 32000\]: choose one with sample_rate="):
        corpora.load_corpus(name, "train", data)


def test_corpora_of_several_sources_join_as_vocals_and_the_rest(takes):
    data = takes[0]
    waves = write_song(data / "songs/train/one", 50, rate=16_000)
    write_song(data / "songs/train/two", 50, rate=16_000)
    both = corpora.load_corpus(f"{data / 'songs'}+mir1k", "train", data, real=True)
    assert both.sources == ("vocals", "accompaniment") and len(both) == 1 + 3
    assert torch.allclose(both[0].sources["accompaniment"], waves["drums"] + waves["bass"] + waves["other"], atol=1e-6)
    four = corpora.load_corpus(data / "songs", "train")
    assert corpora.joined("eight", four, four).sources == STEMS
    with pytest.raises(UserError, match="no source 'vocals'"):
        corpora.joined("x", four, four.regroup({"rhythm": ("drums", "bass")}))


def test_excerpts(tmp_path):
    for folder in ("SiSEC-excerpts/test", "MUSDB18-excerpts/validation"):
        waves = write_song(tmp_path / folder / "Me - Mine", 50, names=("vocals", "accompaniment"), mixture=False)
    for system in ("TAU1", "MDL1"):
        audio.write_audio(tmp_path / "SiSEC-excerpts/systems/Me - Mine" / f"{system}.wav", waves["vocals"], RATE)
    assert layouts.published_systems(tmp_path / "SiSEC-excerpts/systems") == ["MDL1", "TAU1"]
    for name, split in (("sisec-excerpts", "test"), ("musdb18-excerpts", "validation")):
        (track,) = part = corpora.load_corpus(name, split, tmp_path, real=True)
        assert part.sources == ("vocals", "accompaniment") and "7 s, mono, 44.1 kHz" in corpora.split_table(part)
        assert torch.equal(track.sources["vocals"], waves["vocals"]) and track.artist == "Me"
        with pytest.raises(UserError, match="no train tracks .*7 s"):
            corpora.load_corpus(name, "train", tmp_path, real=True)
    assert "never train on them" in corpora.load_corpus("sisec-excerpts", "test", tmp_path).about


def test_stand_ins_for_irmas_say_so_and_are_split_as_irmas_is(tmp_path):
    for recording in range(1, 12):
        name = f"[voi][pop_roc]{recording:04}__1"
        write_song(tmp_path / "IRMAS-stems" / name, 50, names=("vocals", "accompaniment"), mixture=False)
        audio.write_audio(tmp_path / f"IRMAS-TrainingData/voi/{name}.wav", noise(1, 50), RATE)
    for split in corpora.SPLITS:
        with_stems, mixtures = (corpora.load_corpus(name, split, tmp_path) for name in ("irmas-stand-ins", "irmas"))
        assert [track.name for track in with_stems] == [track.name for track in mixtures]
        assert [track.song for track in with_stems] == [track.song for track in mixtures]
        assert corpora.banner(with_stems).startswith("Data: IRMAS stand-ins, cut from the training songs (")


# ---- the real files, where they are ------------------------------------------------------------------------------


@pytest.fixture
def data():
    return Path(os.environ.get("BSS_DATA_DIR") or "nowhere").expanduser()


def test_real_mir1k(data):
    if not (data / "MIR-1K").is_dir():
        pytest.skip("BSS_DATA_DIR holds no MIR-1K")
    parts = [corpora.load_corpus("mir1k", split, data, real=True) for split in corpora.SPLITS]
    assert len(parts[0]) + len(parts[1]) == 175 and len(parts[1]) == 25 and 0 < len(parts[2]) <= 825
    singers = [{track.artist for track in part} for part in parts]
    assert singers[0] == singers[1] == {"abjones", "amy"} and not singers[0] & singers[2]
    assert not {track.song for track in parts[0]} & {track.song for track in parts[1]}
    for track in parts[2][::40]:
        voice, band = track.sources["vocals"], track.sources["accompaniment"]
        level = 10 * torch.log10((voice**2).sum() / (band**2).sum())
        assert abs(level) < 0.15  # 0 dB as recorded; the worst of 935 clips is 0.124 dB off
        assert 3 < track.seconds < 16 and torch.allclose(track.mixture, voice + band, atol=1e-6)


@pytest.mark.parametrize("name", ["musdb18hq", "dsd100"])
def test_real_multitrack_songs(data, name):
    if corpora.place(name, data) is None:
        pytest.skip("BSS_DATA_DIR holds no such songs")
    part = corpora.load_corpus(name, "test", data, real=True)
    track = part[0]
    mixture = track.read_mixture(100_000, 50_000)
    total = sum(track.source(source, 100_000, 50_000) for source in part.sources)
    assert track.channels == 2 and (mixture - total).abs().max() < 0.01 and mixture.abs().max() > 0.01


@pytest.mark.parametrize(
    ("name", "split", "seconds"),
    [("irmas", "validation", 3), ("irmas-stand-ins", "validation", 3), ("sisec-excerpts", "test", 7),
     ("musdb18-excerpts", "validation", 7)],
)  # fmt: skip
def test_real_excerpts(data, name, split, seconds):
    if corpora.place(name, data) is None:
        pytest.skip("BSS_DATA_DIR holds no such excerpts")
    part = corpora.load_corpus(name, split, data, real=True)
    assert all(abs(track.seconds - seconds) < 0.01 for track in part) and part[0].mixture.any()


def test_real_voices_and_bands(data):
    if corpora.place("voices-and-bands", data) is None:
        pytest.skip("BSS_DATA_DIR holds no voices and bands")
    part = corpora.load_corpus("voices-and-bands", data_dir=data, real=True)
    sounding = {tuple(bool(track.source(name, 0, 100_000).any()) for name in part.sources) for track in part}
    assert sounding == {(True, False), (False, True)}
