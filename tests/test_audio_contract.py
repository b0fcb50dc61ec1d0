"""What every audio model promises: shapes, levels, masks that add up, gradients, arguments to rebuild it from."""

import json

import pytest
import torch
from audio_models import MODELS, losses_of, made, mixture_for, noise

from helpers.losses import MultiResolutionLoss
from helpers.models import BandSplitModel, DeepUNet, MaskUNet, SpectrogramUNet, WaveUNet
from helpers.separation.networks import ModelSeparator

FREE = {"spectrogram U-Net", "mask U-Net", "Open-Unmix", "dense VAE"}  # need not add up
UNBOUNDED = {"Open-Unmix"}  # its masks are never negative, but may exceed 1, as in its package
WAVES = [name for name in MODELS if name.startswith("Wave")]
EACH = pytest.mark.parametrize("name", MODELS)


@EACH
@pytest.mark.parametrize("length", [1, 63, 2000, 3333])
@torch.no_grad()
def test_estimates_have_the_mixtures_shape_and_add_up(name, length):
    model = made(name)
    mixture = mixture_for(model, length)
    estimates = model(mixture)
    assert estimates.shape == (2, len(model.sources), *mixture.shape[1:]) and estimates.dtype == torch.float32
    assert estimates.isfinite().all() and (name in FREE or estimates.sum(1).allclose(mixture, atol=1e-5))


@EACH
@torch.no_grad()
def test_levels_make_no_difference_and_silence_stays_silent(name):
    model = made(name)
    mixture = mixture_for(model)
    estimates = model(mixture)
    if name != "dense, level none":
        assert model(8 * mixture).allclose(8 * estimates, atol=1e-4)
    assert model(torch.zeros_like(mixture)).abs().max() <= (1e-5 if name in WAVES else 0)
    for level in (1e30, 1e37, 1e-30, 1e-38):
        assert model(level * mixture).isfinite().all()
    assert model(mixture[1:]).allclose(estimates[1:], atol=1e-5)  # an item depends on itself alone
    assert (estimates[:, 0] - estimates[:, 1]).abs().max() > 1e-3


@pytest.mark.parametrize("name", [name for name in MODELS if name not in (*WAVES, "ensemble")])
@torch.no_grad()
def test_the_analysis_is_what_the_protocol_says(name):
    model = made(name)
    mixture = mixture_for(model)
    analysis = model.analyse(mixture)
    frames = model.stft.frames(2001)
    assert analysis.scale.shape == (2, 1, 1, 1) and analysis.spectrogram.shape == (*mixture.shape[:2], 129, frames)
    assert (analysis.spectrogram * analysis.scale).allclose(model.stft(mixture), atol=1e-4)
    shape = (2, len(model.sources), mixture.shape[1], 129, frames)
    assert analysis.estimates.shape == analysis.magnitudes.shape == shape and analysis.estimates.is_complex()
    assert analysis.magnitudes.allclose(analysis.estimates.abs(), atol=1e-5)
    waveforms = model.stft.inverse(analysis.estimates * analysis.scale.unsqueeze(1), 2001)
    assert model(mixture).allclose(waveforms, atol=1e-5)
    if analysis.masks is not None:
        assert (analysis.masks * analysis.spectrogram.unsqueeze(1)).allclose(analysis.estimates, atol=1e-6)
        assert name in FREE or analysis.masks.sum(1).allclose(torch.ones_like(analysis.masks[:, 0]), atol=1e-5)
        highest = float("inf") if name in UNBOUNDED else 1
        assert analysis.masks.is_complex() or 0 <= analysis.masks.min() < analysis.masks.max() <= highest


@EACH
def test_every_parameter_gets_a_gradient_from_every_loss(name):
    model = made(name).train()
    sources = torch.stack([mixture_for(model, 3000, seed=seed) for seed, _ in enumerate(model.sources)], dim=1)
    for loss in losses_of(model):
        terms = loss(model, (sources.sum(1), sources), 1.0)
        model.zero_grad()
        terms["loss"].backward()
        dead = [label for label, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
        assert not dead and all(value.isfinite() for value in terms.values()), loss


@EACH
def test_it_trains_in_bfloat16(name):
    model = made(name)
    sources = torch.stack([mixture_for(model, 3000, seed=seed) for seed, _ in enumerate(model.sources)], dim=1)
    loss = MultiResolutionLoss(((128, 64), (64, 32)))
    whole = loss(model, (sources.sum(1), sources), 0.0)["loss"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = loss(model, (sources.sum(1), sources), 0.0)["loss"]
    mixed.backward()
    assert mixed.dtype == torch.float32 and mixed.item() == pytest.approx(whole.item(), rel=0.05)


@EACH
def test_it_is_rebuilt_from_its_arguments_on_the_meta_device(name):
    model = made(name)
    with torch.device("meta"):
        again = type(model)(**json.loads(json.dumps(model.arguments)))
    again.load_state_dict(model.state_dict(), assign=True)
    assert again.arguments == model.arguments and again.sources == model.sources
    mixture = noise(2, 9000)
    ours, theirs = (ModelSeparator(one, "cpu", chunk=0.6, overlap=0.1)(mixture, 8000) for one in (model, again))
    assert list(ours) == list(model.sources) and all(ours[source].equal(theirs[source]) for source in ours)


def one_source_gets_all(model):
    """Change a model's last layers so that the first source is the mixture."""
    with torch.no_grad():
        if isinstance(model, DeepUNet):
            model.last[1].weight.zero_()
            model.last[1].bias[:4], model.last[1].bias[4:] = 60.0, 0.0
        elif isinstance(model, MaskUNet):
            model.up[-1][0].weight.zero_()
            model.up[-1][0].bias.fill_(50.0)
        elif isinstance(model, WaveUNet):  # hand on the mixture that the last layer sees beside the features
            model.last.weight.zero_()
            model.last.bias.zero_()
            model.last.weight[0, -1] = 1
        elif isinstance(model, BandSplitModel):
            for last in model.masks.last:  # masks 1 + 0i and 0, gates open
                last.weight.zero_()
                values, gates = last.bias.chunk(2)
                values[:], gates[:] = torch.tensor([1.0, 0, 0, 0]).repeat(len(values) // 4), 50
        elif isinstance(model, SpectrogramUNet):  # the network's input is its output
            given = []
            model.down[0].register_forward_pre_hook(lambda block, inputs: given.append(inputs[0]))
            model.last.register_forward_hook(lambda block, inputs, output: given.pop().expand_as(output))
        else:
            model.decoder[3].weight.zero_()
            model.decoder[3].bias.fill_(60.0)
    return model


@pytest.mark.parametrize(
    "name",
    ["dense", "spectrogram U-Net", "mask U-Net", "deep U-Net", "Wave-U-Net", "Wave-U-Net, four sources", "band-split"],
)
def test_nothing_is_shifted_on_the_whole_way(name):
    """A frame of padding that stays in would cost tens of decibels: here the mixture comes back to the sample."""
    mixture = noise(2, 11_137)
    model = one_source_gets_all(made(name))
    estimates = ModelSeparator(model, "cpu", chunk=0.7, overlap=0.1)(mixture, 8000)
    assert estimates["vocals"].allclose(mixture, atol=1e-5)
