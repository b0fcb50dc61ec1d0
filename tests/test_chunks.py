"""Long songs in chunks: what a method sees at once is bounded, short songs are as without, and nothing is lost."""

import pytest
import torch

from helpers.separation import baselines
from helpers.separation.baselines import (
    BASELINES,
    ICA,
    BlindNMF,
    Mixture,
    MultipassHPSS,
    OracleNMF,
    RepetSim,
    RobustPCA,
)
from helpers.separation.chunks import ChunkedSeparator, in_chunks
from helpers.separation.oracles import IdealBinaryMask, IdealRatioMask, IdealWienerMask, Oracle

RATE = 8000
CHUNKED = [name for name in BASELINES if name not in ("mixture", "ica")]
CLASSES = {
    "ibm": IdealBinaryMask,
    "irm": IdealRatioMask,
    "wiener": IdealWienerMask,
    "nmf-kl-oracle": OracleNMF,
    "nmf-kl-blind": BlindNMF,
    "repet-sim": RepetSim,
    "hpss": MultipassHPSS,
    "rpca": RobustPCA,
}


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


@pytest.mark.parametrize("seconds", [0.01, 1, 1.001, 1.5, 7.3])
def test_chunks_are_of_one_length_and_add_up(seconds):
    separator = ChunkedSeparator(Halves, ["a", "b"], chunk=1, overlap=0.25)
    wave = noise(2, round(seconds * RATE))
    found = separator(wave, RATE)
    assert set(separator.whole.seen) == {min(RATE, wave.shape[-1])} and list(found) == ["a", "b"]
    assert all(torch.equal(estimate, wave / 2) for estimate in found.values())


@pytest.mark.parametrize(("seconds", "parts"), [(0.5, 1), (1, 1), (4, 5), (7.3, 10)])
def test_each_chunk_is_reported(seconds, parts):
    done = []
    ChunkedSeparator(Halves, ["a", "b"], chunk=1, overlap=0.25, progress=done.append)(
        noise(1, round(seconds * RATE)), RATE
    )
    assert done == [(number + 1) / parts for number in range(parts)]


def test_each_chunk_gets_the_true_sources_of_its_place():
    sources = {"a": noise(2, 20_000, seed=1), "b": noise(2, 20_000, seed=2)}
    found = ChunkedSeparator(TrueSources, sources, chunk=1, overlap=0.1)(sources["a"] + sources["b"], RATE)
    assert all(torch.equal(found[name], wave) for name, wave in sources.items())
    for other in (noise(2, 19_999), noise(2, 30_000), noise(1, 20_000)):
        with pytest.raises(ValueError, match="made for mixtures"):
            ChunkedSeparator(IdealBinaryMask, sources, chunk=1)(other, RATE)


def test_several_waveforms_go_through_together():
    pair = noise(3, 2, 500)
    found = in_chunks(lambda chunk: chunk[1:] + chunk[:1], pair, 100, 10)
    torch.testing.assert_close(found, pair[1:] + pair[:1])
    with pytest.raises(ValueError, match="100 samples of 2 channels became"):
        in_chunks(lambda chunk: chunk[:, :1], pair, 100, 10)


@pytest.mark.parametrize("name", CHUNKED)
def test_every_method_that_holds_spectrograms_sees_a_chunk_at_a_time(name, monkeypatch):
    sources, seen = song(3.3), []
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


@pytest.mark.parametrize("name", list(CLASSES))
def test_a_song_of_one_chunk_is_as_by_the_method_itself(name):
    sources = song(1.7)
    mixture = sum(sources.values())
    found, expected = BASELINES[name].make(sources)(mixture, RATE), CLASSES[name](sources)(mixture, RATE)
    assert list(found) == list(expected) and all(torch.equal(found[key], expected[key]) for key in expected)


@pytest.mark.parametrize(("name", "least"), [("wiener", 40), ("ibm", 25), ("hpss", 20)])
def test_chunks_of_methods_that_look_around_them_alone_are_nearly_the_whole(name, least):
    sources = song(8, channels=1)
    mixture = sum(sources.values())
    expected = CLASSES[name](sources)(mixture, RATE)
    separator = BASELINES[name].make(sources)
    separator.chunk = 5.0
    found = separator(mixture, RATE)
    assert min(sdr(found[key], expected[key]) for key in expected) > least


def test_ica_learns_from_a_bounded_number_of_samples(monkeypatch):
    generator, seen = torch.Generator().manual_seed(0), []
    sources = (torch.rand(2, 40_000, generator=generator) - 0.5) ** 3
    mixture = torch.tensor([[1.0, 0.4], [-0.3, 0.8]]) @ sources
    fit = baselines.FastICA.fit
    monkeypatch.setattr(baselines.FastICA, "fit", lambda self, x: seen.append(len(x)) or fit(self, x))
    expected, found = ICA()(mixture, RATE), ICA(most=9000)(mixture, RATE)
    assert seen == [40_000, 8000]
    assert min(sdr(found[name], expected[name]) for name in expected) > 20


def test_what_is_cheap_is_not_cut():
    assert isinstance(BASELINES["mixture"].make(["a"]), Mixture) and isinstance(BASELINES["ica"].make(["a", "b"]), ICA)
