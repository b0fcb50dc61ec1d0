"""Oracles: closed forms, an independent implementation, sums to the sample, silent and very short tracks."""

import os

import numpy as np
import pytest
import scipy.signal
import torch

from helpers.metrics.bss_eval import References
from helpers.separation.oracles import (
    IdealBinaryMask,
    IdealRatioMask,
    IdealWienerMask,
    MaskSeparator,
    shares,
    window_length,
)

RATE = 16_000
ORACLES = [IdealBinaryMask, IdealRatioMask, IdealWienerMask]


def noise(channels, frames, seed=0, level=0.1):
    return level * torch.randn(channels, frames, generator=torch.Generator().manual_seed(seed))


def sine(frequency, frames, rate=RATE):
    return torch.sin(2 * torch.pi * frequency * torch.arange(frames, dtype=torch.float64) / rate).float()[None]


def sdr(estimate, reference):
    return 10 * torch.log10(reference.square().sum() / (reference - estimate).square().sum())


def test_copies_at_two_levels_are_shared_out_in_closed_form():
    wave = noise(2, 20_001)
    for make, quiet, loud in ((IdealBinaryMask, 0, 4), (IdealRatioMask, 1, 3), (IdealWienerMask, 0.4, 3.6)):
        estimates = make({"quiet": wave, "loud": 3 * wave})(4 * wave, RATE)
        torch.testing.assert_close(estimates["quiet"], quiet * wave, atol=1e-5, rtol=0)
        torch.testing.assert_close(estimates["loud"], loud * wave, atol=1e-5, rtol=0)


@pytest.mark.parametrize("power", [0.5, 2])
def test_ratio_masks_equal_those_made_with_scipy(power):
    first, second = noise(1, 32_000, 1), noise(1, 32_000, 2).cumsum(1) / 30
    found = IdealRatioMask({"a": first, "b": second}, power)(first + second, RATE)
    setup = {"fs": RATE, "window": "hann", "nperseg": 1024, "noverlap": 512}  # what None means at 16 kHz
    a, b = (scipy.signal.stft(wave[0].double().numpy(), **setup)[2] for wave in (first, second))
    mask = abs(a) ** power / (abs(a) ** power + abs(b) ** power)
    expected = scipy.signal.istft(mask * (a + b), **setup)[1]
    inner = slice(1024, -1024)  # how the ends are padded is each one's own affair
    np.testing.assert_allclose(found["a"][0, inner], expected[:32_000][inner], atol=2e-6)


def test_sources_in_bands_of_their_own_are_parted():
    sources = {"low": sine(300, 32_000), "middle": sine(1500, 32_000), "high": sine(5000, 32_000)}
    for make in ORACLES:
        estimates = make(sources)(sum(sources.values()), RATE)
        assert list(estimates) == ["low", "middle", "high"]
        assert min(sdr(estimates[name], wave) for name, wave in sources.items()) > 25


def test_energies_make_the_best_of_the_three_masks():
    sources = {"a": noise(1, 32_000, 1), "b": noise(1, 32_000, 2)}
    mixture = sources["a"] + sources["b"]
    binary, ratio, wiener = (float(sdr(make(sources)(mixture, RATE)["a"], sources["a"])) for make in ORACLES)
    assert wiener > ratio and wiener > binary > 0


def test_each_channel_has_its_own_mask():
    left, right = sine(440, 16_000), sine(445, 16_000)
    nothing = torch.zeros_like(left)
    sources = {"a": torch.cat([left, nothing]), "b": torch.cat([nothing, right])}
    found = IdealBinaryMask(sources)(sources["a"] + sources["b"], RATE)
    torch.testing.assert_close(found["a"], sources["a"], atol=1e-5, rtol=0)


def test_window_and_hop_are_used():
    sources = {"a": sine(440, 16_000), "b": sine(470, 16_000)}  # 30 Hz apart: only long windows tell them apart
    mixture = sources["a"] + sources["b"]
    short, long = (IdealBinaryMask(sources, n, n // 4)(mixture, RATE)["a"] for n in (256, 4096))
    assert sdr(long, sources["a"]) > sdr(short, sources["a"]) + 6
    stft = MaskSeparator(["a"], 4096).stft(RATE)
    assert (stft.n_fft, stft.hop_length) == (4096, 1024)
    assert MaskSeparator(["a"], 4096, 512).stft(RATE).hop_length == 512
    defaults = {rate: IdealBinaryMask(sources).stft(rate) for rate in (8000, 16_000, 32_000, 44_100)}
    assert [(d.n_fft, d.hop_length) for d in defaults.values()] == [(512, 256), (1024, 512), (2048, 1024), (2048, 1024)]
    assert window_length(1e-9, RATE) == 16


def test_shares_add_up_however_small_the_numbers():
    magnitudes = torch.tensor([[0.0, 1e-30, 3e-30, 1e30], [0.0, 0.0, 1e-30, 3e30]])
    for power in (0.5, 1, 8):
        masks = shares(magnitudes, power)
        torch.testing.assert_close(masks.sum(0), torch.ones(4))
        assert masks[:, 0].tolist() == [0.5, 0.5] and masks[0, 1] == 1
        torch.testing.assert_close(masks[0, 2], torch.tensor(3.0**power / (1 + 3.0**power)))


@pytest.mark.skipif(
    "BSS_DATA_DIR" not in os.environ, reason="the real corpora are only looked at if BSS_DATA_DIR is set"
)
def test_the_order_of_the_literature_on_a_real_clip():
    from helpers.data.corpora import load_corpus

    track = load_corpus("mir1k", "test", real=True)[0]
    sources, mixture = dict(track.sources), track.mixture
    references = References(torch.cat(list(sources.values())), taps=1)
    found = [make(sources)(mixture, RATE) for make in ORACLES]
    estimates = torch.stack([torch.cat(list(estimate.values())) for estimate in found])  # (oracles, sources, time)
    binary, ratio, wiener = references.score(estimates).sdr[:, 0].tolist()
    assert min(binary, ratio) > 6 and max(binary, ratio) < wiener < 25
