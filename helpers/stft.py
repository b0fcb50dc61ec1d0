"""The short-time Fourier transform and its inverse, decibels, and spectrograms padded to what a U-Net can halve."""

import math

import torch
from scipy.signal import get_window
from torch import nn
from torch.nn import functional as F


class STFT(nn.Module):
    """Waveforms to complex spectrograms and back, on whatever device and of whatever precision they are.

    Args:
        n_fft: window and transform length in samples, even.
        hop_length: samples from one frame to the next, at most half a window.
        window: a name that `scipy.signal.get_window` knows, made periodic.

    Frame f is centred on sample `f * hop_length`, with zeros before the start and after the end. Raises ValueError for
    settings that cannot be inverted.
    """

    def __init__(self, n_fft=2048, hop_length=512, window="hann"):
        super().__init__()
        if n_fft < 2 or n_fft % 2 or not 1 <= hop_length <= n_fft // 2:
            raise ValueError(f"n_fft must be even and hop_length at most half of it, got {n_fft} and {hop_length}")
        self.n_fft, self.hop_length = n_fft, hop_length
        self.register_buffer("window", torch.from_numpy(get_window(window, n_fft)).float(), persistent=False)

    @property
    def bins(self):
        """Frequencies of a frame, from 0 Hz to half the sample rate."""
        return self.n_fft // 2 + 1

    @property
    def full_scale(self):
        """Magnitude of a sine of amplitude 1 on a bin's frequency: the reference that makes decibels `dBFS`."""
        return float(self.window.sum()) / 2

    def frames(self, length):
        """Frames of a waveform of `length` samples: one every hop from sample 0 on, `1 + length // hop_length`.

        One more where more than a quarter window would follow the last centre (it can with a hop of half a window): the
        end would lie under nothing but the window's edge, and the inverse would divide noise by almost zero there.
        """
        whole, rest = divmod(length, self.hop_length)
        return 1 + whole + (rest > self.n_fft // 4)

    def forward(self, waveform):
        """`(batch, channels, time)` -> complex `(batch, channels, bins, frames)`; any leading dimensions will do.

        Raises ValueError for a waveform without samples, or of integers.
        """
        if not waveform.shape[-1] or not waveform.is_floating_point():
            raise ValueError(f"a waveform must hold some float samples, got {tuple(waveform.shape)} {waveform.dtype}")
        reach = (self.frames(waveform.shape[-1]) - 1) * self.hop_length + self.n_fft // 2
        padded = F.pad(waveform.reshape(-1, waveform.shape[-1]), (self.n_fft // 2, reach - waveform.shape[-1]))
        window = self.window.to(waveform.dtype)
        spectrogram = torch.stft(padded, self.n_fft, self.hop_length, window=window, center=False, return_complex=True)
        return spectrogram.reshape(*waveform.shape[:-1], *spectrogram.shape[-2:])

    def inverse(self, spectrogram, length):
        """Complex `(batch, channels, bins, frames)` -> `(batch, channels, length)`, by weighted overlap-add.

        Raises ValueError where bins and frames are not those of a waveform of `length` samples: a spectrogram that was
        padded must be cropped first, or the result would be shifted or cut without a word.
        """
        expected = (self.bins, self.frames(length))
        if tuple(spectrogram.shape[-2:]) != expected:
            raise ValueError(f"{length} samples have (bins, frames) {expected}, got {tuple(spectrogram.shape[-2:])}")
        flat = spectrogram.reshape(-1, *expected)
        window = self.window.to(spectrogram.real.dtype)
        waveform = torch.istft(flat, self.n_fft, self.hop_length, window=window, center=True, length=length)
        return waveform.reshape(*spectrogram.shape[:-2], length)


def magnitude(spectrogram):
    """|X|, linear, of a complex spectrogram."""
    return spectrogram.abs()


def phase(spectrogram):
    """The angle of each value in radians, in (-π, π]."""
    return spectrogram.angle()


def with_phase(magnitude, phase):
    """The complex spectrogram of a magnitude and a phase of one shape: how a masked magnitude gets its mixture's."""
    return torch.polar(magnitude, phase)


def to_decibels(magnitude, floor_db=-80.0, reference=1.0):
    """20 log10(magnitude / reference), nothing below `floor_db`: silence is the floor, not minus infinity."""
    floor = reference * 10 ** (floor_db / 20)
    return 20 * torch.log10(magnitude.clamp_min(floor) / reference)


def from_decibels(decibels, reference=1.0):
    """The magnitude again: the exact inverse of `to_decibels` for all that was not below its floor."""
    return reference * torch.exp(decibels * (math.log(10) / 20))


def pad_to_multiple(spectrogram, multiples, value=0.0):
    """Append bins and frames of `value` up to multiples of `(bins, frames)`: 1025×173 becomes 1040×176 with (16, 16).

    Networks that halve their input k times want multiples of 2^k. In decibels, pad with the floor.
    """
    bins, frames = (-size % multiple for size, multiple in zip(spectrogram.shape[-2:], multiples, strict=True))
    return F.pad(spectrogram, (0, frames, 0, bins), value=value)


def crop_to(spectrogram, shape):
    """Keep the first `(bins, frames)` of `shape`: undoes `pad_to_multiple`. Raises ValueError for one too small."""
    bins, frames = shape
    if spectrogram.shape[-2] < bins or spectrogram.shape[-1] < frames:
        raise ValueError(f"cannot crop {tuple(spectrogram.shape[-2:])} to the larger {bins, frames}")
    return spectrogram[..., :bins, :frames]
