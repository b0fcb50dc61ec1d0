"""The band-split model: bands that cover the spectrum, layers that see what they should, masks that add up."""

import numpy as np
import pytest
import torch
from audio_models import noise

from helpers.models.band_split import LAYERS, SPEECH, BandSplitModel, band_sizes, rotate

MUSIC = ((1000, 100), (4000, 250), (8000, 500), (16_000, 1000), (20_000, 2000), (22_050, 2050))  # BSRNN's 41 bands
SMALL = {"features": 8, "blocks": 2, "n_fft": 128, "hop_length": 64, "sample_rate": 8000, "bands": ((4000, 1000),)}


def made(seed=0, **arguments):
    torch.manual_seed(seed)
    return BandSplitModel(**{**SMALL, **arguments}).eval()


@pytest.mark.parametrize("bins, rate, bands", [(513, 16_000, SPEECH), (1025, 44_100, MUSIC), (257, 8000, MUSIC)])
def test_bands_cover_all_bins_and_grow(bins, rate, bands):
    sizes = band_sizes(bins, rate, bands)
    assert sum(sizes) == bins and min(sizes) >= 1
    hertz = rate / 2 / (bins - 1)
    for start, width in zip(np.cumsum([0, *sizes[:-1]]) * hertz, sizes, strict=True):
        wanted = next(width for end, width in bands if start < end - hertz / 2)
        assert abs(width * hertz - wanted) <= 1.01 * hertz or start + width * hertz >= rate / 2  # but for the last
    assert len(band_sizes(513, 16_000, SPEECH)) == 20 and len(band_sizes(1025, 44_100, MUSIC)) == 41


def test_more_bands_than_bins_and_a_rest_above():
    assert band_sizes(9, 8000, ((4000, 100),)) == [1] * 8 + [1]  # a band without a bin is left out
    assert band_sizes(9, 8000, ((2000, 1000),)) == [2, 2, 5]


def test_stereo_at_44_khz_with_four_sources():
    arguments = {"bands": MUSIC, "n_fft": 2048, "hop_length": 512, "sample_rate": 44_100, "channels": "joint"}
    model = made(**arguments, sources=("vocals", "drums", "bass", "other"))
    mixture = noise(2, 44_101).unsqueeze(0)
    with torch.no_grad():
        estimates = model(mixture)
        other = model(torch.cat((mixture[:, :1], noise(1, 44_101, seed=5).unsqueeze(0)), dim=1))
    assert estimates.shape == (1, 4, 2, 44_101) and estimates.sum(1).allclose(mixture, atol=1e-5)
    assert not estimates[:, :, 0].allclose(other[:, :, 0], atol=1e-3)  # the left is heard with the right


@pytest.mark.parametrize("kind", LAYERS)
def test_a_layer_sees_its_axis_and_keeps_its_shape(kind):
    torch.manual_seed(0)
    along, x = LAYERS[kind](8).double(), torch.randn(3, 29, 8).double()
    changed = x.clone()
    changed[0, 14] = torch.randn(8)
    with torch.no_grad():
        difference = (along(changed) - along(x)).abs().amax(-1)
    assert not difference[1:].any()  # sequences are apart
    assert (difference[0] > 0).all()


def test_rotated_products_depend_on_the_distance_alone():
    torch.manual_seed(0)
    query, key = torch.randn(2, 1, 8).expand(2, 20, 8)
    products = rotate(query) @ rotate(key).T  # (20, 20)
    for distance in range(-19, 20):
        assert torch.diagonal(products, distance).std(unbiased=False) < 1e-4
    assert torch.diagonal(products).allclose((query[0] @ key[0]).expand(20), atol=1e-4)
    turned = torch.view_as_complex(torch.stack((query[:, :4], query[:, 4:]), -1).contiguous())
    angles = torch.arange(20)[:, None] * 10_000.0 ** (-torch.arange(4) / 4)
    expected = turned * torch.polar(torch.ones_like(angles), angles)
    assert rotate(query).allclose(torch.cat((expected.real, expected.imag), -1), atol=1e-5)


def test_attention_is_torchs():
    torch.manual_seed(0)
    attention, x = LAYERS["attention"](8), torch.randn(3, 6, 8)
    attention.up.weight.data.zero_(), attention.up.bias.data.zero_(), attention.down.bias.data.zero_()
    h = attention.queries_keys_values(attention.norm1(x)).unflatten(-1, (3, 2, 4)).permute(2, 0, 3, 1, 4)
    expected = torch.nn.functional.scaled_dot_product_attention(rotate(h[0]), rotate(h[1]), h[2])
    expected = x + attention.last(expected.transpose(1, 2).reshape(3, 6, 8))
    assert attention(x).allclose(expected, atol=1e-5)


def test_unknown_layers_are_refused():
    with pytest.raises(ValueError, match="unknown layer 'mlp'"):
        made(across_time="mlp")
    with pytest.raises(ValueError, match="cannot be shared by 2 heads"):
        made(features=6)
