"""Audio models that need no training, because what they must give is known; and a small one of every kind."""

from functools import partial

import torch
from torch import nn

from helpers import models
from helpers.losses import MaskLoss, MultiResolutionLoss, MusicVAELoss, WeightedL1Loss, error_to_mixture
from helpers.models import (
    BandSplitModel,
    DeepUNet,
    Ensemble,
    LSTMNet,
    MaskUNet,
    MusicVAE,
    OpenUnmix,
    SingleFrameNet,
    SourceLSTM,
    SpectrogramUNet,
    WaveUNet,
)


class Identity(nn.Module):
    """Every source is a known part of the mixture."""

    def __init__(self, sample_rate=8000, sources=("vocals", "accompaniment"), parts=(0.75, 0.25)):
        super().__init__()
        self.arguments = {"sample_rate": sample_rate, "sources": list(sources), "parts": list(parts)}
        self.sample_rate, self.sources = sample_rate, tuple(sources)
        self.parts = nn.Parameter(torch.tensor(parts))
        self.seen = []  # shapes of the batches

    def forward(self, batch):
        self.seen.append(tuple(batch.shape))
        return batch.unsqueeze(1) * self.parts[:, None, None]


class Broken(Identity):
    """Gives NaN."""

    def forward(self, batch):
        return super().forward(batch) * torch.nan


def register(monkeypatch):
    """Let checkpoints name these models."""
    for model in (Identity, Broken):
        monkeypatch.setitem(models.ARCHITECTURES, model.__name__, model)


def noise(channels, frames, seed=0, level=0.1):
    """Return white noise (channels, frames) that does not clip."""
    return level * torch.randn(channels, frames, generator=torch.Generator().manual_seed(seed)).clamp(-3, 3)


# ---- a small one of every kind ---------------------------------------------------------------------------------------

RATE = {"sample_rate": 8000}
SMALL = RATE | {"n_fft": 256, "hop_length": 64}
STEMS = ("vocals", "drums", "bass", "other")
FRAME = SMALL | {"width": 12, "code": 9}
BANDS = SMALL | {"features": 8, "blocks": 2, "bands": ((4000, 1000),)}
VAE = SMALL | {"latent": 3, "width": 4}
MODELS = {
    "dense": partial(SingleFrameNet, **FRAME),
    "dense, magnitudes, ratio": partial(SingleFrameNet, **FRAME, features="magnitude", masks="ratio", level="max"),
    "dense, level none": partial(SingleFrameNet, **FRAME, features="magnitude", level="none"),
    "convolutional, four sources": partial(SingleFrameNet, "conv", **FRAME, masks="sum", sources=STEMS),
    "LSTM": partial(LSTMNet, hidden=10, **FRAME),
    "LSTM, both ways": partial(LSTMNet, hidden=10, layers=2, bidirectional=True, **FRAME, masks="ratio", sources=STEMS),
    "source LSTM": partial(SourceLSTM, hidden=10, **SMALL),
    "spectrogram U-Net": partial(SpectrogramUNet, width=4, **SMALL, sources=STEMS),
    "mask U-Net": partial(MaskUNet, width=4, depth=3, **SMALL),
    "deep U-Net": partial(DeepUNet, width=4, **SMALL, sources=STEMS),
    "Wave-U-Net": partial(WaveUNet, levels=4, width=3, **RATE),
    "Wave-U-Net, four sources": partial(WaveUNet, levels=4, width=3, sources=STEMS, **RATE),
    "ensemble": partial(Ensemble, [["DeepUNet", {"width": width, **SMALL}] for width in (3, 4)], [0.7, 0.3]),
    "Open-Unmix": partial(OpenUnmix, hidden=8, layers=2, dropout=0.0, **SMALL, sources=STEMS),
    "band-split": partial(BandSplitModel, **BANDS),
    "band-split, four sources": partial(BandSplitModel, sources=STEMS, **BANDS),
    "dense VAE": partial(MusicVAE, "dense", "spectrogram", **VAE),
    "convolutional VAE": partial(MusicVAE, "conv", "mask", **VAE),
    "deep VAE": partial(MusicVAE, "deep", "wiener", **VAE),
}


def made(name, seed=0):
    """A small model of random weights, whose estimates are far from being all alike."""
    torch.manual_seed(seed)
    model = MODELS[name]()
    if "LSTM" in name or "dense" in name or "convolutional" in name:
        with torch.no_grad():
            for weights in model.parameters():
                weights.mul_(2)
    return model.eval()


def mixture_for(model, length=2001, batch=2, seed=1):
    """White noise (batch, 1, length), as loud in each item as its number."""
    loudness = torch.arange(1, batch + 1.0)[:, None, None]
    return noise(batch, length, seed).unsqueeze(1) * loudness


def losses_of(model):
    """The losses that a model can be trained with."""
    losses = [MultiResolutionLoss(((128, 64), (64, 32))), error_to_mixture]
    if hasattr(model, "stft"):
        losses += [MaskLoss("kl"), MaskLoss("waveform"), WeightedL1Loss((1 / len(model.sources),) * len(model.sources))]
    if isinstance(model, MusicVAE):
        losses += [MusicVAELoss(target) for target in ("levels", "magnitudes", "variances", "waveforms")]
    return losses
