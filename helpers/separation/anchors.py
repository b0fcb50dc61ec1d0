"""Separators to compare with that are made of data: a fixed equaliser, and the estimates that others published."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from helpers.data import audio
from helpers.runtime import UserError
from helpers.separation.oracles import MaskSeparator, shares


class FixedEqualiser(MaskSeparator):
    """One mask for all frames of all songs: each frequency shared out by the sources' mean energies in training tracks.

    tracks: Tracks of one sample rate with the same sources, such as a Corpus.
    """

    def __init__(self, tracks):
        super().__init__(tracks[0].stems)
        self.sample_rate = tracks[0].sample_rate
        stft, energies = self.stft(self.sample_rate), 0.0
        for track in tracks:
            sources = (audio.to_mono(track.source(name)) for name in self.names)  # (1, time), one at a time
            powers = [stft(source).abs().square().sum(-1) for source in sources]
            energies = energies + torch.cat(powers)  # (sources, bins)
        self.shares = shares(energies, power=1).numpy()

    def masks(self, spectrogram, sample_rate):
        known = np.linspace(0, self.sample_rate / 2, self.shares.shape[1])
        asked = np.linspace(0, sample_rate / 2, spectrogram.shape[1])
        masks = np.stack([np.interp(asked, known, share) for share in self.shares])  # (sources, bins)
        return torch.from_numpy(masks).to(spectrogram.real)[:, None, :, None]  # the same for all channels and frames


@dataclass(frozen=True)
class PublishedEstimates:
    """A Separator that reads a published system's voice from FOLDER/SONG/SYSTEM.wav; the accompaniment is the rest.

    Raises UserError for a file that is missing, or is not as long as the mixture, to a tenth of a second.
    """

    folder: Path
    system: str
    song: str = ""

    def for_track(self, track):
        """Return the Separator for one track."""
        return replace(self, song=track.name)

    def __call__(self, waveform, sample_rate):
        path = Path(self.folder) / self.song / f"{self.system}.wav"
        voice, rate = audio.read_audio(path)
        voice = audio.to_channels(audio.resample(voice, rate, sample_rate), len(waveform))
        missing = waveform.shape[-1] - voice.shape[-1]
        if abs(missing) > sample_rate / 10:
            than = "shorter" if missing > 0 else "longer"
            raise UserError(f"{path} is {abs(missing) / sample_rate:.1f} s {than} than its mixture: get it again")
        voice = torch.nn.functional.pad(voice, (0, missing))
        return {"vocals": voice, "accompaniment": waveform - voice}
