"""The architectures, one family a file; ARCHITECTURES is what a checkpoint may name."""

from helpers.models.music_vae import MusicVAE
from helpers.models.unet import ImageUNet
from helpers.models.vae import ImageVAE

ARCHITECTURES = {model.__name__: model for model in (ImageUNet, ImageVAE, MusicVAE)}
