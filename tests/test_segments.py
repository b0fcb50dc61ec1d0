"""Random and fixed segments of a corpus: exact, deterministic, and as likely as they should be."""

import threading

import numpy as np
import pytest
import torch
from toy_corpus import make, noise

from helpers.data import audio
from helpers.data import batches as segments
from helpers.data.batches import SegmentSampler, fixed_batches, hold, sequential_segments


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(audio, "CACHE", tmp_path / "cache")
    return tmp_path / "cache"


def counting(lengths, names=("a", "b")):
    """Return a Corpus in which every sample tells its source, track and place: source*0.5 + (track*100 + place)/2**15.

    Values stay below full scale and are held exactly.
    """
    return make(waves=[
        {name: (row * 16_384 + number * 4000 + torch.arange(1.0, length + 1))[None] / 32_768
         for row, name in enumerate(names)}
        for number, length in enumerate(lengths)
    ])  # fmt: skip


def plain(corpus, frames, batch_size=8, seed=0, **options):
    options = {"remix": 0, "gain_db": 0, "swap": 0, "keep_silent": 1} | options
    generator = torch.Generator().manual_seed(seed)
    return SegmentSampler(corpus, None, batch_size, generator, frames=frames, **options)


def same(one, two):
    return all(torch.equal(a, b) for pair in zip(one, two, strict=True) for a, b in zip(*pair, strict=True))


# ---- random segments ---------------------------------------------------------------------------------------------


def test_shapes_and_the_mixture_is_the_sum():
    sampler = SegmentSampler(make(), 0.25, 5, torch.Generator().manual_seed(0))
    batches = list(sampler.batches(3))
    assert len(batches) == 3
    for mixture, sources in batches:
        assert mixture.shape == (5, 2, 200) and sources.shape == (5, 4, 2, 200)
        assert mixture.dtype == sources.dtype == torch.float32
        assert torch.allclose(mixture, sources.sum(1), atol=1e-6) and mixture.abs().amax((1, 2)).min() > 0
    assert not torch.equal(batches[0][0], batches[1][0])


def test_coherent_crops_are_crops_of_one_place():
    corpus = counting((300, 400, 350))
    _, sources = plain(corpus, 100, 64).sample()
    assert torch.equal(sources[:, 1], sources[:, 0] + 0.5)  # the same track and place in both sources
    values = sources[:, 0, 0] * 32_768
    assert torch.equal(values.diff(), torch.ones(64, 99))
    track, place = (values[:, 0] // 4000).int(), values[:, 0] % 4000 - 1
    assert (place + 100 <= torch.tensor([300, 400, 350])[track]).all() and place.min() >= 0


def test_places_are_equally_likely():
    corpus = counting((200, 650, 250), names=("a",))
    first = torch.cat([mixture[:, 0, 0] for mixture, _ in plain(corpus, 200, 500).batches(40)]) * 32_768
    tracks, counts = (first // 4000).unique(return_counts=True)
    rooms = torch.tensor([1, 451, 51])
    assert tracks.tolist() == [0, 1, 2]
    expected = rooms / rooms.sum() * 20_000
    assert ((counts - expected).abs() < 5 * expected.sqrt()).all()
    starts = first[first // 4000 == 1] % 4000 - 1
    assert starts.min() == 0 and starts.max() == 450  # up to the very last
    assert abs(starts.mean() - 225) < 5 * 451 / np.sqrt(12 * len(starts))


def test_remixing_takes_sources_from_different_songs():
    corpus = counting((300, 400, 350))
    for chance in (0, 0.4, 1):
        batches = [sources for _, sources in plain(corpus, 100, 500, remix=chance).batches(4)]
        apart = torch.cat([sources[:, 1, 0, 0] - sources[:, 0, 0, 0] != 0.5 for sources in batches])
        assert abs(apart.float().mean() - chance) < 0.05
    values = batches[-1][:, :, 0, 0] * 32_768 % 16_384
    tracks = values // 4000
    assert (tracks[:, 0] != tracks[:, 1]).float().mean() > 0.5  # 2/3 if independent
    assert torch.equal((batches[-1] * 32_768).diff(), torch.ones(500, 2, 1, 99))


def test_gains():
    corpus = make(waves=[{"a": torch.full((1, 500), 0.5), "b": torch.full((1, 500), 0.25)}])
    sampler = plain(corpus, 50, 500, gain_db=6)
    _, sources = sampler.sample()
    level = 20 * torch.log10(sources / torch.tensor([0.5, 0.25])[:, None, None])[..., 0]
    assert torch.equal(sources, sources[..., :1].expand_as(sources)) and (level.abs() <= 6.001).all()
    assert level.min() < -5.8 and level.max() > 5.8 and abs(level.mean()) < 0.5
    assert abs(torch.corrcoef(level[..., 0].T)[0, 1]) < 0.2  # each source has its own
    _, exact = plain(corpus, 50, 3).sample()
    assert torch.equal(exact[0], torch.tensor([0.5, 0.25])[:, None, None].expand(2, 1, 50))


def test_channels_swap():
    wave = torch.stack([torch.full((500,), 0.5), torch.full((500,), 0.25)])
    corpus = make(waves=[{"a": wave, "b": wave}])
    _, sources = plain(corpus, 50, 600, swap=0.5).sample()
    swapped = sources[:, :, 0, 0] == 0.25
    assert torch.equal(sources[:, :, 0] + sources[:, :, 1], torch.full((600, 2, 50), 0.75))
    assert 0.4 < swapped.float().mean() < 0.6 and 0.4 < (swapped[:, 0] == swapped[:, 1]).float().mean() < 0.6
    assert (plain(corpus, 50, 20, swap=0).sample()[1][:, :, 0] == 0.5).all()


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
    corpus = hold(with_pauses())
    shares = [silent_share(plain(corpus, 200, 400, remix=remix, keep_silent=keep)) for keep in (0, 0.3, 1)]
    # Places with `a`: 12 of 99 starts, in two tracks of three. Where none of the tries has it, silence is kept as well.
    natural = 1 - 2 / 3 * 1000 / 9800
    assert abs(shares[2] - natural) < 0.03
    assert shares[0] < shares[1] < shares[2]
    if remix:
        assert abs(shares[0] - natural**segments.TRIES) < 0.06
    else:  # the third track never has the source, so that its silence is no reason to draw again
        assert 0.5 < shares[0] < 0.9
    assert silent_share(plain(corpus, 200, 400, remix=remix, keep_silent=0), row=1) == 0


def test_a_corpus_of_silence_is_no_endless_loop():
    corpus = make(waves=[{"a": torch.zeros(1, 500), "b": torch.zeros(1, 500)}])
    mixture, _ = plain(corpus, 100, 4, keep_silent=0, remix=0.5).sample()
    assert mixture.shape == (4, 1, 100) and not mixture.any()


@pytest.mark.parametrize("order", [(30, 400), (400, 30), (30,), (30, 40)])
def test_tracks_shorter_than_a_segment_are_followed_by_silence(order):
    corpus = make(waves=[{"a": torch.full((1, length), 0.25), "b": torch.full((1, length), 0.5)} for length in order])
    mixture, sources = plain(corpus, 100, 400, remix=0.5).sample()
    assert mixture.shape == (400, 1, 100)
    lengths = (sources[:, 0, 0] != 0).sum(-1)
    assert set(lengths.tolist()) == {min(length, 100) for length in order}
    for row, level in enumerate((0.25, 0.5)):
        filled = torch.arange(100) < (sources[:, row, 0] != 0).sum(-1, keepdim=True)
        assert torch.equal(sources[:, row, 0], filled * level)


def test_the_same_seed_gives_the_same_batches_whatever_the_workers(cache):
    corpus = make()
    in_memory, in_file = hold(corpus), hold(corpus, in_memory=0)
    reference = list(SegmentSampler(in_memory, 0.2, 6, torch.Generator().manual_seed(3)).batches(9))
    assert not same(reference, list(SegmentSampler(in_memory, 0.2, 6, torch.Generator().manual_seed(4)).batches(9)))
    for kept, workers in ((in_memory, 0), (in_memory, 1), (in_file, 0), (in_file, 2), (in_file, 5)):
        generator = torch.Generator().manual_seed(3)
        sampler = SegmentSampler(kept, 0.2, 6, generator, workers=workers)
        assert same(reference, list(sampler.batches(9)))
        assert not same(reference, list(sampler.batches(9)))  # the generator has moved on


@pytest.mark.parametrize("workers", [0, 3])
def test_a_run_resumes_from_the_generators_state(workers):
    corpus = hold(make())
    generator = torch.Generator().manual_seed(5)
    sampler = SegmentSampler(corpus, 0.2, 4, generator, workers=workers)
    list(sampler.batches(3))
    state = generator.get_state()
    expected = list(sampler.batches(4))
    later = torch.Generator()
    later.set_state(state)
    assert same(expected, list(SegmentSampler(corpus, 0.2, 4, later).batches(4)))


def test_workers_stop_where_the_batches_are_not_all_taken():
    before = threading.active_count()
    batches = SegmentSampler(make(), 0.2, 4, torch.Generator().manual_seed(0), workers=3).batches(100)
    next(batches)
    batches.close()
    assert threading.active_count() == before


def test_an_error_in_a_worker_arrives(monkeypatch):
    sampler = SegmentSampler(make(), 0.2, 4, torch.Generator().manual_seed(0), workers=2)
    monkeypatch.setattr(sampler, "_draw", lambda seed: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        list(sampler.batches(5))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
def test_batches_are_the_same_on_a_gpu():
    corpus = hold(make())
    reference = list(SegmentSampler(corpus, 0.2, 6, torch.Generator().manual_seed(3)).batches(5))
    for kept in (corpus, corpus.to("cuda")):
        sampler = SegmentSampler(kept, 0.2, 6, torch.Generator().manual_seed(3), "cuda")
        for expected, found in zip(reference, sampler.batches(5), strict=True):
            for one, two in zip(expected, found, strict=True):
                assert two.is_cuda and torch.allclose(one, two.cpu(), atol=1e-6)


def test_the_batches_serve_the_training_loop():
    from helpers.training import fit

    class Scale(torch.nn.Module):
        arguments = {}

        def __init__(self):
            super().__init__()
            self.factor = torch.nn.Parameter(torch.zeros(()))

        def forward(self, mixture):
            return self.factor * mixture

    wave = noise(1, 2000)
    kept = hold(make(waves=[{"a": wave, "b": wave / 4}]))  # the best factor for `a` is 0.8

    def batches(split, generator):
        if split == "train":
            return SegmentSampler(kept, 0.25, 4, generator, remix=0, gain_db=0).batches(20)
        return fixed_batches(kept, 0.25, 4)

    def loss(model, batch, progress):
        mixture, sources = batch
        return {"loss": ((model(mixture) - sources[:, 0]) ** 2).mean() * 1000}

    model = Scale()
    history = fit(model, loss, batches, epochs=3, steps=20, learning_rate=0.1)
    assert history["validation"]["loss"][-1] < history["validation"]["loss"][0]
    assert model.factor.item() == pytest.approx(0.8, abs=0.05)


# ---- fixed segments ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("frames", [100, 333, 1000, 5000])
def test_sequential_segments_cover_a_track_once(frames):
    track = make((1000,))[0]
    parts = list(sequential_segments(track, frames=frames))
    assert len(parts) == -(-1000 // frames)
    assert all(mixture.shape == (2, frames) and sources.shape == (4, 2, frames) for mixture, sources in parts)
    whole = torch.cat([sources for _, sources in parts], dim=-1)
    assert torch.equal(whole[..., :1000], torch.stack(list(track.sources.values()))) and not whole[..., 1000:].any()
    assert torch.equal(torch.cat([mixture for mixture, _ in parts], dim=-1)[:, :1000], track.mixture)


def test_sequential_segments_by_seconds_and_of_chosen_sources():
    track = make((1000,))[0]
    parts = list(sequential_segments(track, 0.5, sources=("bass", "vocals")))
    assert len(parts) == 3 and torch.equal(parts[1][1][0], track.source("bass", 400, 400))
    assert torch.equal(parts[1][1][1], track.source("vocals", 400, 400))


@pytest.mark.parametrize("in_memory", [0, 10**9])
@pytest.mark.parametrize("frames", [70, 100, 990, 3000])
def test_fixed_batches_are_all_sequential_segments(frames, in_memory):
    corpus = make((1000, 1530, 40), channels=1)
    batches = list(fixed_batches(hold(corpus, in_memory), frames=frames, batch_size=4))
    expected = [part for track in corpus for part in sequential_segments(track, frames=frames)]
    assert {len(mixture) for mixture, _ in batches[:-1]} <= {4} and 1 <= len(batches[-1][0]) <= 4
    for row in (0, 1):
        found = torch.cat([batch[row] for batch in batches])
        assert torch.allclose(found, torch.stack([part[row] for part in expected]), atol=1e-6)


def test_a_limit_spreads_the_segments_evenly_and_always_the_same():
    corpus = make((1000, 1500, 2100), channels=1)
    everything = torch.cat([mixture for mixture, _ in fixed_batches(corpus, frames=100)])
    some = torch.cat([mixture for mixture, _ in fixed_batches(corpus, frames=100, batch_size=3, limit=8)])
    index = torch.linspace(0, 45, 8).round().long()
    assert len(everything) == 46 and torch.equal(some, everything[index])
    assert torch.equal(torch.cat([m for m, _ in fixed_batches(corpus, frames=100, limit=99)]), everything)
