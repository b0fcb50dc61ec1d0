"""Oracles: what masking could reach if the sources were known. And the base of every Separator here that masks.

A Separator is a callable `(waveform, sample_rate) -> {source: waveform}` of float32 tensors (channels, time): every
source is as long as the input, to the sample, at its rate, with its channels, on its device. An oracle is made from the
true sources of one track and separates that track's mixture.
"""

import math

import torch

from helpers.runtime import UserError
from helpers.stft import STFT

SECONDS = 0.064  # of a window, as most of the literature on singing voices has it: 1024 samples at 16 kHz
LEAST_FRAMES = 8  # shorter input is padded with silence and cropped again: there must be neighbours to compare with


def checked(waveform):
    """Return a waveform as float32; ValueError for another shape than (channels, time), UserError for NaN, infinity."""
    if waveform.dim() != 2 or not waveform.numel():
        raise ValueError(f"a waveform is (channels, time), not empty, got {tuple(waveform.shape)}")
    if not waveform.isfinite().all():
        raise UserError("the waveform to separate holds NaN or infinity: export its file again")
    return waveform.detach().float()


def window_length(seconds, sample_rate):
    """Return the power of two nearest to so many seconds (by ratio), in samples; at least 16."""
    return max(16, 2 ** round(math.log2(seconds * sample_rate)))


def shares(magnitudes, power=2):
    """Return masks `m_j = a_j^power / Σ a_i^power` over the first dimension; equal ones where all are silent."""
    scaled = magnitudes / magnitudes.amax(0).clamp_min(torch.finfo(magnitudes.dtype).tiny)  # no power underflows
    weights = scaled**power
    total = weights.sum(0)
    return torch.where(total > 0, weights / total.clamp_min(1e-12), 1 / len(magnitudes))


class PaddedSTFT(STFT):
    """The STFT, with at least LEAST_FRAMES frames however short the waveform is."""

    def frames(self, length):
        return max(LEAST_FRAMES, super().frames(length))


class MaskSeparator:
    """Base of the Separators that put one mask per source on the mixture's spectrogram.

    A subclass has masks(spectrogram (channels, bins, frames), sample_rate) -> (sources, channels, bins, frames), which
    add up to one. names: the sources'. n_fft: window length in samples; None: the power of two nearest to 64 ms.
    hop_length: None: a quarter of the window, or a half for the oracles.
    """

    hops_per_window = 4  # where no hop_length is given

    def __init__(self, names, n_fft=None, hop_length=None):
        self.names, self.n_fft, self.hop_length = tuple(names), n_fft, hop_length

    @torch.no_grad()
    def __call__(self, waveform, sample_rate):
        waveform = checked(waveform)
        stft = self.stft(sample_rate)
        spectrogram = stft(waveform)  # (channels, bins, frames)
        masks = self.masks(spectrogram, sample_rate)  # (sources, channels, bins, frames)
        estimates = [stft.inverse(mask * spectrogram, length=waveform.shape[-1]) for mask in masks]
        return dict(zip(self.names, estimates, strict=True))  # each (channels, time)

    def stft(self, sample_rate):
        """Return the STFT for a sample rate."""
        n_fft = self.n_fft or window_length(SECONDS, sample_rate)
        return PaddedSTFT(n_fft, self.hop_length or n_fft // self.hops_per_window)


class Oracle(MaskSeparator):
    """Base of the oracles; a subclass has `share`, from magnitudes (sources, channels, bins, frames) to masks.

    sources: {name: waveform (channels, time)}, the true sources of the mixture that will be given. n_fft, hop_length:
    as MaskSeparator's; the published figures stand for 1024 and 512 samples at 16 kHz.
    """

    hops_per_window = 2

    def __init__(self, sources, n_fft=None, hop_length=None):
        super().__init__(sources, n_fft, hop_length)
        self.truth = torch.stack([checked(sources[name]) for name in self.names])  # (sources, channels, time)

    def masks(self, spectrogram, sample_rate):
        return self.share(self.true_magnitudes(spectrogram.device, sample_rate))

    def true_magnitudes(self, device, sample_rate):
        """Return the magnitudes of the true sources, `(sources, channels, bins, frames)`."""
        return self.stft(sample_rate)(self.truth.to(device)).abs()


class IdealBinaryMask(Oracle):
    """IBM: every bin goes whole to the source that is loudest there; to the first of equals."""

    def share(self, magnitudes):
        loudest = magnitudes.argmax(0)
        return torch.nn.functional.one_hot(loudest, len(magnitudes)).movedim(-1, 0).float()


class IdealRatioMask(Oracle):
    """IRM: every bin is shared out in proportion to the sources' magnitudes to a power: 1, magnitudes; 2, energies."""

    def __init__(self, sources, power=1, n_fft=None, hop_length=None):
        super().__init__(sources, n_fft, hop_length)
        self.power = power

    def share(self, magnitudes):
        return shares(magnitudes, self.power)


class IdealWienerMask(IdealRatioMask):
    """Wiener (MUSDB18's tables call it IRM2): shared out by energies, the least squares if phases are random."""

    def __init__(self, sources, n_fft=None, hop_length=None):
        super().__init__(sources, 2, n_fft, hop_length)
