"""The U-Nets on spectrograms: the source document's sizes, nothing shifted, gradients everywhere."""

import pytest
import torch

from helpers.checkpoints import load_checkpoint, save_checkpoint
from helpers.losses.unets import WeightedL1Loss
from helpers.models.spectrogram_unet import MaskUNet, SpectrogramUNet, layer_table
from helpers.separation.networks import ModelSeparator

SMALL = {"n_fft": 128, "hop_length": 32, "sample_rate": 8000}
STEMS = ("vocals", "drums", "bass", "other")


def made(kind, seed=0, **arguments):
    torch.manual_seed(seed)
    depth = {"depth": 3} if kind is MaskUNet else {}
    return kind(width=4, **depth, **{**SMALL, **arguments}).eval()


def noise(*shape, seed=1):
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


BOTH = pytest.mark.parametrize("kind", [SpectrogramUNet, MaskUNet])


def test_the_documents_segment_is_padded_and_cropped_back():
    model = SpectrogramUNet(width=2).eval()
    assert model.stft.bins == 1025 and model.stft.frames(2 * 44_100) == 173
    sizes = []
    model.down[0].register_forward_pre_hook(lambda block, inputs: sizes.append(tuple(inputs[0].shape)))
    with torch.no_grad():
        estimates = model.estimate(torch.rand(1, 1, 1025, 173))
    assert sizes == [(1, 1, 1040, 176)] and estimates.shape == (1, 2, 1025, 173) and estimates.min() >= 0


def test_the_table_of_layers_is_the_documents():
    rows = {name: (before, after) for name, before, after in layer_table(SpectrogramUNet(width=2))}
    assert list(rows.values())[0] == ("1025 x 173 x 1", "1040 x 176 x 1")
    assert rows["Convolutional block 1"] == ("1040 x 176 x 1", "520 x 88 x 2")
    assert rows["Convolutional block 4"] == ("130 x 22 x 8", "65 x 11 x 16")
    assert rows["Centre convolutional layers"] == ("65 x 11 x 16", "65 x 11 x 32")
    assert rows["Upsampling block 1"] == ("65 x 11 x 32", "130 x 22 x 16")
    assert rows["Deconvolutional block 1"] == ("130 x 22 x 32", "130 x 22 x 16")
    assert rows["Deconvolutional block 4"] == ("1040 x 176 x 4", "1040 x 176 x 2")
    assert rows["1 x 1 x k convolution"] == ("1040 x 176 x 2", "1040 x 176 x 2")
    assert list(rows.values())[-1] == ("1040 x 176 x 2", "1025 x 173 x 2") and len(rows) == 16


def test_the_documents_channels():
    model = SpectrogramUNet()
    assert [block.body[3].weight.shape[0] for block in model.down] == [32, 64, 128, 256]
    assert model.centre[3].weight.shape == (512, 512, 3, 3) and model.last[0].weight.shape == (2, 32, 1, 1)
    model = made(SpectrogramUNet).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    layer_table(model, 65, 20)
    assert model.training and all(value.equal(before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


@BOTH
@pytest.mark.parametrize("sources", [("vocals", "accompaniment"), STEMS])
@pytest.mark.parametrize("length", [8000, 8001, 9999])
def test_estimates_have_the_mixtures_shape(kind, sources, length):
    with torch.no_grad():
        estimates = made(kind, sources=sources)(noise(2, 1, length))
    assert estimates.shape == (2, len(sources), 1, length) and estimates.isfinite().all()


@BOTH
@pytest.mark.parametrize("size", [(65, 7), (65, 33), (257, 50), (101, 16)])
def test_any_number_of_bins_and_frames_will_do(kind, size):
    with torch.no_grad():
        assert made(kind).estimate(torch.rand(2, 1, *size)).shape == (2, 2, *size)


def passing(model):
    """A model whose network gives for every source the spectrogram it was given, padded as it was."""
    if isinstance(model, MaskUNet):  # a mask of one
        torch.nn.init.zeros_(model.up[-1][0].weight)
        torch.nn.init.constant_(model.up[-1][0].bias, 50.0)
        return model
    given = []
    model.down[0].register_forward_pre_hook(lambda block, inputs: given.append(inputs[0]))
    model.last.register_forward_hook(lambda block, inputs, output: given.pop().expand_as(output))
    return model


@BOTH
@pytest.mark.parametrize("rate, channels, length", [(8000, 1, 11_137), (8000, 2, 10_001), (8000, 1, 3001)])
def test_nothing_is_shifted_on_the_whole_way(kind, rate, channels, length):
    """The document lost its SDR to a frame of padding that stayed in: here the mixture comes back to the sample."""
    mixture = noise(channels, length)
    estimates = ModelSeparator(passing(made(kind)), "cpu", chunk=1.3, overlap=0.1)(mixture, rate)
    assert all(estimate.allclose(mixture, atol=1e-5) for estimate in estimates.values()) and len(estimates) == 2


@BOTH
def test_every_parameter_gets_a_gradient(kind):
    model = made(kind).train()
    WeightedL1Loss(0.5)(model, (noise(2, 1, 3000), noise(2, 2, 1, 3000, seed=2)), 0.0)["loss"].backward()
    dead = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not dead


@BOTH
def test_a_louder_mixture_gives_louder_sources_and_nothing_else(kind):
    model, mixture = made(kind), noise(1, 1, 4000)
    with torch.no_grad():
        assert model(8 * mixture).allclose(8 * model(mixture), atol=1e-4)
        assert not model(torch.zeros(1, 1, 4000)).any()


def test_estimates_have_the_mixtures_phase_and_the_networks_magnitudes():
    model, mixture = made(SpectrogramUNet), noise(1, 1, 4000)
    spectrogram, scale = model.analyse(mixture)
    magnitudes = torch.rand(1, 2, *spectrogram.shape[-2:], generator=torch.Generator().manual_seed(3))
    model.estimate = lambda _: magnitudes
    expected = torch.polar(magnitudes, spectrogram.angle().expand_as(magnitudes)) * scale
    assert model(mixture).squeeze(2).allclose(model.stft.inverse(expected, 4000), atol=1e-5)


def test_masks_lie_between_nothing_and_all():
    model = made(MaskUNet)
    mixture = torch.rand(2, 1, 65, 40)
    with torch.no_grad():
        masks = model.masks(mixture)
        assert masks.min() >= 0 and masks.max() <= 1
        assert model.estimate(mixture).equal(masks * mixture)
        assert masks[:, :, -1].equal(masks[:, :, -2])  # the highest bin is left out


def test_the_papers_layers():
    model = MaskUNet()
    shapes = [tuple(layer[0].weight.shape[:2]) for layer in (*model.down, *model.up)]
    assert shapes[:6] == [(16, 1), (32, 16), (64, 32), (128, 64), (256, 128), (512, 256)]
    assert shapes[6:] == [(512, 256), (512, 128), (256, 64), (128, 32), (64, 16), (32, 2)]
    assert [any(isinstance(part, torch.nn.Dropout) for part in layer) for layer in model.up] == [True] * 3 + [False] * 3


@BOTH
def test_a_checkpoint_separates_as_the_model_did(kind, tmp_path):
    model, mixture = made(kind), noise(1, 12_000)
    save_checkpoint(tmp_path / "unet.pt", model)
    again, _ = load_checkpoint(tmp_path / "unet.pt", expect=kind.__name__)
    ours, theirs = (ModelSeparator(one, "cpu")(mixture, 8000) for one in (model, again))
    assert set(ours) == {"vocals", "accompaniment"} and all(ours[name].equal(theirs[name]) for name in ours)
