"""The architectures, one family a file; ARCHITECTURES is what a checkpoint may name."""

from helpers.models.masknet import LSTMNet, SingleFrameNet, SourceLSTM
from helpers.models.music_vae import MusicVAE
from helpers.models.unet import ImageUNet
from helpers.models.vae import ImageVAE

MODELS = (ImageUNet, ImageVAE, LSTMNet, MusicVAE, SingleFrameNet, SourceLSTM)
ARCHITECTURES = {model.__name__: model for model in MODELS}
