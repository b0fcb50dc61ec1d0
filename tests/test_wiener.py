"""The multichannel Wiener filter against closed forms: one channel, panned sources, sums."""

import torch

from helpers.separation.wiener import WienerRefined, multichannel_wiener


def noise(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.complex(*torch.randn(2, *shape, generator=generator, dtype=torch.float64))


def test_with_one_channel_it_is_the_wiener_filter_of_the_powers():
    first = noise(2, 1, 5, 7)
    mixture = noise(1, 5, 7, seed=1)
    powers = first.abs().square()
    expected = powers / powers.sum(0) * mixture
    torch.testing.assert_close(multichannel_wiener(first, mixture), expected, rtol=1e-4, atol=1e-5)


def test_estimates_add_up_to_the_mixture_even_where_a_source_is_silent():
    first = noise(3, 2, 4, 6)
    first[0] = 0
    first[:, :, 1] = 0
    mixture = noise(2, 4, 6, seed=1)
    torch.testing.assert_close(multichannel_wiener(first, mixture, iterations=2).sum(0), mixture)


def test_sources_from_different_directions_are_told_apart_by_them():
    """Two sources panned to two places: rough first estimates suffice, as the mixing matrix can be inverted."""
    sources = noise(2, 3, 200)  # (sources, bins, frames)
    panning = torch.tensor([[1.0, 0.2], [0.3, 1.0]], dtype=torch.complex128)  # [source, channel]
    images = panning[:, :, None, None] * sources[:, None]
    mixture = images.sum(0)
    rough = 0.75 * images + 0.25 * images.flip(0)

    def sdr(estimates):
        return 10 * torch.log10(images.abs().square().sum() / (estimates - images).abs().square().sum()).item()

    assert sdr(rough) < 13
    assert sdr(multichannel_wiener(rough, mixture, iterations=1)) > sdr(rough) + 3
    assert sdr(multichannel_wiener(images, mixture)) > 50


def test_as_a_separator_it_keeps_lengths_and_names_and_adds_up():
    waveform = torch.randn(2, 9001, generator=torch.Generator().manual_seed(0))
    refined = WienerRefined(lambda mixture, _: {"a": 0.3 * mixture, "b": mixture.flip(0)}, 512, 128)
    estimates = refined(waveform, 16_000)
    assert list(estimates) == ["a", "b"] and all(part.shape == waveform.shape for part in estimates.values())
    torch.testing.assert_close(sum(estimates.values()), waveform, atol=1e-4, rtol=1e-3)
