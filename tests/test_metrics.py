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


def scores_of(estimate, reference):
    """Scores of images of one source."""
    return metrics.score_images({"one": estimate}, {"one": reference})["one"]


@pytest.mark.parametrize("name", PAIRS)
def test_ssim_and_psnr_equal_scikit_image(name):
    estimate, reference = PAIRS[name]
    scores = scores_of(estimate, reference)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1}
    arrays = [(e[0].double().numpy(), r[0].double().numpy()) for e, r in zip(estimate, reference, strict=True)]
    expected = [structural_similarity(r, e, **options) for e, r in arrays]
    np.testing.assert_allclose(scores["SSIM"], expected, rtol=0, atol=1e-9)
    expected = [peak_signal_noise_ratio(r, e, data_range=1) for e, r in arrays]
    np.testing.assert_allclose(scores["PSNR"], expected, rtol=1e-9)


def test_ssim_is_symmetric_and_averages_channels():
    x, y = random_images(4, seed=1), random_images(4, seed=2)
    similarity = scores_of(x, y)["SSIM"]
    torch.testing.assert_close(similarity, scores_of(y, x)["SSIM"])
    colour = scores_of(torch.cat([x, x], 1), torch.cat([x, y], 1))["SSIM"]
    torch.testing.assert_close(colour, (1 + similarity) / 2)


def test_mse_and_psnr_of_a_constant_error():
    reference = torch.zeros(3, 1, 28, 28)
    estimate = torch.tensor([0.1, 0.01, 1.0]).view(3, 1, 1, 1).expand_as(reference)
    scores = scores_of(estimate, reference)
    np.testing.assert_allclose(scores["MSE"], [1e-2, 1e-4, 1], rtol=1e-6)
    np.testing.assert_allclose(scores["PSNR"], [20, 40, 0], atol=1e-5)


def test_the_error_of_padded_images():
    estimate, truth = random_images(3, 1), random_images(3, 2)
    padded = [torch.nn.functional.pad(images, (2, 2, 2, 2)).double() for images in (estimate, truth)]
    expected = (padded[0] - padded[1]).square().mean().item()
    error = (estimate - truth).double().square().mean().item()
    assert metrics.mse_when_padded(error) == pytest.approx(expected, rel=1e-9)


def test_identical_images_get_the_documented_values():
    images = random_images(2, seed=1)
    scores = scores_of(images, images)
    assert scores["MSE"].tolist() == [0, 0] and scores["PSNR"].tolist() == [100, 100]
    np.testing.assert_allclose(scores["SSIM"], 1, atol=1e-12)
    assert float(metrics.psnr_from_mse(1e-30)) == 100


def test_mean_of_psnr_is_not_below_psnr_of_the_mean_mse():
    reference = torch.zeros(2, 1, 28, 28)
    estimate = torch.tensor([0.1, 0.01]).view(2, 1, 1, 1).expand_as(reference)
    scores = scores_of(estimate, reference)
    assert float(scores["PSNR"].mean()) == pytest.approx(30, abs=1e-4)
    of_mean = float(metrics.psnr_from_mse(scores["MSE"].mean()))
    assert of_mean == pytest.approx(-10 * np.log10((1e-2 + 1e-4) / 2), abs=1e-4)


def test_scores_of_both_sources_and_their_mean_do_not_depend_on_the_chunk(monkeypatch):
    monkeypatch.setattr(metrics, "CHUNK", 3)
    references = {"digit": random_images(7, seed=1), "garment": random_images(7, seed=2)}
    estimates = {"digit": random_images(7, seed=3), "garment": random_images(7, seed=4)}
    scores = metrics.score_images(estimates, references)
    assert list(scores) == ["digit", "garment", "mean"]
    for source in references:
        for number in range(7):
            alone = scores_of(estimates[source][number : number + 1], references[source][number : number + 1])
            assert all(float(alone[name]) == pytest.approx(float(scores[source][name][number])) for name in alone)
    for name in ("MSE", "PSNR", "SSIM"):
        torch.testing.assert_close(scores["mean"][name], (scores["digit"][name] + scores["garment"][name]) / 2)


def test_unequal_shapes_are_refused():
    images = random_images(4, seed=1)
    for estimate, reference in ((images, images[:3]), (images, images.expand(4, 3, 28, 28)), (images[:0], images[:0])):
        with pytest.raises(ValueError, match="shape"):
            scores_of(estimate, reference)


def test_ssim_refuses_images_smaller_than_its_window():
    with pytest.raises(ValueError, match="11 x 11"):
        scores_of(random_images(1, 1, size=10), random_images(1, 2, size=10))


def test_not_finite_estimates_are_named():
    references = {"digit": random_images(5, seed=1), "garment": random_images(5, seed=2)}
    estimates = {source: images.clone() for source, images in references.items()}
    estimates["garment"][3, 0, 5, 5] = float("nan")
    with pytest.raises(UserError, match="the estimate of 'garment' holds NaN .* must be trained again"):
        metrics.score_images(estimates, references)
    with pytest.raises(UserError, match="the reference of 'garment'"):
        metrics.score_images(references, estimates)


def test_other_sources_are_refused():
    images = random_images(2, seed=1)
    with pytest.raises(ValueError, match="sources differ"):
        metrics.score_images({"digit": images}, {"digit": images, "garment": images})
