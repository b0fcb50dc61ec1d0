"""The deep U-Net: bands in their order, layers along frequency that see one frame."""

import pytest
import torch

from helpers.models.deep_unet import AcrossFrequency, DeepBody, DeepUNet


@pytest.mark.parametrize("bins, frames", [(65, 1), (65, 40), (129, 17), (513, 9)])
@torch.no_grad()
def test_the_masks_are_shares_of_every_bin(bins, frames):
    torch.manual_seed(0)
    model = DeepUNet(width=4, n_fft=2 * (bins - 1), hop_length=(bins - 1) // 2).eval()
    masks = model.masks(torch.rand(2, 1, bins, frames))
    assert masks.shape == (2, 2, bins, frames) and masks.min() >= 0 and masks.max() <= 1
    assert masks.sum(dim=1).allclose(torch.ones(2, bins, frames), atol=1e-6)


def test_bands_are_stacked_and_unstacked_in_their_order():
    body = DeepBody(65, 4)
    body.down, body.up = torch.nn.ModuleList([torch.nn.Identity()]), torch.nn.ModuleList()  # what is left: the stacking
    levels = torch.arange(65.0).view(1, 1, 65, 1).expand(1, 1, 65, 10)
    stacked = body.features(levels)
    assert stacked.shape == (1, 4, 16, 16) and stacked[0, 2, 3, 0] == 2 * 16 + 3
    whole = body.whole(stacked.unsqueeze(1), (65, 10))
    assert whole[0, 0, :64].equal(levels[0, 0, :64]) and whole[0, 0, 64].equal(levels[0, 0, 63])


def test_the_layers_along_frequency_see_every_bin_of_their_frame_and_no_other():
    layer = AcrossFrequency(3, 16).eval()
    for linear in (layer.down, layer.up):
        linear.weight.data.abs_()  # so that no ReLU is silent
    x = torch.rand(1, 3, 16, 5, requires_grad=True)
    layer(x)[0, 1, 4, 2].backward()
    reach = x.grad[0].abs() > 0  # (channels, bins, frames)
    assert reach[1, :, 2].all() and not reach[:, :, [0, 1, 3, 4]].any()
