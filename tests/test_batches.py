"""A corpus as integers, in memory or in a file, and its random and fixed segments: exact, repeatable, fair."""

import os
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest
import torch
from toy_corpus import RATE, STEMS, make, noise

from helpers.data import audio, batches
from helpers.data.augment import at_speeds
from helpers.data.batches import SegmentSampler, fixed_batches, load_samples, sequential_segments
from helpers.data.tracks import Corpus, FileStem, Track
from helpers.runtime import ROOT, UserError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr("helpers.runtime.cache_dir", lambda: tmp_path / "cache")
    return tmp_path / "cache"


def counting(lengths, names=("a", "b")):
    """Return a Corpus in which every sample tells its source, track and place: source*0.5 + (track*4000 + place)/2**15.

    Values stay below full scale and are exact in 16 bits.
    """
    return make(waves=[
        {name: (row * 16_384 + number * 4000 + torch.arange(1.0, length + 1))[None] / 32_768
         for row, name in enumerate(names)}
        for number, length in enumerate(lengths)
    ])  # fmt: skip


def plain(corpus, frames, batch_size=8, seed=0, swap=0.0, keep_silent=1.0, **options):
    """Return a sampler that changes nothing, but for the options given."""
    options = {"remix": 0, "gain_db": 0} | options
    sampler = SegmentSampler(corpus, frames / RATE, batch_size, torch.Generator().manual_seed(seed), **options)
    sampler.swap, sampler.keep_silent = swap, keep_silent
    return sampler


def one_batch(sampler):
    return next(iter(sampler.batches(1)))


def same(one, two):
    return all(torch.equal(a, b) for pair in zip(one, two, strict=True) for a, b in zip(*pair, strict=True))


# ---- reading a corpus --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("in_memory", [0, 10**9])
def test_samples_are_the_corpus(in_memory, monkeypatch):
    monkeypatch.setattr(batches, "READ", 300)
    corpus = make()
    samples = load_samples(corpus, in_memory=in_memory)
    assert samples.in_memory == bool(in_memory) and samples.values.dtype == torch.int16
    for number, track in enumerate(corpus):
        start, length = int(samples.starts[number]), int(samples.lengths[number])
        assert length == track.frames
        for row, name in enumerate(corpus.sources):
            part = samples.values[row, :, start : start + length].float() * samples.scales[number]
            assert torch.equal(part, track.source(name))
    kind = "in memory" if in_memory else "in a file"
    assert str(samples) == f"toy: 3 tracks, 0.00 h, 4 source(s), 2 channel(s), 800 Hz: 0 MB {kind}"


def test_what_exceeds_full_scale_is_scaled_not_clipped():
    loud = {"a": 3 * noise(1, 500, level=0.25), "b": noise(1, 500, 1, level=0.1)}
    assert loud["a"].abs().max() > 1.5
    samples = load_samples(make(waves=[loud, {"a": noise(1, 300), "b": noise(1, 300)}]))
    rows = samples.values[:, 0, :500].float() * samples.scales[0]
    assert (rows - torch.cat(list(loud.values()))).abs().max() <= samples.scales[0] / 2 * 1.01
    assert samples.scales[1] == 1 / 32_768 < samples.scales[0]


def test_full_scale_itself_does_not_wrap_round():
    samples = load_samples(make(waves=[{"a": torch.tensor([[1.0, -1.0, 0.5]])}]))
    assert torch.allclose(samples.values[0, 0, :3] / 32_768, torch.tensor([1.0, -1.0, 0.5]), atol=2**-15)
    assert samples.active[0].tolist() == [0, 1]


def test_mono_tracks_among_stereo_ones_and_corpora_without_sources():
    samples = load_samples(make(waves=[{"a": noise(1, 200)}, {"a": noise(2, 200, 1)}]))
    assert samples.values.shape[1] == 2 and torch.equal(samples.values[0, 0, :200], samples.values[0, 1, :200])
    mixtures = load_samples(make(waves=[{"a": noise(2, 500, 2), "b": noise(2, 500, 3)}]).regroup({}))
    assert mixtures.values.shape[0] == 1 and mixtures.sources == ()
    mixture, sources = one_batch(plain(mixtures, 50, 4))
    assert mixture.shape == (4, 2, 50) and sources.shape == (4, 0, 2, 50) and mixture.abs().max() > 0
    assert [tuple(part.shape) for part in next(fixed_batches(mixtures, 100 / RATE))] == [(5, 2, 100), (5, 0, 2, 100)]


def test_different_sample_rates_are_refused():
    corpus = make()
    mixed = Corpus("toy", "train", (corpus[0], corpus[1].at(400)), STEMS, "")
    with pytest.raises(UserError, match=r"sample rates \[400, 800\]: choose one with sample_rate="):
        load_samples(mixed)


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


@pytest.mark.parametrize("speeds", [None, (0.0, 2.0)])
def test_the_file_is_made_once_and_anew_where_something_changed(tmp_path, cache, monkeypatch, speeds):
    def corpus():  # anew: without what tracks remember of their files
        files = Corpus("files", "train", tuple(track.at() for track in written), ("a", "b"), "")
        return at_speeds(files, speeds) if speeds else files

    written = from_files(tmp_path)
    first = load_samples(corpus(), in_memory=0)
    assert len(list((cache / "samples").iterdir())) == 2
    with monkeypatch.context() as patched:
        patched.setattr(audio, "read_audio", None)  # nothing is read a second time
        again = load_samples(corpus(), in_memory=0)
    for name in ("values", "scales", "active", "starts", "lengths"):
        assert torch.equal(getattr(first, name), getattr(again, name))
    audio.write_audio(tmp_path / "0a.wav", noise(1, 900, 77), RATE)  # as long as before
    assert not torch.equal(load_samples(corpus(), in_memory=0).values, first.values)
    grouped = corpus().regroup({"a": ("a", "b"), "b": ()})
    assert not load_samples(grouped, in_memory=0).values[1].any()


def test_a_file_that_cannot_be_read_leaves_nothing_in_the_cache(tmp_path, cache):
    corpus = from_files(tmp_path)
    assert [track.frames for track in corpus] == [900, 700]  # now their lengths are known
    (tmp_path / "1b.wav").write_bytes(b"no longer a file of audio")
    with pytest.raises(UserError, match="1b.wav"):
        load_samples(corpus, in_memory=0)
    assert [path for path in cache.rglob("*") if path.is_file()] == []


def test_a_disk_too_small_is_said(tmp_path, cache, monkeypatch):
    corpus = from_files(tmp_path)
    usage = os.statvfs(tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 10, "total": usage.f_blocks}))
    with pytest.raises(UserError, match="int16.*No space left.*free some disk space"):
        load_samples(corpus, in_memory=0)
    assert [path for path in cache.rglob("*") if path.is_file()] == []


def test_two_writers_of_one_file_do_not_disturb_each_other(monkeypatch):
    """The second one begins in the middle of the first one's work, and both have the whole corpus."""
    corpus, fill, second = make(), batches._fill, []

    def fill_twice(values, *arguments):
        if not second:
            second.append(None)
            second[0] = load_samples(corpus, in_memory=0)
        return fill(values, *arguments)

    monkeypatch.setattr(batches, "_fill", fill_twice)
    first = load_samples(corpus, in_memory=0)
    for samples in (first, second[0]):
        assert torch.equal(samples.values, load_samples(corpus).values)


BIG = """
    import sys
    from pathlib import Path
    import torch
    from helpers import runtime
    from helpers.data import audio, batches
    from helpers.data.tracks import Corpus, Track

    class Long:  # a stem of 17 minutes that exists only while it is read
        shape = audio.Shape(16_000, 2, 1_000 * 16_000)
        def read(self, start, frames):
            return torch.arange(start, start + frames).remainder(30_000).expand(2, -1) / 32_768
        def version(self):
            return "long"

    def own():  # memory in kB that is not merely a view of a file
        return int(next(line for line in open("/proc/self/status") if line.startswith("RssAnon")).split()[1])

    batches.READ = 1 << 16
    runtime.cache_dir = lambda: Path(sys.argv[1])
    corpus = Corpus("big", "train", (Track("long", 16_000, {"a": (Long(),), "b": (Long(),)}),), ("a", "b"), "")
    before = own()
    samples = batches.load_samples(corpus, in_memory=0)
    sampler = batches.SegmentSampler(samples, 2.0, 8, torch.Generator().manual_seed(0), gain_db=0, remix=0)
    for mixture, sources in sampler.batches(5):
        steps = (sources[:, 0, 0].diff() * 32_768).round()
        assert ((steps == 1) | (steps == -29_999)).all()
    print(samples.values.numel() * 2 // 1024, own() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_long_corpus_in_stereo_is_not_kept_in_memory(tmp_path):
    code = textwrap.dedent(BIG)
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    size, taken = map(int, done.stdout.split())
    assert size == 125_000 and taken < size / 2  # a batch and what torch itself takes are some 40,000


# ---- devices -----------------------------------------------------------------------------------------------------


def test_the_copy_on_a_device_is_made_once_and_only_where_it_fits(monkeypatch):
    samples = load_samples(make())
    there = samples.to("meta")
    assert there.values.is_meta and not there.starts.is_meta and samples.to("meta") is there
    assert samples.to("cpu") is samples and samples.to("mps") is samples
    monkeypatch.setattr(batches, "ON_GPU", 2 * samples.values.numel() - 1)
    assert samples.to("cuda") is samples


@pytest.mark.parametrize("fits", [True, False])
def test_batches_are_made_on_the_device_without_mixing_devices(fits, monkeypatch):
    samples = load_samples(make())
    monkeypatch.setattr(batches.Samples, "to", lambda self, device: self) if not fits else None
    sampler = SegmentSampler(samples, 0.2, 6, torch.Generator().manual_seed(3), "meta")
    for mixture, sources in (*sampler.batches(2), *fixed_batches(samples, 0.2, device="meta")):
        assert mixture.is_meta and sources.is_meta and sources.shape[1:] == (4, 2, 160)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
@pytest.mark.parametrize("fits", [True, False])
def test_batches_are_the_same_on_a_gpu(fits, monkeypatch):
    samples = load_samples(make())
    if not fits:
        monkeypatch.setattr(batches, "ON_GPU", 0)
    for kind in (lambda device: plain(samples, 160, 6, remix=0.5, gain_db=6, swap=0.5, device=device).batches(5),
                 lambda device: fixed_batches(samples, 0.2, device=device)):  # fmt: skip
        for expected, found in zip(kind("cpu"), kind("cuda"), strict=True):
            assert all(two.is_cuda and torch.equal(one, two.cpu()) for one, two in zip(expected, found, strict=True))


# ---- random segments ---------------------------------------------------------------------------------------------


def test_shapes_and_the_mixture_is_the_sum():
    sampler = SegmentSampler(make(), 0.25, 5, torch.Generator().manual_seed(0))
    drawn = list(sampler.batches(3))
    assert len(drawn) == 3
    for mixture, sources in drawn:
        assert mixture.shape == (5, 2, 200) and sources.shape == (5, 4, 2, 200)
        assert mixture.dtype == sources.dtype == torch.float32
        assert torch.allclose(mixture, sources.sum(1), atol=1e-6) and mixture.abs().amax((1, 2)).min() > 0
    assert not torch.equal(drawn[0][0], drawn[1][0])


def test_coherent_crops_are_crops_of_one_place():
    _, sources = one_batch(plain(counting((300, 400, 350)), 100, 64))
    assert torch.equal(sources[:, 1], sources[:, 0] + 0.5)  # the same track and place in both sources
    values = sources[:, 0, 0] * 32_768
    assert torch.equal(values.diff(), torch.ones(64, 99))
    track, place = (values[:, 0] // 4000).int(), values[:, 0] % 4000 - 1
    assert (place + 100 <= torch.tensor([300, 400, 350])[track]).all() and place.min() >= 0


def test_places_are_equally_likely():
    corpus = counting((200, 650, 250), names=("a",))
    first = torch.cat([mixture[:, 0, 0] for mixture, _ in plain(corpus, 200, 500).batches(40)]) * 32_768
    tracks, counts = (first // 4000).unique(return_counts=True)
    valid_starts = torch.tensor([1, 451, 51])
    assert tracks.tolist() == [0, 1, 2]
    expected = valid_starts / valid_starts.sum() * 20_000
    assert ((counts - expected).abs() < 5 * expected.sqrt()).all()
    starts = first[first // 4000 == 1] % 4000 - 1
    assert starts.min() == 0 and starts.max() == 450  # up to the very last
    assert abs(starts.mean() - 225) < 5 * 451 / np.sqrt(12 * len(starts))


def test_remixing_takes_sources_from_different_songs():
    corpus = counting((300, 400, 350))
    for chance in (0, 0.4, 1):
        drawn = [sources for _, sources in plain(corpus, 100, 500, remix=chance).batches(4)]
        apart = torch.cat([sources[:, 1, 0, 0] - sources[:, 0, 0, 0] != 0.5 for sources in drawn])
        assert abs(apart.float().mean() - chance) < 0.05
    values = drawn[-1][:, :, 0, 0] * 32_768 % 16_384
    tracks = values // 4000
    assert (tracks[:, 0] != tracks[:, 1]).float().mean() > 0.5  # 2/3 if independent
    assert torch.equal((drawn[-1] * 32_768).diff(), torch.ones(500, 2, 1, 99))


def test_gains():
    corpus = make(waves=[{"a": torch.full((1, 500), 0.5), "b": torch.full((1, 500), 0.25)}])
    _, sources = one_batch(plain(corpus, 50, 500, gain_db=6))
    level = 20 * torch.log10(sources / torch.tensor([0.5, 0.25])[:, None, None])[..., 0]
    assert torch.equal(sources, sources[..., :1].expand_as(sources)) and (level.abs() <= 6.001).all()
    assert level.min() < -5.8 and level.max() > 5.8 and abs(level.mean()) < 0.5
    assert abs(torch.corrcoef(level[..., 0].T)[0, 1]) < 0.2  # each source has its own
    _, exact = one_batch(plain(corpus, 50, 3))
    assert torch.equal(exact[0], torch.tensor([0.5, 0.25])[:, None, None].expand(2, 1, 50))


def test_channels_swap():
    wave = torch.stack([torch.full((500,), 0.5), torch.full((500,), 0.25)])
    corpus = make(waves=[{"a": wave, "b": wave}])
    _, sources = one_batch(plain(corpus, 50, 600, swap=0.5))
    swapped = sources[:, :, 0, 0] == 0.25
    assert torch.equal(sources[:, :, 0] + sources[:, :, 1], torch.full((600, 2, 50), 0.75))
    assert 0.4 < swapped.float().mean() < 0.6 and 0.4 < (swapped[:, 0] == swapped[:, 1]).float().mean() < 0.6
    assert (one_batch(plain(corpus, 50, 20))[1][:, :, 0] == 0.5).all()


def with_pauses():
    """Return a corpus whose source `a` sounds in a tenth of the time only, and whose third track has no `a` at all."""
    waves = []
    for number in range(3):
        a, b = noise(1, 10_000, number), noise(1, 10_000, 10 + number)
        a[:, 1000:] = 0
        waves.append({"a": a * (number < 2), "b": b})
    return make(waves=waves)


def silent_share(sampler, row=0, steps=10):
    silent = [(sources[:, row].abs() < 1e-6).all(-1).all(-1) for _, sources in sampler.batches(steps)]
    return float(torch.cat(silent).float().mean())


@pytest.mark.parametrize("remix", [0, 1])
def test_silence_is_kept_with_the_probability_asked_for(remix):
    samples = load_samples(with_pauses())
    shares = [silent_share(plain(samples, 200, 400, remix=remix, keep_silent=keep)) for keep in (0, 0.3, 1)]
    # Places with `a`: 12 of 99 starts, in two tracks of three. Where none of the tries has it, silence is kept as well.
    natural = 1 - 2 / 3 * 1000 / 9800
    assert abs(shares[2] - natural) < 0.03
    assert shares[0] < shares[1] < shares[2]
    if remix:
        assert abs(shares[0] - natural**batches.TRIES) < 0.06
    else:  # the third track never has the source, so that its silence is no reason to draw again
        assert 0.5 < shares[0] < 0.9
    assert silent_share(plain(samples, 200, 400, remix=remix, keep_silent=0), row=1) == 0


def test_a_corpus_of_silence_is_no_endless_loop():
    corpus = make(waves=[{"a": torch.zeros(1, 500), "b": torch.zeros(1, 500)}])
    mixture, _ = one_batch(plain(corpus, 100, 4, keep_silent=0, remix=0.5))
    assert mixture.shape == (4, 1, 100) and not mixture.any()


@pytest.mark.parametrize("order", [(30, 400), (400, 30), (30,), (30, 40)])
def test_tracks_shorter_than_a_segment_are_followed_by_silence(order):
    corpus = make(waves=[{"a": torch.full((1, length), 0.25), "b": torch.full((1, length), 0.5)} for length in order])
    mixture, sources = one_batch(plain(corpus, 100, 400, remix=0.5))
    assert mixture.shape == (400, 1, 100)
    lengths = (sources[:, 0, 0] != 0).sum(-1)
    assert set(lengths.tolist()) == {min(length, 100) for length in order}
    for row, level in enumerate((0.25, 0.5)):
        filled = torch.arange(100) < (sources[:, row, 0] != 0).sum(-1, keepdim=True)
        assert torch.equal(sources[:, row, 0], filled * level)


def test_the_same_seed_gives_the_same_batches_whatever_the_workers():
    corpus = make()
    in_memory, in_file = load_samples(corpus), load_samples(corpus, in_memory=0)
    reference = list(SegmentSampler(in_memory, 0.2, 6, torch.Generator().manual_seed(3)).batches(9))
    assert not same(reference, list(SegmentSampler(in_memory, 0.2, 6, torch.Generator().manual_seed(4)).batches(9)))
    for samples, workers in ((in_memory, 0), (in_memory, 1), (in_file, 0), (in_file, 2), (in_file, 5)):
        generator = torch.Generator().manual_seed(3)
        sampler = SegmentSampler(samples, 0.2, 6, generator, workers=workers)
        assert same(reference, list(sampler.batches(9)))
        assert not same(reference, list(sampler.batches(9)))  # the generator has moved on


@pytest.mark.parametrize("workers", [0, 3])
def test_a_run_resumes_from_the_generators_state(workers):
    samples = load_samples(make())
    generator = torch.Generator().manual_seed(5)
    sampler = SegmentSampler(samples, 0.2, 4, generator, workers=workers)
    list(sampler.batches(3))
    state = generator.get_state()
    expected = list(sampler.batches(4))
    later = torch.Generator()
    later.set_state(state)
    assert same(expected, list(SegmentSampler(samples, 0.2, 4, later).batches(4)))


def test_workers_stop_where_the_batches_are_not_all_taken():
    before = threading.active_count()
    drawn = SegmentSampler(make(), 0.2, 4, torch.Generator().manual_seed(0), workers=3).batches(100)
    next(drawn)
    drawn.close()
    assert threading.active_count() == before


def test_an_error_in_a_worker_arrives(monkeypatch):
    sampler = SegmentSampler(make(), 0.2, 4, torch.Generator().manual_seed(0), workers=2)
    monkeypatch.setattr(sampler, "_draw", lambda seed: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        list(sampler.batches(5))


# ---- fixed segments ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("frames", [100, 333, 1000, 5000])
def test_sequential_segments_cover_a_track_once(frames):
    track = make((1000,))[0]
    parts = list(sequential_segments(track, frames / RATE))
    assert len(parts) == -(-1000 // frames)
    assert all(mixture.shape == (2, frames) and sources.shape == (4, 2, frames) for mixture, sources in parts)
    whole = torch.cat([sources for _, sources in parts], dim=-1)
    assert torch.equal(whole[..., :1000], torch.stack(list(track.sources.values()))) and not whole[..., 1000:].any()
    assert torch.equal(torch.cat([mixture for mixture, _ in parts], dim=-1)[:, :1000], track.mixture)


@pytest.mark.parametrize("in_memory", [0, 10**9])
@pytest.mark.parametrize("frames", [70, 100, 990, 3000])
def test_fixed_batches_are_all_sequential_segments(frames, in_memory):
    corpus = make((1000, 1530, 40), channels=1)
    drawn = list(fixed_batches(load_samples(corpus, in_memory=in_memory), frames / RATE, batch_size=4))
    expected = [part for track in corpus for part in sequential_segments(track, frames / RATE)]
    assert {len(mixture) for mixture, _ in drawn[:-1]} <= {4} and 1 <= len(drawn[-1][0]) <= 4
    for row in (0, 1):
        found = torch.cat([batch[row] for batch in drawn])
        assert torch.allclose(found, torch.stack([part[row] for part in expected]), atol=1e-6)


def test_a_limit_spreads_the_segments_evenly_and_always_the_same():
    corpus, seconds = make((1000, 1500, 2100), channels=1), 100 / RATE
    everything = torch.cat([mixture for mixture, _ in fixed_batches(corpus, seconds)])
    some = torch.cat([mixture for mixture, _ in fixed_batches(corpus, seconds, batch_size=3, limit=8)])
    index = torch.linspace(0, 45, 8).round().long()
    assert len(everything) == 46 and torch.equal(some, everything[index])
    assert torch.equal(torch.cat([m for m, _ in fixed_batches(corpus, seconds, limit=99)]), everything)
