"""What is minimised: the ELBO of images and of music, losses of masks, losses of U-Nets."""

from helpers.losses.masks import MaskLoss, Recorded, generalised_kl, norm_of, per_frame, smoothed
from helpers.losses.music_vae import (
    BlindMusicLoss,
    MusicVAELoss,
    gaussian_nll,
    kl_per_bin,
    laplace_nll,
    local_gaussian_nll,
    per_bin,
)
from helpers.losses.unets import (
    MultiResolutionLoss,
    WeightedL1Loss,
    balancing_weights,
    magnitudes_of,
    waveform_mse,
    weights_of,
)
from helpers.losses.vae import (
    BlindVAELoss,
    SupervisedVAELoss,
    bernoulli_nll,
    kl_from_standard_normal,
    mean_squared_error,
    per_image,
    separation_mse,
)
