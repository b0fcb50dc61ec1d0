"""Audio files as a torch Dataset of pictures: the level of each bin in decibels, scaled to about [0, 1]."""

import math

from torch.nn import functional as F
from torch.utils.data import Dataset

from helpers.data import audio
from helpers.data.tracks import FileStem
from helpers.models.deep_unet import levels_of
from helpers.runtime import BUILD
from helpers.stft import STFT

RATE, N_FFT = 44_100, 512
SILENT = 1e-6  # -120 dB: an excerpt below this loudness is silence


class AudioData(Dataset):
    """Names of audio files to spectrograms of one size, ready for a DataLoader: (1, bins, frames), float32.

    A file longer than `seconds` is cut, a shorter one is followed by silence. The chain is that of the class AudioData
    in Rajabi, "Variational Auto Encoder, Part 2" (2024), which leaves hop, length and normalisation open: resample to
    44.1 kHz, STFT of 512 samples, amplitude to decibels, normalise. Here these are decibels over white noise as loud as
    the excerpt (deep_unet.levels_of): -60 dB and below is 0, +20 dB is 1 and seldom passed. Errors as read_audio's.
    """

    def __init__(self, files, seconds=3.0, hop_length=256):
        self.files, self.seconds = list(files), seconds
        self.stft = STFT(N_FFT, hop_length)

    def __len__(self):
        return len(self.files)

    def __getitem__(self, index):
        waveform = self.waveform(index)  # (1, time)
        loudness = waveform.square().mean().sqrt().clamp_min(SILENT)
        return levels_of(self.stft(waveform) / (loudness * self.stft.noise_magnitude))  # (1, bins, frames)

    def waveform(self, index):
        """Return the mean of a file's channels at 44.1 kHz, (1, seconds * 44,100): what the item shows."""
        shape = audio.audio_shape(self.files[index])
        needed = min(shape.frames, math.ceil(self.seconds * shape.sample_rate))
        waveform, rate = audio.read_audio(self.files[index], 0, needed)
        waveform = audio.resample(audio.to_mono(waveform), rate, RATE)
        frames = round(self.seconds * RATE)
        return F.pad(waveform[:, :frames], (0, max(0, frames - waveform.shape[-1])))


def mixture_files(corpus, seconds=3.0, limit=None, folder=BUILD / "excerpts"):
    """Return the files that hold the mixtures of a corpus, the first `limit` of them.

    Mixtures that are no files of their own, as those of songs made by code, are cut into excerpts of so many seconds,
    which are written to `folder` as WAV.
    """
    files = []
    for track in corpus:
        if limit is not None and len(files) >= limit:
            break
        if len(track.mix) == 1 and isinstance(track.mix[0], FileStem):
            files.append(track.mix[0].file)
            continue
        frames = round(seconds * track.sample_rate)
        for number in range(max(1, track.frames // frames)):
            if limit is None or len(files) < limit:
                files.append(folder / f"{track.name} {number + 1:02d}.wav")
                excerpt = track.read_mixture(number * frames, frames)
                audio.write_audio(files[-1], excerpt, track.sample_rate, "FLOAT")
    return files[:limit]
