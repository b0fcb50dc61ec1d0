"""More singers from few: tracks played faster or slower, voices with other vocal tracts, random equalisers.

Tapes played faster move pitch, resonances (formants) and tempo together. A shorter vocal tract has higher formants at
the same pitch: speech recognisers learn from few speakers with tracts stretched at random (Jaitly and Hinton, 2013).
"""

from dataclasses import dataclass, replace

import torch

from helpers.stft import STFT

SEMITONES = (-3.0, -1.5, 0.0, 1.5, 3.0)
QUEFRENCY = 1.75e-3  # seconds: slower ripples of a spectrum are formants, faster ones harmonics (up to 570 Hz apart)
RANGE = 10.0  # a bin grows or shrinks by this factor at most, 20 dB
VOICE_STFT = STFT(1024, 256)  # in which voices are changed: 64 ms at 16 kHz
KNOTS, KNEE = 7, 250.0  # of an equaliser: points along frequency, evenly spaced on an axis logarithmic above so many Hz
FLOOR = 1e-4  # of the segment's largest magnitude: what lies lower does not bend the envelope


@dataclass(frozen=True, eq=False)
class FasterStem:
    """A stem at one sample rate, taken for one at another: pitch, formants and tempo change together.

    It has the interface of tracks.FileStem.
    """

    stem: object
    sample_rate: int

    @property
    def shape(self):
        return replace(self.stem.shape, sample_rate=self.sample_rate)

    def read(self, start, frames):
        return self.stem.read(start, frames)

    def at(self, sample_rate, mono):
        rate = round(self.stem.sample_rate * sample_rate / self.sample_rate)
        return FasterStem(self.stem.at(rate, mono), sample_rate)

    def version(self):
        return repr((self.stem.version(), self.sample_rate))


def transposed(track, semitones):
    """Return the Track played 2^(semitones / 12) times as fast; the sources stay together, to the sample."""
    slower = track.at(round(track.sample_rate * 2 ** (-semitones / 12)))  # fewer samples, taken for as many a second

    def faster(stems):
        return tuple(FasterStem(stem, track.sample_rate) for stem in stems)

    stems, mix = {source: faster(group) for source, group in slower.stems.items()}, faster(slower.mix)
    return replace(slower, name=f"{track.name} {semitones:+g}", sample_rate=track.sample_rate, stems=stems, mix=mix)


def at_speeds(corpus, semitones=SEMITONES):
    """Return the Corpus with each of its tracks at each speed: so many times as long, for training only."""
    tracks = tuple(transposed(track, shift) if shift else track for shift in semitones for track in corpus)
    return replace(corpus, tracks=tracks)


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


def move_formants(voices, factors, sample_rate):
    """Return the voices with all resonances at `factors` times their frequency, at the same pitch.

    voices: (batch, channels, time); factors: (batch,), one for each voice.
    """
    stft = VOICE_STFT
    spectrogram = stft(voices)  # (batch, channels, bins, frames)
    before = log_envelopes(spectrogram, sample_rate)
    bins = torch.arange(stft.bins, device=voices.device)
    factors = factors.to(voices.device, non_blocking=True)[:, None]
    origins = (bins / factors).clamp(max=stft.bins - 1)  # (batch, bins): where in `before` to look
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


def equalised(batches, generator, sample_rate, decibels=4.0):
    """Yield the batches (mixture, sources) with every source through a random equaliser of its own, and mixed anew.

    Its gains, between -decibels and decibels, are drawn at KNOTS frequencies and joined by straight lines.
    """
    stft = VOICE_STFT
    axis = torch.log1p(torch.arange(stft.bins) * (sample_rate / stft.n_fft / KNEE))
    places = axis / axis[-1] * (KNOTS - 1)  # (bins,), of each bin among the knots
    below = places.long().clamp(max=KNOTS - 2)
    for _, sources in batches:  # sources: (batch, sources, channels, time)
        knots = decibels * (2 * torch.rand(*sources.shape[:2], 1, KNOTS, generator=generator) - 1)
        gains = 10 ** (torch.lerp(knots[..., below], knots[..., below + 1], places - below) / 20)
        gains = gains.to(sources.device, non_blocking=True)[..., None]  # (batch, sources, 1, bins, 1)
        sources = stft.inverse(stft(sources) * gains, sources.shape[-1])
        yield sources.sum(1), sources
