"""The Wave-U-Net: interpolation that shifts nothing, and the paper's sizes."""

import numpy as np
import torch
from audio_models import noise

from helpers.models.wave_unet import WaveUNet, interpolated


def test_interpolation_is_numpys():
    x = noise(6, 11).view(2, 3, 11)
    expected = [[np.interp(np.arange(22) / 2, np.arange(11), row) for row in rows] for rows in x.numpy()]
    assert np.allclose(interpolated(x).numpy(), expected, atol=1e-7)
    assert interpolated(x)[..., ::2].equal(x)


@torch.no_grad()
def test_it_commutes_with_shifts_of_its_coarsest_step():
    """Away from the ends, what is 2^levels samples later comes out 2^levels samples later."""
    torch.manual_seed(0)
    model, mixture = WaveUNet(levels=3, width=3).eval(), noise(1, 4000).unsqueeze(1)
    later = torch.cat((mixture[..., -8:], mixture[..., :-8]), dim=-1)  # the same samples: the same loudness
    first, second = model(mixture), model(later)
    assert first[..., 1000:3000].allclose(second[..., 1008:3008], atol=1e-6)


def test_the_papers_channels():
    model = WaveUNet()
    assert [layer[0].weight.shape[0] for layer in model.down] == [24 * level for level in range(1, 13)]
    assert model.centre[0].weight.shape == (312, 288, 15)
    assert model.up[0][0].weight.shape == (288, 312 + 288, 5) and model.last.weight.shape == (1, 25, 1)
