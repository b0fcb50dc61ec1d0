"""The U-Nets on spectrograms: the sizes of the source document and of the paper."""

import pytest
import torch
from audio_models import noise

from helpers.models.spectrogram_unet import MaskUNet, SpectrogramUNet, layer_table

SMALL = {"width": 4, "n_fft": 128, "hop_length": 32, "sample_rate": 8000}


def made(kind, **arguments):
    torch.manual_seed(0)
    return kind(**({"depth": 3} if kind is MaskUNet else {}), **SMALL | arguments).eval()


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


def test_the_table_leaves_the_model_as_it_was():
    model = made(SpectrogramUNet).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    layer_table(model, 65, 20)
    assert model.training and all(value.equal(before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


def test_the_documents_channels():
    model = SpectrogramUNet()
    assert [block.body[3].weight.shape[0] for block in model.down] == [32, 64, 128, 256]
    assert model.centre[3].weight.shape == (512, 512, 3, 3) and model.last[0].weight.shape == (2, 32, 1, 1)


@pytest.mark.parametrize("size", [(65, 7), (65, 33), (257, 50), (101, 16)])
@torch.no_grad()
def test_any_number_of_bins_and_frames_will_do(size):
    mixture = torch.rand(2, 1, *size)
    assert made(SpectrogramUNet).estimate(mixture).shape == (2, 2, *size)
    masks = made(MaskUNet).masks(mixture)
    assert masks.shape == (2, 2, *size) and masks.min() >= 0 and masks.max() <= 1
    assert masks[:, :, -1].equal(masks[:, :, -2])  # the highest bin is left out


def test_estimates_have_the_mixtures_phase_and_the_networks_magnitudes():
    model, mixture = made(SpectrogramUNet), noise(1, 4000).unsqueeze(1)
    spectrogram, scale = model.scaled_stft(mixture)
    magnitudes = torch.rand(1, 2, *spectrogram.shape[-2:], generator=torch.Generator().manual_seed(3))
    model.estimate = lambda _: magnitudes
    expected = torch.polar(magnitudes, spectrogram.angle().expand_as(magnitudes)) * scale
    assert model(mixture).squeeze(2).allclose(model.stft.inverse(expected, 4000), atol=1e-5)


def test_the_mask_unet_reads_magnitudes_up_to_one():
    model, mixture = made(MaskUNet), noise(2, 4000).unsqueeze(1)
    spectrogram, scale = model.scaled_stft(mixture)
    assert spectrogram.abs().amax((1, 2, 3)).allclose(torch.ones(2))
    assert scale.flatten().allclose(model.stft(mixture).abs().amax((1, 2, 3)), rtol=1e-4)


def test_the_papers_layers():
    model = MaskUNet()
    shapes = [tuple(layer[0].weight.shape[:2]) for layer in (*model.down, *model.up)]
    assert shapes[:6] == [(16, 1), (32, 16), (64, 32), (128, 64), (256, 128), (512, 256)]
    assert shapes[6:] == [(512, 256), (512, 128), (256, 64), (128, 32), (64, 16), (32, 2)]
    assert [any(isinstance(part, torch.nn.Dropout) for part in layer) for layer in model.up] == [True] * 3 + [False] * 3
