"""How good is an estimated image: MSE, PSNR and SSIM.

Every score is computed on the CPU in double precision, so that a number does not depend on the device it came from.
"""

import torch

from helpers.runtime import UserError

PSNR_CAP = 100.0  # dB, given to identical images; half an 8-bit step of error everywhere is already 54 dB
CHUNK = 2000  # images scored at a time
SSIM_WINDOW, SSIM_SIGMA = 11, 1.5
SSIM_C1, SSIM_C2 = 0.01**2, 0.03**2  # (K1 L)^2 and (K2 L)^2 for the data range L = 1


def mse(estimate, reference):
    """Mean squared error of each image, over its channels and pixels.

    estimate, reference: `(batch, channels, height, width)`, nominally in [0, 1]. Returns `(batch,)`, float64, CPU.
    Raises ValueError for unequal or wrong shapes, UserError for a NaN or an infinity. The same holds below.
    """
    estimate, reference = _checked(estimate, reference)
    return (estimate - reference).square().flatten(1).mean(1)


def psnr_from_mse(error):
    """Peak signal-to-noise ratio in dB of a mean squared error (a tensor or a number), for a peak of 1: at most 100 dB.

    Of a mean MSE this gives the 'PSNR of the mean MSE'. It is never above the mean of the per-image PSNRs, which is
    what `psnr` leads to and what 'PSNR' means in every table here (Jensen's inequality keeps the two apart).
    """
    error = torch.as_tensor(error, dtype=torch.float64)
    return -10 * torch.log10(error.clamp_min(10 ** (-PSNR_CAP / 10)))


def psnr(estimate, reference):
    """Peak signal-to-noise ratio of each image in dB, `(batch,)`; identical images get PSNR_CAP = 100 dB."""
    return psnr_from_mse(mse(estimate, reference))


def ssim(estimate, reference):
    """Structural similarity of each image, `(batch,)`, mean over the channels; 1 for identical images.

    Wang et al. 2004: Gaussian window of 11 pixels, sigma 1.5, K1 = 0.01, K2 = 0.03, data range 1, population
    covariances, averaged over the pixels whose whole window lies in the image. It equals scikit-image's
    `structural_similarity(gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1)`.
    """
    x, y = _checked(estimate, reference)
    height, width = x.shape[-2:]
    if min(height, width) < SSIM_WINDOW:
        raise ValueError(f"SSIM needs images of at least {SSIM_WINDOW} x {SSIM_WINDOW} pixels, got {height} x {width}")
    maps = torch.stack([x, y, x * x, y * y, x * y])  # (5, batch, channels, height, width)
    mean_x, mean_y, xx, yy, xy = _averaging(height) @ maps @ _averaging(width).T
    variance_x, variance_y, covariance = xx - mean_x**2, yy - mean_y**2, xy - mean_x * mean_y
    similarity = (2 * mean_x * mean_y + SSIM_C1) * (2 * covariance + SSIM_C2)
    similarity /= (mean_x**2 + mean_y**2 + SSIM_C1) * (variance_x + variance_y + SSIM_C2)
    return similarity.flatten(1).mean(1)


def score_images(estimates, references):
    """Score every item of every source: `{source: {"MSE" | "PSNR" | "SSIM": (items,)}}`, and their mean as 'mean'.

    estimates, references: `{source: (items, channels, height, width)}` with the same sources. Item i of 'mean' is the
    mean over the sources of item i. Raises ValueError for other sources or shapes, UserError for a NaN or an infinity.
    """
    if not references or estimates.keys() != references.keys():
        raise ValueError(f"sources differ: estimates {sorted(estimates)}, references {sorted(references)}")
    scores = {}
    for source, reference in references.items():
        estimate, reference = _checked(estimates[source], reference, f"'{source}'")
        pairs = list(zip(estimate.split(CHUNK), reference.split(CHUNK), strict=True))
        error = torch.cat([mse(*pair) for pair in pairs])
        scores[source] = {"MSE": error, "PSNR": psnr_from_mse(error), "SSIM": torch.cat([ssim(*p) for p in pairs])}
    per_source = list(scores.values())
    scores["mean"] = {name: torch.stack([s[name] for s in per_source]).mean(0) for name in per_source[0]}
    return scores


def _checked(estimate, reference, name="the images"):
    if estimate.shape != reference.shape or estimate.dim() != 4 or not estimate.numel():
        raise ValueError(
            f"estimate and reference must share one non-empty shape (batch, channels, height, width), "
            f"got {tuple(estimate.shape)} and {tuple(reference.shape)}"
        )
    pair = [images.detach().cpu().double() for images in (estimate, reference)]
    for kind, images in zip(("estimate", "reference"), pair, strict=True):
        bad = (~images.isfinite()).flatten(1).any(1).nonzero().flatten().tolist()
        if bad:
            raise UserError(
                f"{kind} {bad[0]} of {name} holds NaN or infinity ({len(bad)} of {len(images)} do): "
                f"a model that diverged must be trained again, with a lower learning rate, before it is scored"
            )
    return pair


def _averaging(size):
    """The Gaussian window at every place where it fits, as a matrix: `(size - 10, size)`."""
    offsets = torch.arange(SSIM_WINDOW, dtype=torch.float64) - SSIM_WINDOW // 2
    window = torch.exp(-0.5 * (offsets / SSIM_SIGMA) ** 2)
    matrix = torch.zeros(size - SSIM_WINDOW + 1, size, dtype=torch.float64)
    for row in range(len(matrix)):
        matrix[row, row : row + SSIM_WINDOW] = window / window.sum()
    return matrix
