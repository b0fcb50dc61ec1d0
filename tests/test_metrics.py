"""Metrics of images against scikit-image and closed forms."""

import numpy as np
import pytest
import torch
from skimage import data
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from helpers.metrics import images as metrics
from helpers.runtime import UserError


def random_images(count, seed, size=28):
    return torch.rand(count, 1, size, size, generator=torch.Generator().manual_seed(seed))


def photographs(count):
    """Patches of a photograph: smooth, dark and textured places alike."""
    whole = torch.from_numpy(data.camera()).float() / 255
    patches = whole.unfold(0, 28, 28).unfold(1, 28, 28).reshape(-1, 1, 28, 28)
    return patches[:: len(patches) // count][:count]


PAIRS = {
    "noise": (random_images(6, seed=1), random_images(6, seed=2)),
    "photographs": (
        (photographs(12) + 0.1 * torch.randn(12, 1, 28, 28, generator=torch.Generator().manual_seed(3))).clamp(0, 1),
        photographs(12),
    ),
    "not square": (random_images(3, seed=4)[..., :20, :], random_images(3, seed=5)[..., :20, :]),
}


@pytest.mark.parametrize("name", PAIRS)
def test_ssim_and_psnr_equal_scikit_image(name):
    estimate, reference = PAIRS[name]
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1}
    arrays = [(e[0].double().numpy(), r[0].double().numpy()) for e, r in zip(estimate, reference, strict=True)]
    expected = [structural_similarity(r, e, **options) for e, r in arrays]
    np.testing.assert_allclose(metrics.ssim(estimate, reference), expected, rtol=0, atol=1e-9)
    expected = [peak_signal_noise_ratio(r, e, data_range=1) for e, r in arrays]
    np.testing.assert_allclose(metrics.psnr(estimate, reference), expected, rtol=1e-9)


def test_ssim_is_symmetric_and_averages_channels():
    x, y = random_images(4, seed=1), random_images(4, seed=2)
    torch.testing.assert_close(metrics.ssim(x, y), metrics.ssim(y, x))
    colour = metrics.ssim(torch.cat([x, x], 1), torch.cat([x, y], 1))
    torch.testing.assert_close(colour, (1 + metrics.ssim(x, y)) / 2)


def test_mse_and_psnr_of_a_constant_error():
    reference = torch.zeros(3, 1, 28, 28)
    estimate = torch.tensor([0.1, 0.01, 1.0]).view(3, 1, 1, 1).expand_as(reference)
    np.testing.assert_allclose(metrics.mse(estimate, reference), [1e-2, 1e-4, 1], rtol=1e-6)
    np.testing.assert_allclose(metrics.psnr(estimate, reference), [20, 40, 0], atol=1e-5)


def test_identical_images_get_the_documented_values():
    images = random_images(2, seed=1)
    assert metrics.mse(images, images).tolist() == [0, 0]
    assert metrics.psnr(images, images).tolist() == [100, 100]
    np.testing.assert_allclose(metrics.ssim(images, images), 1, atol=1e-12)
    assert float(metrics.psnr_from_mse(1e-30)) == 100


def test_mean_of_psnr_is_not_below_psnr_of_the_mean_mse():
    reference = torch.zeros(2, 1, 28, 28)
    estimate = torch.tensor([0.1, 0.01]).view(2, 1, 1, 1).expand_as(reference)
    assert float(metrics.psnr(estimate, reference).mean()) == pytest.approx(30, abs=1e-4)
    of_mean = float(metrics.psnr_from_mse(metrics.mse(estimate, reference).mean()))
    assert of_mean == pytest.approx(-10 * np.log10((1e-2 + 1e-4) / 2), abs=1e-4)


def test_scores_of_both_sources_and_their_mean_do_not_depend_on_the_chunk(monkeypatch):
    monkeypatch.setattr(metrics, "CHUNK", 3)
    references = {"digit": random_images(7, seed=1), "garment": random_images(7, seed=2)}
    estimates = {"digit": random_images(7, seed=3), "garment": random_images(7, seed=4)}
    scores = metrics.score_images(estimates, references)
    assert list(scores) == ["digit", "garment", "mean"]
    for source in references:
        pair = estimates[source], references[source]
        torch.testing.assert_close(scores[source]["MSE"], metrics.mse(*pair))
        torch.testing.assert_close(scores[source]["PSNR"], metrics.psnr(*pair))
        torch.testing.assert_close(scores[source]["SSIM"], metrics.ssim(*pair))
    for name in ("MSE", "PSNR", "SSIM"):
        torch.testing.assert_close(scores["mean"][name], (scores["digit"][name] + scores["garment"][name]) / 2)


@pytest.mark.parametrize("score", [metrics.mse, metrics.psnr, metrics.ssim])
def test_unequal_or_wrong_shapes_are_refused(score):
    images = random_images(4, seed=1)
    for other in (images[:3], images[:, 0], images.expand(4, 3, 28, 28)):
        with pytest.raises(ValueError, match="shape"):
            score(images, other)
    with pytest.raises(ValueError, match="shape"):
        score(images[:, 0], images[:, 0])
    with pytest.raises(ValueError, match="shape"):
        score(images[:0], images[:0])


def test_ssim_refuses_images_smaller_than_its_window():
    with pytest.raises(ValueError, match="11 x 11"):
        metrics.ssim(random_images(1, 1, size=10), random_images(1, 2, size=10))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_not_finite_estimates_are_named(value):
    references = {"digit": random_images(5, seed=1), "garment": random_images(5, seed=2)}
    estimates = {source: images.clone() for source, images in references.items()}
    estimates["garment"][3, 0, 5, 5] = value
    with pytest.raises(UserError, match=r"estimate 3 of 'garment' .* \(1 of 5 do\)"):
        metrics.score_images(estimates, references)
    with pytest.raises(UserError, match="reference 3"):
        metrics.mse(references["garment"], estimates["garment"])


def test_other_sources_are_refused():
    images = random_images(2, seed=1)
    with pytest.raises(ValueError, match="sources differ"):
        metrics.score_images({"digit": images}, {"digit": images, "garment": images})
