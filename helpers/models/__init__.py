"""The architectures, one family a file; ARCHITECTURES is what a checkpoint may name."""

from helpers.models.band_split import BandSplitModel
from helpers.models.deep_unet import DeepUNet
from helpers.models.image_unet import ImageUNet
from helpers.models.image_vae import ImageVAE
from helpers.models.mask_nets import LSTMNet, SingleFrameNet, SourceLSTM
from helpers.models.music_vae import MusicVAE
from helpers.models.spectrogram_unet import MaskUNet, SpectrogramUNet
from helpers.models.wave_unet import WaveUNet

MODELS = (
    BandSplitModel,
    DeepUNet,
    ImageUNet,
    ImageVAE,
    LSTMNet,
    MaskUNet,
    MusicVAE,
    SingleFrameNet,
    SourceLSTM,
    SpectrogramUNet,
    WaveUNet,
)
ARCHITECTURES = {model.__name__: model for model in MODELS}
