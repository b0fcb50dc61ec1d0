"""The architectures, one family a file, and the one protocol by which models and losses meet.

Every model keeps its constructor's arguments in `model.arguments`, so that a checkpoint can rebuild it, on torch's
"meta" device: nothing in a model depends on a device.

- An *image model* maps a mixture (batch, 1, height, width) in [0, 1] to its sources, or (ImageVAE) to a VAEOutput.
- An *audio model* (AudioModel) maps waveforms (batch, 1, time) to (batch, sources, 1, time), of any level and length.
  One with an STFT does so by `model.analyse(waveform)`, an Analysis, which is all that losses on spectrograms read.
- A *loss* is `loss(model, batch, progress) -> {"loss": scalar, other terms to log}`. A batch of audio is (mixture,
  sources), as waveforms; what the estimates should be is `model.stft(sources) / analysis.scale.unsqueeze(1)`.
- `MusicVAE.autoencode(levels)` is the VAE without its STFT, for data that consist of levels (BlindMusicLoss).
"""

from helpers.models.audio_model import Analysis, AudioModel
from helpers.models.band_split import BandSplitModel
from helpers.models.deep_unet import DeepUNet
from helpers.models.ensemble import Ensemble
from helpers.models.image_unet import ImageUNet, clip_to_feasible, feasible_interval
from helpers.models.image_vae import ImageVAE, condition_on_mixture, reparameterise
from helpers.models.mask_nets import LSTMNet, MaskModel, SingleFrameNet, SourceLSTM, fit_statistics
from helpers.models.music_vae import MusicVAE
from helpers.models.open_unmix import OpenUnmix
from helpers.models.spectrogram_unet import MaskUNet, SpectrogramUNet
from helpers.models.wave_unet import WaveUNet

MODELS = (
    BandSplitModel, DeepUNet, Ensemble, ImageUNet, ImageVAE, LSTMNet, MaskUNet, MusicVAE, OpenUnmix, SingleFrameNet,
    SourceLSTM, SpectrogramUNet, WaveUNet,
)  # fmt: skip
ARCHITECTURES = {model.__name__: model for model in MODELS}  # what a checkpoint may name
