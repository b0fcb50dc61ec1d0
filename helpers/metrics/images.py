"""How good is an estimated image, from its mean squared error."""

import torch

PSNR_CAP = 100.0  # dB, given to identical images; half an 8-bit step of error everywhere is already 54 dB


def psnr_from_mse(error):
    """Peak signal-to-noise ratio in dB, float64, of a mean squared error (a tensor or a number) and a peak of 1.

    Of a mean MSE this gives the 'PSNR of the mean MSE'. It is never above the mean of the per-image PSNRs, which is
    what 'PSNR' means in every table here (Jensen's inequality keeps the two apart).
    """
    error = torch.as_tensor(error, dtype=torch.float64)
    return -10 * torch.log10(error.clamp_min(10 ** (-PSNR_CAP / 10)))


def mse_when_padded(error):
    """Return the mean squared error of images of 28 x 28 pixels after zeros pad them, and their truth, to 32 x 32.

    That is the size of published figures of these mixtures: 240 black pixels cost nothing in every image.
    """
    return error * (28 / 32) ** 2
