"""The band-split model: bands that cover the spectrum, layers that see what they should, masks that add up."""

import numpy as np
import pytest
import torch

from helpers.checkpoints import load_checkpoint, save_checkpoint
from helpers.losses.unets import MultiResolutionLoss
from helpers.models.band_split import MUSIC, SPEECH, BandSplitModel, Convolution, band_sizes, layer, rotate
from helpers.separation.networks import ModelSeparator

KINDS = ("recurrent", "convolution", "attention")
SMALL = {"features": 8, "blocks": 2, "n_fft": 128, "hop_length": 64, "sample_rate": 8000, "bands": ((4000, 1000),)}


def made(seed=0, **arguments):
    torch.manual_seed(seed)
    return BandSplitModel(**{**SMALL, **arguments}).eval()


def noise(*shape, seed=1):
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


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


@pytest.mark.parametrize("across_time", KINDS)
@pytest.mark.parametrize("across_bands", KINDS)
@pytest.mark.parametrize("length", [8000, 8001])
def test_estimates_have_the_mixtures_shape_and_add_up(across_time, across_bands, length):
    mixture = noise(2, 1, length)
    with torch.no_grad():
        estimates = made(across_time=across_time, across_bands=across_bands)(mixture)
    assert estimates.shape == (2, 2, 1, length) and estimates.sum(1).allclose(mixture, atol=1e-5)


def test_stereo_at_44_khz_with_four_sources():
    arguments = {"bands": MUSIC, "n_fft": 2048, "hop_length": 512, "sample_rate": 44_100, "channels": "joint"}
    model = made(**arguments, sources=("vocals", "drums", "bass", "other"))
    mixture = noise(1, 2, 44_101)
    with torch.no_grad():
        estimates = model(mixture)
        other = model(torch.cat((mixture[:, :1], noise(1, 1, 44_101, seed=5)), dim=1))
    assert estimates.shape == (1, 4, 2, 44_101) and estimates.sum(1).allclose(mixture, atol=1e-5)
    assert not estimates[:, :, 0].allclose(other[:, :, 0], atol=1e-3)  # the left is heard with the right


def test_without_adding_up_the_estimates_are_the_masks_products():
    model, mixture = made(add_up=False), noise(2, 1, 4000)
    with torch.no_grad():
        spectrogram, scale = model.analyse(mixture)
        masks = model.masks_of(spectrogram)
        expected = model.stft.inverse(masks[:, 1] * spectrogram * scale, 4000)
        assert masks.is_complex() and masks.shape == (2, 2, 1, *spectrogram.shape[-2:])
        assert model(mixture)[:, 1].allclose(expected, atol=1e-6) and model.masks_of(spectrogram).imag.any()


@pytest.mark.parametrize("channels, sides", [("each", 1), ("joint", 2)])
def test_nothing_is_shifted_on_the_whole_way(channels, sides):
    model = made(channels=channels, add_up=False)
    with torch.no_grad():
        for last in model.masks.last:  # masks of one: value 1 + 0i, gate open
            last.weight[:] = 0
            values, gates = last.bias.chunk(2)
            values[0::2], values[1::2], gates[:] = 1, 0, 50
    mixture = noise(2, 24_137)
    estimates = ModelSeparator(model, "cpu", chunk=1.3, overlap=0.1)(mixture, 8000)
    assert all(estimate.allclose(mixture, atol=1e-5) for estimate in estimates.values()) and len(estimates) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_gets_a_gradient(kind):
    model = made(across_time=kind, across_bands=kind).train()
    sources = noise(2, 2, 1, 3000)
    MultiResolutionLoss()(model, (sources.sum(1), sources), 0.0)["loss"].backward()
    dead = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not dead


def test_it_trains_in_bfloat16():
    model, sources = made().train(), noise(2, 2, 1, 3000)
    loss, batch = MultiResolutionLoss(), (sources.sum(1), sources)
    whole = loss(model, batch, 0.0)["loss"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = loss(model, batch, 0.0)["loss"]
    mixed.backward()
    assert mixed.dtype == torch.float32 and mixed.item() == pytest.approx(whole.item(), rel=0.02)
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_a_louder_mixture_gives_louder_sources_and_nothing_else():
    model, mixture = made(), noise(1, 1, 4000)
    with torch.no_grad():
        assert model(8 * mixture).allclose(8 * model(mixture), atol=1e-4)
        assert not model(torch.zeros(1, 1, 4000)).any()


@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_sees_its_axis_and_keeps_its_shape(kind):
    torch.manual_seed(0)
    along, x = layer(kind, 8, 1).double(), torch.randn(3, 29, 8).double()
    changed = x.clone()
    changed[0, 14] = torch.randn(8)
    with torch.no_grad():
        difference = (along(changed) - along(x)).abs().amax(-1)
    assert not difference[1:].any()  # sequences are apart
    near = range(8, 21, 2) if kind == "convolution" else range(29)  # 7 places, every second
    assert difference[0].nonzero().flatten().tolist() == list(near)


def test_the_convolution_reaches_twice_as_far_in_every_block():
    assert [layer("convolution", 8, depth).along.dilation for depth in range(3)] == [(1,), (2,), (4,)]
    assert Convolution(8, 4)(torch.randn(2, 5, 8)).shape == (2, 5, 8)


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
    attention, x = layer("attention", 8, 0), torch.randn(3, 6, 8)
    attention.up.weight.data.zero_(), attention.up.bias.data.zero_(), attention.down.bias.data.zero_()
    h = attention.queries_keys_values(attention.norm1(x)).unflatten(-1, (3, 2, 4)).permute(2, 0, 3, 1, 4)
    expected = torch.nn.functional.scaled_dot_product_attention(rotate(h[0]), rotate(h[1]), h[2])
    expected = x + attention.last(expected.transpose(1, 2).reshape(3, 6, 8))
    assert attention(x).allclose(expected, atol=1e-5)


def test_a_checkpoint_separates_as_the_model_did(tmp_path):
    model, mixture = made(), noise(1, 12_000)
    save_checkpoint(tmp_path / "bands.pt", model)
    again, _ = load_checkpoint(tmp_path / "bands.pt", expect="BandSplitModel")
    ours, theirs = (ModelSeparator(one, "cpu")(mixture, 8000) for one in (model, again))
    assert set(ours) == {"vocals", "accompaniment"} and all(ours[name].equal(theirs[name]) for name in ours)


def test_unknown_layers_are_refused():
    with pytest.raises(ValueError, match="unknown layer 'mlp'"):
        made(across_time="mlp")
    with pytest.raises(ValueError, match="cannot be shared by 2 heads"):
        made(features=6)
