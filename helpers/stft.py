"""The short-time Fourier transform and its inverse, decibels, and spectrograms padded to what a U-Net can halve."""

import functools
import math

import numpy as np
import torch
from scipy.signal import get_window
from torch import nn
from torch.nn import functional as F

from helpers.runtime import in_float32


@functools.cache
def window_on(device, dtype, n_fft):
    """Return a periodic Hann window as a tensor on that device; it is copied there once, not at each call."""
    with torch.inference_mode(False):  # or a window first needed there could not be used in training
        return torch.as_tensor(torch.from_numpy(get_window("hann", n_fft)).to(dtype), device=device)


class STFT(nn.Module):
    """Waveforms to complex spectrograms and back, on the device and in the precision of what it is given.

    n_fft: length of window (Hann) and transform in samples, even. hop_length: samples from one frame to the next, at
    most half a window.

    Frame f is centred on sample `f * hop_length`, with zeros before the start and after the end. Under mixed precision
    both directions compute in float32. Raises ValueError for settings that cannot be inverted.
    """

    def __init__(self, n_fft=2048, hop_length=512):
        super().__init__()
        if n_fft < 2 or n_fft % 2 or not 1 <= hop_length <= n_fft // 2:
            raise ValueError(f"n_fft must be even and hop_length at most half of it, got {n_fft} and {hop_length}")
        self.n_fft, self.hop_length = n_fft, hop_length
        values = get_window("hann", n_fft)
        self.bins = n_fft // 2 + 1  # frequencies from 0 Hz to half the sample rate
        self.margin = math.ceil(n_fft / 2 / hop_length)  # frames at an end whose windows reach beyond the waveform
        self.full_scale = float(values.sum()) / 2  # magnitude of a sine of amplitude 1 on a bin: reference of dBFS
        self.noise_magnitude = float(np.sqrt(np.square(values).sum()))  # of white noise with an RMS of 1, in every bin

    def window_like(self, tensor):
        """Return the window (n_fft,) on the device of a real or complex tensor, and as precise as it is."""
        dtype = torch.float64 if tensor.dtype in (torch.float64, torch.complex128) else torch.float32
        return window_on(tensor.device, dtype, self.n_fft)

    def frames(self, length):
        """Frames of a waveform of `length` samples: one every hop from sample 0 on, `1 + length // hop_length`.

        One more where more than a quarter window would follow the last centre (it can with a hop of half a window): the
        end would lie under nothing but the window's edge, and the inverse would divide noise by almost zero there.
        """
        whole, rest = divmod(length, self.hop_length)
        return 1 + whole + (rest > self.n_fft // 4)

    @in_float32
    def forward(self, waveform):
        """`(batch, channels, time)` -> complex `(batch, channels, bins, frames)`; any leading dimensions will do.

        Raises ValueError for a waveform without samples, or of integers.
        """
        length = waveform.shape[-1]
        if not length or not waveform.is_floating_point():
            raise ValueError(f"a waveform must hold some float samples, got {tuple(waveform.shape)} {waveform.dtype}")
        end = (self.frames(length) - 1) * self.hop_length + self.n_fft // 2  # of the last window
        padded = F.pad(waveform.reshape(-1, length), (self.n_fft // 2, end - length))
        window = self.window_like(waveform)
        spectrogram = torch.stft(padded, self.n_fft, self.hop_length, window=window, center=False, return_complex=True)
        return spectrogram.reshape(*waveform.shape[:-1], *spectrogram.shape[-2:])  # (..., bins, frames)

    @in_float32
    def inverse(self, spectrogram, length):
        """Complex `(batch, channels, bins, frames)` -> `(batch, channels, length)`, by weighted overlap-add.

        As `torch.istft`, which reads a value back from the GPU at each call, and so makes it wait.
        Raises ValueError where bins and frames are not those of `length` samples: a padded one must be cropped first.
        """
        expected = (self.bins, self.frames(length))
        if tuple(spectrogram.shape[-2:]) != expected:
            raise ValueError(f"{length} samples have (bins, frames) {expected}, got {tuple(spectrogram.shape[-2:])}")
        window = self.window_like(spectrogram)
        spectra = spectrogram.reshape(-1, *expected).transpose(1, 2)  # (batch · channels, frames, bins)
        frames = torch.fft.irfft(spectra, n=self.n_fft) * window  # (batch · channels, frames, n_fft)
        weights = window.square().expand(1, *frames.shape[1:])  # each frame was multiplied by the window twice
        inside = slice(self.n_fft // 2, self.n_fft // 2 + length)  # from the centre of the first frame on
        waveform = overlap_add(frames, self.hop_length)[:, inside] / overlap_add(weights, self.hop_length)[:, inside]
        return waveform.reshape(*spectrogram.shape[:-2], length)


def overlap_add(frames, hop_length):
    """Sum `(batch, frames, n_fft)`, each frame a hop after the one before, to `(batch, time)`."""
    count, n_fft = frames.shape[1:]
    size, kernel, stride = (1, (count - 1) * hop_length + n_fft), (1, n_fft), (1, hop_length)  # images of one row
    return F.fold(frames.transpose(1, 2), size, kernel, stride=stride).flatten(1)


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


def pad_to_multiple(spectrogram, multiples):
    """Append bins and frames of zeros up to multiples of `(bins, frames)`: 1025×173 becomes 1040×176 with (16, 16)."""
    bins, frames = (-size % multiple for size, multiple in zip(spectrogram.shape[-2:], multiples, strict=True))
    return F.pad(spectrogram, (0, frames, 0, bins))


def crop_to(spectrogram, shape):
    """Keep the first `(bins, frames)` of `shape`: undoes `pad_to_multiple`."""
    bins, frames = shape
    return spectrogram[..., :bins, :frames]
