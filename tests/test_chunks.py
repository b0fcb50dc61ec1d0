"""Long songs in chunks: what a method sees at once is bounded, short songs are as without, and nothing is lost."""

import pytest
import torch

from helpers.separation.baselines import BASELINES, MultipassHPSS
from helpers.separation.chunks import ChunkedSeparator, in_chunks, in_pieces
from helpers.separation.oracles import IdealBinaryMask, IdealWienerMask, Oracle

RATE = 8000


def noise(*shape, seed=0, level=0.1):
    return level * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def song(seconds, channels=2):
    """A voice that glides and pauses and a chord that stays, `(channels, time)` each."""
    t = torch.arange(round(seconds * RATE)) / RATE
    voice = torch.sin(2 * torch.pi * (500 * t + 8 * torch.sin(2 * torch.pi * 1.5 * t))) * ((t % 1.1) > 0.3)
    chord = sum(torch.sin(2 * torch.pi * f * t) for f in (220, 330, 1760))
    gains = torch.tensor([[1.0], [0.7]])[:channels]
    return {"vocals": 0.1 * voice * gains, "accompaniment": 0.05 * chord * gains.flip(0)}


def sdr(estimate, reference):
    return float(10 * torch.log10(reference.square().sum() / (reference - estimate).square().sum()))


class Halves:
    """Gives half of what it gets to each source, and keeps the lengths that it saw."""

    def __init__(self, sources):
        self.names, self.seen = tuple(sources), []

    def __call__(self, waveform, sample_rate):
        self.seen.append(waveform.shape[-1])
        return {name: waveform / len(self.names) for name in self.names}


class TrueSources(Oracle):
    """Returns the truth that it was made from."""

    def __call__(self, waveform, sample_rate):
        torch.testing.assert_close(self.truth.sum(0), waveform)  # the truth of the same place
        return dict(zip(self.names, self.truth, strict=True))


def test_chunks_are_of_one_length_and_add_up():
    for seconds, parts in ((0.01, 1), (1, 1), (1.001, 2), (4, 5), (7.3, 10)):
        separator = ChunkedSeparator(Halves, ["a", "b"], chunk=1)
        separator.overlap = 0.25
        wave = noise(2, round(seconds * RATE))
        estimates = separator(wave, RATE)
        assert separator.whole.seen == [min(RATE, wave.shape[-1])] * parts and list(estimates) == ["a", "b"]
        assert all(torch.equal(estimate, wave / 2) for estimate in estimates.values())


def test_each_chunk_gets_the_true_sources_of_its_place():
    sources = {"a": noise(2, 20_000, seed=1), "b": noise(2, 20_000, seed=2)}
    found = ChunkedSeparator(TrueSources, sources, chunk=2)(sources["a"] + sources["b"], RATE)
    assert all(torch.equal(found[name], wave) for name, wave in sources.items())


def test_several_waveforms_go_through_together():
    pair = noise(3, 2, 500)
    found = in_chunks(lambda chunks: chunks[:, 1:] + chunks[:, :1], pair, 100, 10)
    torch.testing.assert_close(found, pair[1:] + pair[:1])


def test_a_song_is_read_and_given_piece_by_piece():
    song, longest, reads = noise(2, 10_000), 0, []

    def read(start, stop):
        reads.append(stop - start)
        return song[:, start:stop]

    pieces = []
    for piece in in_pieces(lambda chunks: chunks[:, None], read, 10_000, 1000, 100):
        pieces.append(piece)
        longest = max(longest, piece.shape[-1])
    assert torch.equal(torch.cat(pieces, -1)[0], song) and longest <= 1000 and set(reads) == {1000}


@pytest.mark.parametrize("overlap", [0, 1, 7, 50])
def test_chunks_of_the_identity_are_the_waveform_to_the_bit(overlap):
    def separate(chunks):
        assert chunks.shape[-1] == min(100, frames)
        return torch.stack([chunks, 2 * chunks], dim=1)

    for frames in (1, 2, 49, 50, 51, 99, 100, 101, 149, 150, 151, 199, 1000, 1023):
        wave = noise(2, frames)
        estimates = in_chunks(separate, wave, 100, overlap, batch=3)
        assert torch.equal(estimates, torch.stack([wave, 2 * wave])), frames


def test_weights_of_neighbours_are_complementary_and_fade():
    """Chunk i gives the constant i: the result must rise from each to the next in a straight line."""
    count = iter(range(100))
    found = in_chunks(lambda chunks: torch.full((1, *chunks.shape), float(next(count))), noise(1, 260), 100, 20)[0, 0]
    ramp = (torch.arange(20) + 0.5) / 20
    expected = torch.cat([torch.zeros(80), ramp, torch.ones(60), 1 + ramp, torch.full((80,), 2.0)])
    torch.testing.assert_close(found, expected)


def test_the_last_chunk_has_real_samples_before_it_and_fades_in_the_middle_of_what_is_shared():
    starts, wave = [], torch.arange(170.0)[None]
    count = iter(range(9))

    def separate(chunks):
        starts.append(int(chunks[0, 0, 0]))
        return torch.full((1, *chunks.shape), float(next(count)))

    found = in_chunks(separate, wave, 100, 20)[0, 0]
    assert starts == [0, 70]  # 30 are shared, 20 of them fade
    assert torch.all(found[:75] == 0) and torch.all(found[95:] == 1)
    assert torch.all(found[75:95].diff() > 0)


def test_progress_grows_to_one():
    done, wave = [], noise(1, 1000)
    for _ in in_pieces(lambda chunks: chunks[:, None], lambda a, b: wave[:, a:b], 1000, 100, 10, 2, done.append):
        pass
    assert done == sorted(done) and done[-1] == 1 and len(done) == 6


@pytest.mark.parametrize("name", ["irm", "nmf-kl-blind", "repet-sim"])
def test_a_method_that_holds_spectrograms_sees_a_chunk_at_a_time(name, monkeypatch):
    sources, seen = song(3.3, channels=1), []
    separator = BASELINES[name].make(sources)
    kind = type(separator.whole)
    call = kind.__call__
    monkeypatch.setattr(
        kind, "__call__", lambda self, wave, rate: seen.append(wave.shape[-1]) or call(self, wave, rate)
    )
    assert separator.chunk <= 60
    separator.chunk, separator.overlap = 1.0, 0.2
    mixture = sum(sources.values())
    found = separator(mixture, RATE)
    assert set(seen) == {RATE} and len(seen) == 4
    assert all(wave.shape == mixture.shape and wave.isfinite().all() for wave in found.values())
    torch.testing.assert_close(sum(found.values()), mixture, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("name", "method", "least"),
    [("wiener", IdealWienerMask, 40), ("ibm", IdealBinaryMask, 25), ("hpss", MultipassHPSS, 20)],
)
def test_chunks_of_methods_that_look_around_them_alone_are_nearly_the_whole(name, method, least):
    sources = song(8, channels=1)
    mixture = sum(sources.values())
    expected = method(sources)(mixture, RATE)
    separator = BASELINES[name].make(sources)
    whole = separator(mixture, RATE)
    assert all(torch.equal(whole[key], expected[key]) for key in expected)  # a song of one chunk is not cut
    separator.chunk = 5.0
    estimates = separator(mixture, RATE)
    assert min(sdr(estimates[key], expected[key]) for key in expected) > least
