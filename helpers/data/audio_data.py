"""Audio files as a torch Dataset of pictures: the level of each bin in decibels, scaled to [0, 1]."""

import math

from torch.nn import functional as F
from torch.utils.data import Dataset

from helpers.data import audio
from helpers.runtime import BUILD
from helpers.stft import STFT, to_decibels
from helpers.data.tracks import FileStem

SILENT = 1e-8  # a loudest magnitude below this is silence: no file of 16 or 24 bits holds so little


class AudioData(Dataset):
    """File names to spectrograms of one size, ready for a DataLoader: (1, bins, frames), float32 in [0, 1].

    Args:
        files: names of audio files of any format, sample rate and number of channels.
        seconds: length of each item; a longer file is cut after it, a shorter one is followed by silence.
        sample_rate: in Hz, to which every file is resampled.
        n_fft, hop_length: of the STFT, in samples.
        floor_db: level below the item's loudest bin that becomes 0; the loudest bin becomes 1. Silence is all 0.

    The chain is that of the class AudioData in Rajabi, "Variational Auto Encoder, Part 2" (2024), whose text leaves the
    hop, the length and the normalisation open: resample to 44.1 kHz, STFT of 512 samples, amplitude to decibels,
    normalise. An item depends on its file alone. Asking for one raises UserError, with the file's name, where the file
    is missing, unreadable, empty or holds NaN.
    """

    def __init__(self, files, seconds=3.0, sample_rate=44_100, n_fft=512, hop_length=128, floor_db=-80.0):
        self.files = list(files)
        self.seconds, self.sample_rate, self.floor_db = seconds, sample_rate, floor_db
        self.stft = STFT(n_fft, hop_length)

    def __len__(self):
        return len(self.files)

    def __getitem__(self, index):
        magnitudes = self.stft(self.waveform(index)).abs()  # (1, bins, frames)
        levels = to_decibels(magnitudes, self.floor_db, magnitudes.max().clamp_min(SILENT))  # floor_db to 0 dB
        return 1 - levels / self.floor_db

    def waveform(self, index):
        """Return the mean of a file's channels at the sample rate, (1, seconds * sample_rate): what the item shows."""
        shape = audio.audio_shape(self.files[index])
        needed = min(shape.frames, math.ceil(self.seconds * shape.sample_rate))
        waveform, rate = audio.read_audio(self.files[index], 0, needed)
        waveform = audio.resample(audio.to_mono(waveform), rate, self.sample_rate)
        frames = round(self.seconds * self.sample_rate)
        return F.pad(waveform[:, :frames], (0, max(0, frames - waveform.shape[-1])))


def mixture_files(corpus, seconds=3.0, limit=None, folder=BUILD / "excerpts"):
    """Return the files that hold the mixtures of a corpus, the first `limit` of them.

    Where the mixtures are no files of their own, as those of songs made by code, each is cut into excerpts of so many
    seconds, which are written to `folder` as WAV and may be deleted at any time. Raises UserError if that fails.
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
            files.append(folder / f"{track.name} {number + 1:02d}.wav")
            audio.write_audio(files[-1], track.read_mixture(number * frames, frames), track.sample_rate, "FLOAT")
    return files[:limit]
