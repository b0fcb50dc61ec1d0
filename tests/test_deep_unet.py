"""The deep U-Net: any length, masks that add up, nothing shifted, every layer in use."""

import pytest
import torch

from helpers.checkpoints import load_checkpoint, save_checkpoint
from helpers.losses.unets import MultiResolutionLoss
from helpers.models.deep_unet import AcrossFrequency, DeepBody, DeepUNet
from helpers.separation.networks import ModelSeparator

SMALL = {"width": 4, "n_fft": 128, "hop_length": 32, "sample_rate": 8000}


def made(**arguments):
    torch.manual_seed(0)
    return DeepUNet(**SMALL | arguments).eval()


def noise(*shape, seed=1):
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("sources", [("vocals", "accompaniment"), ("vocals", "drums", "bass", "other")])
@pytest.mark.parametrize("length", [1, 31, 8000, 9999])
def test_estimates_of_any_length_add_up_to_the_mixture(sources, length):
    mixture = noise(2, 1, length)
    with torch.no_grad():
        estimates = made(sources=sources)(mixture)
    assert estimates.shape == (2, len(sources), 1, length)
    assert estimates.sum(dim=1).allclose(mixture, atol=1e-6)


@pytest.mark.parametrize("bins, frames", [(65, 1), (65, 40), (129, 17), (513, 9)])
def test_the_masks_are_shares_of_every_bin(bins, frames):
    model = made(n_fft=2 * (bins - 1), hop_length=(bins - 1) // 2)
    with torch.no_grad():
        masks = model.masks(torch.complex(noise(2, 1, bins, frames), noise(2, 1, bins, frames, seed=2)))
    assert masks.shape == (2, 2, bins, frames) and masks.min() >= 0 and masks.max() <= 1
    assert masks.sum(dim=1).allclose(torch.ones(2, bins, frames), atol=1e-6)


def test_bands_are_stacked_and_unstacked_in_their_order():
    body = DeepBody(65, 4)
    levels = torch.arange(65.0).view(1, 1, 65, 1).expand(1, 1, 65, 10)
    stacked = torch.nn.functional.pad(levels[:, :, :64], (0, 6)).reshape(1, 4, 16, 16)  # as features() does
    whole = body.whole(stacked.unsqueeze(1), (65, 10))
    assert whole[0, 0, :64].equal(levels[0, 0, :64]) and whole[0, 0, 64].equal(levels[0, 0, 63])


def test_the_layers_along_frequency_hear_every_bin_of_their_frame_and_no_other():
    layer = AcrossFrequency(3, 16).eval()
    for linear in (layer.down, layer.up):
        linear.weight.data.abs_()  # so that no ReLU is silent
    x = torch.rand(1, 3, 16, 5, requires_grad=True)
    layer(x)[0, 1, 4, 2].backward()
    reach = x.grad[0].abs() > 0  # (channels, bins, frames)
    assert reach[1, :, 2].all() and not reach[:, :, [0, 1, 3, 4]].any()


def test_every_parameter_gets_a_gradient():
    model = made().train()
    loss = MultiResolutionLoss(((128, 64), (64, 32)))
    loss(model, (noise(2, 1, 3000), noise(2, 2, 1, 3000, seed=2)), 0.0)["loss"].backward()
    dead = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not dead


def test_a_louder_mixture_gives_louder_sources_and_silence_gives_silence():
    model, mixture = made(), noise(1, 1, 4000)
    with torch.no_grad():
        assert model(8 * mixture).allclose(8 * model(mixture), atol=1e-4)
        assert not model(torch.zeros(1, 1, 4000)).any()


def test_nothing_is_shifted_on_the_whole_way():
    model = made()
    torch.nn.init.zeros_(model.last[1].weight)
    model.last[1].bias.data = torch.tensor([60.0] * 4 + [0.0] * 4)  # the first mask is 1, the second 0
    mixture = noise(2, 11_137)
    estimates = ModelSeparator(model, "cpu", chunk=0.7, overlap=0.1)(mixture, 8000)
    assert estimates["vocals"].allclose(mixture, atol=1e-5) and estimates["accompaniment"].abs().max() < 1e-5


def test_a_checkpoint_separates_as_the_model_did(tmp_path):
    model, mixture = made(), noise(1, 12_000)
    save_checkpoint(tmp_path / "deep.pt", model)
    again, _ = load_checkpoint(tmp_path / "deep.pt", expect="DeepUNet")
    ours, theirs = (ModelSeparator(one, "cpu")(mixture, 8000) for one in (model, again))
    assert set(ours) == {"vocals", "accompaniment"} and all(ours[name].equal(theirs[name]) for name in ours)
