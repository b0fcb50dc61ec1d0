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
        rates = {model.sample_rate for model in built}
        if len(rates) != 1 or len(weights) != len(built) or abs(sum(weights) - 1) > 1e-6:
            raise ValueError(f"{len(built)} networks of the rates {sorted(rates)} with {len(weights)} weights")
        super().__init__(*rates, None, sources=VOICE, rest="accompaniment")
        self.arguments = {"members": members, "weights": weights}
        self.members, self.weights = nn.ModuleList(built), weights

    @classmethod
    def of(cls, networks, weights):
        """Return the ensemble of trained networks, which it copies."""
        ensemble = cls([[type(network).__name__, network.arguments] for network in networks], weights)
        for member, network in zip(ensemble.members, networks, strict=True):
            member.load_state_dict(network.state_dict())
        return ensemble

    def forward(self, waveform):
        """(batch, 1, time) -> (batch, 2, 1, time)."""
        voices = (member(waveform)[:, member.sources.index("vocals")] for member in self.members)
        voice = sum(weight * voice for weight, voice in zip(self.weights, voices, strict=True))
        return torch.stack((voice, waveform - voice), dim=1)
