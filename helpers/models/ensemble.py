"""Several networks that were trained apart, heard as one: they err apart, too, so that their mean errs less."""

import torch
from torch import nn

from helpers import models
from helpers.models.audio_model import VOICE, AudioModel


class Ensemble(AudioModel):
    """The weighted mean of several networks' voices; what is left of the mixture is the accompaniment.

    members: [[class, arguments], ...] of audio models of one sample rate, each with the source 'vocals'. weights: of
    their voices, in order; they add up to 1.
    """

    def __init__(self, members, weights):
        built = [models.ARCHITECTURES[name](**arguments) for name, arguments in members]
        (sample_rate,) = {model.sample_rate for model in built}
        super().__init__(sample_rate, None, sources=VOICE, rest="accompaniment")
        self.arguments = {"members": members, "weights": weights}
        self.members, self.weights = nn.ModuleList(built), weights

    def forward(self, waveform):
        """(batch, 1, time) -> (batch, 2, 1, time)."""
        voices = (member(waveform)[:, member.sources.index("vocals")] for member in self.members)
        voice = sum(weight * voice for weight, voice in zip(self.weights, voices, strict=True))
        return torch.stack((voice, waveform - voice), dim=1)
