"""What is minimised: the ELBO of images and of music, losses of masks, losses of U-Nets."""

from helpers.losses.masks import CarriedLoss, MaskLoss, Recorded, generalised_kl, smoothed
from helpers.losses.unets import MultiResolutionLoss, WeightedL1Loss, balancing_weights, error_to_mixture, magnitudes_of
from helpers.losses.vae import (
    BlindMusicLoss,
    BlindVAELoss,
    MusicVAELoss,
    SupervisedVAELoss,
    kl_from_standard_normal,
    mean_squared_error,
    separation_mse,
)
