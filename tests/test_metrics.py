"""Metrics of images against scikit-image and closed forms."""

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio

from helpers.metrics.images import mse_when_padded, psnr_from_mse


def random_images(seed):
    return torch.rand(6, 1, 28, 28, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_psnr_equals_scikit_image():
    estimate, reference = random_images(1), random_images(2)
    scores = psnr_from_mse((estimate - reference).square().mean((1, 2, 3)))
    pairs = zip(reference.numpy(), estimate.numpy(), strict=True)
    np.testing.assert_allclose(scores, [peak_signal_noise_ratio(*pair, data_range=1) for pair in pairs], rtol=1e-9)


def test_psnr_of_a_constant_error_and_of_none():
    np.testing.assert_allclose(psnr_from_mse(torch.tensor([1e-2, 1e-4, 1.0])), [20, 40, 0], atol=1e-5)
    assert float(psnr_from_mse(0)) == float(psnr_from_mse(1e-30)) == 100


def test_mean_of_psnr_is_not_below_psnr_of_the_mean_mse():
    errors = torch.tensor([1e-2, 1e-4])
    assert float(psnr_from_mse(errors).mean()) == pytest.approx(30, abs=1e-4)
    assert float(psnr_from_mse(errors.mean())) == pytest.approx(-10 * np.log10((1e-2 + 1e-4) / 2), abs=1e-4)


def test_the_error_of_padded_images():
    estimate, truth = random_images(1), random_images(2)
    padded = [torch.nn.functional.pad(images, (2, 2, 2, 2)) for images in (estimate, truth)]
    expected = (padded[0] - padded[1]).square().mean().item()
    assert mse_when_padded((estimate - truth).square().mean().item()) == pytest.approx(expected, rel=1e-9)
