"""The corpora: tiny copies in the real layouts, their splits and names, tracks read in parts, and what stands in."""

import os
import warnings
from pathlib import Path

import pytest
import torch
from toy_songs import RATE, STEMS, noise, stub_streams, write_song

from helpers.data import audio, corpora, layouts
from helpers.data.tracks import Corpus, Track
from helpers.runtime import UserError


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """No network, an empty cache, and quick embedded songs."""
    songs = [Track.from_waveforms("a", RATE, {name: noise(2, 3000, 1) for name in STEMS})]
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
    corpus = Corpus("toy", "test", (Track.from_waveforms("a", RATE, waves, artist="me"),), STEMS, "")
    two = corpus.vocals_and_accompaniment()
    assert two.sources == ("vocals", "accompaniment") == tuple(two[0].sources) and two[0].artist == "me"
    rest = waves["drums"] + waves["bass"] + waves["other"]
    assert torch.allclose(two[0].sources["accompaniment"], rest, atol=1e-6)
    only = corpus.regroup({"rhythm": ("drums", "bass")})
    assert torch.allclose(only[0].mixture, sum(waves.values()), atol=1e-6)  # the mixture stays what it was
    with pytest.raises(UserError, match="no source 'vocals'"):
        only.vocals_and_accompaniment()


# ---- what takes the place of a missing corpus ----------------------------------------------------------------------


@pytest.mark.parametrize("name", list(corpora.KINDS))
def test_without_data_and_network_the_embedded_songs_take_their_place(tmp_path, name):
    with pytest.warns(UserWarning, match=f"the embedded songs take its place: run `python -m helpers fetch {name} "):
        part = corpora.load_corpus(name, "test", tmp_path)
    assert part.embedded and part.name == "embedded songs"
    assert part.sources == corpora.KINDS[name].sources == tuple(part[0].sources)
    assert part[0].sample_rate == (16_000 if name == "mir1k" else RATE)
    assert part[0].channels == (1 if name == "mir1k" else 2) and part[0].mixture.abs().max() > 0
    assert corpora.banner(part).startswith("**Embedded data") and "not comparable" in corpora.banner(part)
    with pytest.raises(UserError, match=f"is not in .*python -m helpers fetch {name} --data-dir"):
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
    monkeypatch.setattr(corpora, "_has_ffmpeg", lambda: False)
    for name in ("mir1k", "irmas", "musdb18hq"):
        with pytest.warns(UserWarning, match="the embedded songs take its place"):
            assert corpora.load_corpus(name, "test", tmp_path / "data").embedded
    assert fetched == []
    assert corpora.fetch("mir1k", tmp_path / "data") == tmp_path / "data/MIR-1K"  # asked by name
    assert corpora.fetch("mir1k", tmp_path / "data") == tmp_path / "data/MIR-1K"  # there already
    assert fetched == ["MIR-1K.zip"]


def test_the_banner_of_real_tracks(tmp_path):
    write_song(tmp_path / "MUSDB18-HQ/test/a", 60 * 8000, rate=8000)
    part = corpora.load_corpus("musdb18hq", "test", tmp_path)
    assert corpora.banner(part) == "Data: multitrack-1 (MUSDB18-HQ layout) (test: 1 tracks, 1.0 minutes)."


def test_unknown_names_and_a_folder_without_the_layout(tmp_path):
    for wrong in (["musdb19"], ["mir1k", "dev"]):
        with pytest.raises(UserError, match="unknown .* take "):
            corpora.load_corpus(*wrong)
    with pytest.raises(UserError, match="unknown corpus 'mnist': take one of mir1k"):
        corpora.fetch("mnist")
    (tmp_path / "DSD100").mkdir()
    with pytest.raises(UserError, match=r"DSD100 holds no train tracks of DSD100's layout.*fetch dsd100"):
        corpora.load_corpus("dsd100", "train", tmp_path)


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


def test_real_irmas(data):
    if corpora.place("irmas", data) is None:
        pytest.skip("BSS_DATA_DIR holds no IRMAS")
    part = corpora.load_corpus("irmas", "validation", data, real=True)
    assert all("[voi]" in track.name for track in part) and abs(part[0].seconds - 3) < 0.01
