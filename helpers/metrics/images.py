"""How good is an estimated image: MSE, PSNR and SSIM.

Every score is computed on the CPU in double precision, so that a number does not depend on the device it came from.
"""

import numpy as np
import torch
from scipy.signal.windows import gaussian
from torch.nn import functional as F

from helpers.metrics.signals import checked_pair

PSNR_CAP = 100.0  # dB, given to identical images; half an 8-bit step of error everywhere is already 54 dB
CHUNK = 2000  # images scored at a time
SSIM_WINDOW, SSIM_SIGMA = 11, 1.5
SSIM_C1, SSIM_C2 = 0.01**2, 0.03**2  # (K1 L)^2 and (K2 L)^2 for the data range L = 1


def psnr_from_mse(error):
    """Peak signal-to-noise ratio in dB of a mean squared error (a tensor or a number), for a peak of 1: at most 100 dB.

    Of a mean MSE this gives the 'PSNR of the mean MSE'. It is never above the mean of the per-image PSNRs, which is
    what 'PSNR' means in every table here (Jensen's inequality keeps the two apart).
    """
    error = torch.as_tensor(error, dtype=torch.float64)
    return -10 * torch.log10(error.clamp_min(10 ** (-PSNR_CAP / 10)))


def mse_when_padded(error, size=28, padded=32):
    """Return the mean squared error of images of `size`² pixels after zeros pad them, and their truth, to `padded`².

    Published figures of these mixtures are of 32 x 32 pixels, 240 of which are black in every image and cost nothing.
    """
    return error * (size / padded) ** 2


def ssim(estimate, reference):
    """Structural similarity of each image, `(batch,)`, mean over the channels; 1 for identical images.

    Wang et al. 2004: Gaussian window of 11 pixels, sigma 1.5, K1 = 0.01, K2 = 0.03, data range 1, population
    covariances, averaged over the pixels whose whole window lies in the image. It equals scikit-image's
    `structural_similarity(gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1)`, for all images
    of a batch at once.

    estimate, reference: `(batch, channels, height, width)`, float64. Raises ValueError for images below 11 x 11 pixels.
    """
    x, y = estimate, reference
    height, width = x.shape[-2:]
    if min(height, width) < SSIM_WINDOW:
        raise ValueError(f"SSIM needs images of at least {SSIM_WINDOW} x {SSIM_WINDOW} pixels, got {height} x {width}")
    window = gaussian(SSIM_WINDOW, SSIM_SIGMA)
    window = torch.from_numpy(np.outer(window, window) / window.sum() ** 2)
    maps = torch.cat([x, y, x * x, y * y, x * y])  # (5 · batch, channels, height, width)
    averages = F.conv2d(maps.flatten(0, 1).unsqueeze(1), window[None, None])  # (5 · batch · channels, 1, ...)
    mean_x, mean_y, xx, yy, xy = averages.unflatten(0, (5, len(x), -1))  # (batch, channels, 1, ...) each
    variance_x, variance_y, covariance = xx - mean_x**2, yy - mean_y**2, xy - mean_x * mean_y
    similarity = (2 * mean_x * mean_y + SSIM_C1) * (2 * covariance + SSIM_C2)
    similarity /= (mean_x**2 + mean_y**2 + SSIM_C1) * (variance_x + variance_y + SSIM_C2)
    return similarity.flatten(1).mean(1)


def score_images(estimates, references):
    """Score every item of every source: `{source: {"MSE" | "PSNR" | "SSIM": (items,)}}`, and their mean as 'mean'.

    estimates, references: `{source: (items, channels, height, width)}` with the same sources, nominally in [0, 1].
    Item i of 'mean' is the mean over the sources of item i. Scores are float64, on the CPU.
    Raises ValueError for other sources; other errors as checked_pair's.
    """
    if not references or estimates.keys() != references.keys():
        raise ValueError(f"sources differ: estimates {sorted(estimates)}, references {sorted(references)}")
    scores = {}
    for source in references:
        estimate, reference = checked_pair(estimates[source], references[source], f"'{source}'")
        error = (estimate - reference).square().flatten(1).mean(1)
        pairs = zip(estimate.split(CHUNK), reference.split(CHUNK), strict=True)
        similarity = torch.cat([ssim(*pair) for pair in pairs])
        scores[source] = {"MSE": error, "PSNR": psnr_from_mse(error), "SSIM": similarity}
    per_source = list(scores.values())
    scores["mean"] = {name: torch.stack([score[name] for score in per_source]).mean(0) for name in per_source[0]}
    return scores
