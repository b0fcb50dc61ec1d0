"""The Wave-U-Net: exact lengths, interpolation that shifts nothing, sources that add up."""

import numpy as np
import pytest
import torch

from helpers.checkpoints import load_checkpoint, save_checkpoint
from helpers.losses.unets import waveform_mse
from helpers.models.wave_unet import WaveUNet, interpolated
from helpers.separation.networks import ModelSeparator


def made(seed=0, **arguments):
    torch.manual_seed(seed)
    return WaveUNet(**{"levels": 4, "width": 3, "sample_rate": 8000, **arguments}).eval()


def noise(*shape, seed=1):
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("channels, sides", [("each", 1), ("joint", 2)])
@pytest.mark.parametrize("length", [1, 15, 16, 17, 1000, 8191, 8192])
def test_any_length_comes_back_exactly(channels, sides, length):
    mixture = noise(2, sides, length)
    with torch.no_grad():
        estimates = made(channels=channels)(mixture)
    assert estimates.shape == (2, 2, sides, length) and estimates.isfinite().all()


@pytest.mark.parametrize("sources", [("vocals", "accompaniment"), ("vocals", "drums", "bass", "other")])
@pytest.mark.parametrize("channels, sides", [("each", 1), ("joint", 2)])
def test_the_sources_add_up(sources, channels, sides):
    mixture = noise(2, sides, 3001)
    with torch.no_grad():
        estimates = made(channels=channels, sources=sources)(mixture)
    assert estimates.shape[1] == len(sources) and estimates.sum(1).allclose(mixture, atol=1e-6)


def test_interpolation_is_numpys():
    x = noise(2, 3, 11)
    expected = [[np.interp(np.arange(22) / 2, np.arange(11), row) for row in rows] for rows in x.numpy()]
    assert np.allclose(interpolated(x).numpy(), expected, atol=1e-7)
    assert interpolated(x)[..., ::2].equal(x)


@pytest.mark.parametrize("channels, sides", [("each", 1), ("joint", 2)])
def test_nothing_is_shifted_on_the_whole_way(channels, sides):
    model = made(channels=channels)
    torch.nn.init.zeros_(model.last.bias)
    with torch.no_grad():  # the last layer passes on the mixture that it sees beside the features
        model.last.weight[:] = 0
        model.last.weight[:, -sides:, 0] = torch.eye(sides)
    mixture = noise(sides, 24_137)
    estimates = ModelSeparator(model, "cpu", chunk=1.3, overlap=0.1)(mixture, 8000)
    assert estimates["vocals"].allclose(mixture, atol=1e-5)
    assert estimates["accompaniment"].abs().max() < 1e-5


def test_it_commutes_with_shifts_of_its_coarsest_step():
    """Away from the ends, what is 2^levels samples later comes out 2^levels samples later."""
    model, mixture = made(levels=3), noise(1, 1, 4000)
    loudness = mixture.square().mean().sqrt()
    later = torch.cat((mixture[..., -8:], mixture[..., :-8]), dim=-1)  # the same samples: the same loudness
    with torch.no_grad():
        first, second = model(mixture) / loudness, model(later) / loudness
    assert first[..., 1000:3000].allclose(second[..., 1008:3008], atol=1e-5)


def test_every_parameter_gets_a_gradient():
    model = made().train()
    waveform_mse(model, (noise(2, 1, 3000), noise(2, 2, 1, 3000, seed=2)), 0.0)["loss"].backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_a_louder_mixture_gives_louder_sources_and_nothing_else():
    model, mixture = made(), noise(1, 1, 4000)
    with torch.no_grad():
        assert model(8 * mixture).allclose(8 * model(mixture), atol=1e-5)
        assert model(torch.zeros(1, 1, 4000)).abs().max() < 1e-5  # -100 dB


def test_the_papers_channels():
    model = WaveUNet()
    assert [layer[0].weight.shape[0] for layer in model.down] == [24 * level for level in range(1, 13)]
    assert model.centre[0].weight.shape == (312, 288, 15)
    assert model.up[0][0].weight.shape == (288, 312 + 288, 5) and model.last.weight.shape == (1, 25, 1)


def test_a_checkpoint_separates_as_the_model_did(tmp_path):
    model, mixture = made(channels="joint"), noise(2, 12_000)
    save_checkpoint(tmp_path / "wave.pt", model)
    again, _ = load_checkpoint(tmp_path / "wave.pt", expect="WaveUNet")
    ours, theirs = (ModelSeparator(one, "cpu")(mixture, 8000) for one in (model, again))
    assert set(ours) == {"vocals", "accompaniment"} and all(ours[name].equal(theirs[name]) for name in ours)


def test_even_convolutions_are_refused():
    with pytest.raises(ValueError, match="odd sizes"):
        made(down=14)
