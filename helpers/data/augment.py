"""New singers from old ones: a voice's resonances moved up or down while its pitch stays.

A shorter vocal tract has higher resonances (formants); the pitch is the vocal folds' and another matter. Speech
recognisers learn from few speakers with tracts stretched at random (Jaitly and Hinton, 2013). Tapes played faster
(helpers.data.speeds) move pitch, formants and tempo together; both in turn give voices of any pitch with any tract.
"""

import torch

from helpers.stft import STFT

QUEFRENCY = 1.75e-3  # seconds: slower ripples of a spectrum are formants, faster ones harmonics (up to 570 Hz apart)
RANGE = 10.0  # a bin grows or shrinks by this factor at most, 20 dB
FLOOR = 1e-4  # of the segment's largest magnitude: what lies lower does not bend the envelope


def log_envelopes(spectrogram, sample_rate):
    """Return the natural logarithms of the spectral envelopes, (..., bins, frames), of a complex spectrogram.

    The logarithm of each frame's spectrum, smoothed along frequency: its cepstrum up to QUEFRENCY, with a soft end.
    """
    magnitudes = spectrogram.abs()
    floor = FLOOR * magnitudes.amax(dim=(-2, -1), keepdim=True)
    cepstrum = torch.fft.irfft(magnitudes.clamp_min(floor.clamp_min(1e-12)).log(), dim=-2)  # (..., n_fft, frames)
    n_fft = cepstrum.shape[-2]
    quefrencies = torch.arange(n_fft, device=cepstrum.device)
    quefrencies = torch.minimum(quefrencies, n_fft - quefrencies) / (QUEFRENCY * sample_rate)
    window = 0.5 - 0.5 * torch.sin(2 * torch.pi * (quefrencies - 1).clamp(-0.25, 0.25))  # 1, half at QUEFRENCY, 0
    return torch.fft.rfft(cepstrum * window[:, None], dim=-2).real


def move_formants(voices, factors, sample_rate, stft=None):
    """Return the voices with all resonances at `factors` times their frequency, at the same pitch.

    voices: (batch, channels, time); factors: (batch,), one for each voice; stft: 64 ms at 16 kHz unless given.
    """
    stft = (stft or STFT(1024, 256)).to(voices.device)
    spectrogram = stft(voices)  # (batch, channels, bins, frames)
    before = log_envelopes(spectrogram, sample_rate)
    bins = torch.arange(stft.bins, device=voices.device)
    origins = (bins / factors.to(voices.device)[:, None]).clamp(max=stft.bins - 1)  # (batch, bins): where to look
    below = origins.long().clamp(max=stft.bins - 2)
    part = (origins - below)[:, None, :, None]
    lower, upper = (before.gather(2, index[:, None, :, None].expand_as(before)) for index in (below, below + 1))
    gains = (torch.lerp(lower, upper, part) - before).exp().clamp(1 / RANGE, RANGE)
    return stft.inverse(spectrogram * gains, voices.shape[-1])


def with_new_singers(batches, generator, sample_rate, spread=0.2, voice=0):
    """Yield the batches (mixture, sources) with every voice's formants moved by a random factor, and mixed anew.

    The factor lies between exp(-spread) and exp(spread), its logarithm evenly; voice: number of the source that sings.
    """
    for _, sources in batches:
        factors = (spread * (2 * torch.rand(len(sources), generator=generator) - 1)).exp()
        sources = sources.clone()
        sources[:, voice] = move_formants(sources[:, voice], factors, sample_rate)
        yield sources.sum(1), sources
