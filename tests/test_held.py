"""A corpus held as integers, in memory or in a file: exact, made once, and no larger than it has to be."""

import subprocess
import sys
import textwrap

import pytest
import torch
from toy_corpus import RATE, STEMS, make, noise

from helpers.data import audio, held
from helpers.data.batches import SegmentSampler, fixed_batches
from helpers.data.held import hold
from helpers.data.tracks import Corpus, FileStem, Track
from helpers.runtime import ROOT, UserError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(audio, "CACHE", tmp_path / "cache")
    return tmp_path / "cache"


@pytest.mark.parametrize("in_memory", [0, 10**9])
def test_a_held_corpus_is_the_corpus(in_memory, monkeypatch):
    monkeypatch.setattr(held, "READ", 300)
    corpus = make()
    found = hold(corpus, in_memory)
    assert found.in_memory == bool(in_memory) and found.samples.dtype == torch.int16
    for number, track in enumerate(corpus):
        start, length = int(found.starts[number]), int(found.lengths[number])
        assert length == track.frames
        for row, name in enumerate(corpus.sources):
            part = found.samples[row, :, start : start + length].float() * found.scales[number]
            assert torch.equal(part, track.sources[name])
    kind = "in memory" if in_memory else "in a memory-mapped file"
    assert str(found) == f"toy: 3 tracks, 0.00 h, 4 source(s), 2 channel(s), 800 Hz: 0 MB as 16-bit integers {kind}"


def test_what_exceeds_full_scale_is_scaled_not_clipped():
    loud = {"a": 3 * noise(1, 500, level=0.25), "b": noise(1, 500, 1, level=0.1)}
    assert loud["a"].abs().max() > 1.5
    found = hold(make(waves=[loud, {"a": noise(1, 300), "b": noise(1, 300)}]))
    rows = found.samples[:, 0, :500].float() * found.scales[0]
    assert (rows - torch.cat(list(loud.values()))).abs().max() <= found.scales[0] / 2 * 1.01
    assert found.scales[1] == 1 / 32_768 < found.scales[0]


def test_full_scale_itself_does_not_wrap_round():
    found = hold(make(waves=[{"a": torch.tensor([[1.0, -1.0, 0.5]])}]))
    assert torch.allclose(found.samples[0, 0, :3] / 32_768, torch.tensor([1.0, -1.0, 0.5]), atol=2**-15)


def test_mono_tracks_among_stereo_ones_and_corpora_without_sources():
    found = hold(make(waves=[{"a": noise(1, 200)}, {"a": noise(2, 200, 1)}]))
    assert found.samples.shape[1] == 2 and torch.equal(found.samples[0, 0, :200], found.samples[0, 1, :200])
    stems = make(waves=[{"a": noise(2, 500, 2), "b": noise(2, 500, 3)}])
    mixtures = hold(stems.regroup({}))
    assert mixtures.samples.shape[0] == 1 and mixtures.sources == ()
    mixture, sources = SegmentSampler(mixtures, None, 4, torch.Generator().manual_seed(0), frames=50).sample()
    assert mixture.shape == (4, 2, 50) and sources.shape == (4, 0, 2, 50) and mixture.abs().max() > 0
    assert [tuple(part.shape) for part in next(fixed_batches(mixtures, frames=100))] == [(5, 2, 100), (5, 0, 2, 100)]


def test_different_sample_rates_are_refused():
    corpus = make()
    mixed = Corpus("toy", "train", (corpus[0], corpus[1].at(400)), STEMS, "")
    with pytest.raises(UserError, match=r"sample rates \[400, 800\]: choose one with sample_rate="):
        hold(mixed)


def from_files(folder, lengths=(900, 700)):
    tracks = []
    for number, length in enumerate(lengths):
        stems = {}
        for row, name in enumerate(("a", "b")):
            path = folder / f"{number}{name}.wav"
            audio.write_audio(path, noise(1, length, 10 * number + row), RATE)
            stems[name] = (FileStem(path, RATE),)
        tracks.append(Track(str(number), RATE, stems))
    return Corpus("files", "train", tuple(tracks), ("a", "b"), "")


def test_the_file_is_made_once_and_anew_where_something_changed(tmp_path, cache, monkeypatch):
    corpus = from_files(tmp_path)
    first = hold(corpus, in_memory=0)
    files = sorted(path.name for path in (cache / "held").iterdir())
    assert len(files) == 2 and not any("part" in name for name in files)
    with monkeypatch.context() as patched:
        patched.setattr(audio, "read_audio", None)  # nothing is read a second time
        again = hold(corpus, in_memory=0)
    for name in ("samples", "scales", "active", "starts", "lengths"):
        assert torch.equal(getattr(first, name), getattr(again, name))
    assert len(list((cache / "held").iterdir())) == 2
    audio.write_audio(tmp_path / "0a.wav", noise(1, 900, 77), RATE)
    changed = hold(from_files_again(corpus), in_memory=0)
    assert not torch.equal(changed.samples, first.samples)
    one = corpus.regroup({"a": ("a", "b"), "b": ()})
    assert hold(one, in_memory=0).samples[1].any().item() is False


def from_files_again(corpus):
    """Return the corpus without what its tracks remember of their files."""
    return corpus.at()


def test_a_file_that_cannot_be_read_leaves_nothing_in_the_cache(tmp_path, cache):
    corpus = from_files(tmp_path)
    assert [track.frames for track in corpus] == [900, 700]  # now their lengths are known
    (tmp_path / "1b.wav").write_bytes(b"no longer a file of audio")
    with pytest.raises(UserError, match="1b.wav"):
        hold(corpus, in_memory=0)
    assert [path for path in cache.rglob("*") if path.is_file()] == []


def test_a_disk_too_small_is_said(tmp_path, cache, monkeypatch):
    corpus = from_files(tmp_path)
    usage = held.check_space.__globals__["shutil"].disk_usage(tmp_path)
    monkeypatch.setattr("helpers.data.download.shutil.disk_usage", lambda _: usage._replace(free=10))
    with pytest.raises(UserError, match="int16.*No space left.*free some disk space"):
        hold(corpus, in_memory=0)
    assert [path for path in cache.rglob("*") if path.is_file()] == []


BIG = """
    import sys
    from pathlib import Path
    import torch
    from helpers.data import audio, batches as segments, held
    from helpers.data.tracks import Corpus, Track

    class Long:  # a stem of 25 minutes that exists only while it is read
        shape = audio.Shape(16_000, 2, 1_500 * 16_000)
        waveform = torch.zeros(1)
        def read(self, start, frames):
            return torch.arange(start, start + frames).remainder(30_000).expand(2, -1) / 32_768

    def own():  # memory in kB that is not merely a view of a file
        return int(next(line for line in open("/proc/self/status") if line.startswith("RssAnon")).split()[1])

    held.READ = 1 << 16
    corpus = Corpus("big", "train", (Track("long", 16_000, {"a": (Long(),), "b": (Long(),)}),), ("a", "b"), "")
    before = own()
    found = segments.hold(corpus, in_memory=0, cache_dir=Path(sys.argv[1]))
    sampler = segments.SegmentSampler(found, 2.0, 8, torch.Generator().manual_seed(0), gain_db=0, remix=0)
    for mixture, sources in sampler.batches(5):
        steps = (sources[:, 0, 0].diff() * 32_768).round()
        assert ((steps == 1) | (steps == -29_999)).all()
    print(found.samples.numel() * 2 // 1024, own() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_long_corpus_in_stereo_is_not_held_in_memory(tmp_path):
    code = textwrap.dedent(BIG)
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    size, taken = map(int, done.stdout.split())
    assert size == 187_500 and taken < size / 2  # a batch and what torch itself takes are some 40,000
