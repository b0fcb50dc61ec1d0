"""Tracks played faster or slower, like a tape: a cheap way from two singers to many, and to estimates that err less."""

from dataclasses import dataclass, replace

from torch.nn import functional as F

from helpers.data import audio
from helpers.data.tracks import FileStem, MemoryStem

SEMITONES = (-3.0, -1.5, 0.0, 1.5, 3.0)


@dataclass(frozen=True, eq=False)
class FasterStem:
    """A stem at one sample rate, taken for one at another: pitch, formants and tempo change together."""

    stem: FileStem | MemoryStem
    sample_rate: int

    @property
    def shape(self):
        """The audio.Shape at the rate it is taken for."""
        return replace(self.stem.shape, sample_rate=self.sample_rate)

    def read(self, start, frames):
        """Return the part (channels, frames) that begins at `start`."""
        return self.stem.read(start, frames)

    def at(self, sample_rate, mono):
        """Return the same stem at another rate, or down-mixed."""
        rate = round(self.stem.sample_rate * sample_rate / self.sample_rate)
        return FasterStem(self.stem.at(rate, mono), sample_rate)


def transposed(track, semitones):
    """Return the Track played 2^(semitones / 12) times as fast; the sources stay together, to the sample."""
    heard = track.at(round(track.sample_rate * 2 ** (-semitones / 12)))

    def faster(stems):
        return tuple(FasterStem(stem, track.sample_rate) for stem in stems)

    stems = {source: faster(group) for source, group in heard.stems.items()}
    name = f"{track.name} {semitones:+g}"
    return replace(heard, name=name, sample_rate=track.sample_rate, stems=stems, mix=faster(heard.mix))


def at_speeds(corpus, semitones=SEMITONES):
    """Return the Corpus with each of its tracks at each speed: so many times as long, for training only."""
    tracks = tuple(transposed(track, shift) if shift else track for shift in semitones for track in corpus)
    return replace(corpus, tracks=tracks)


class EverySpeed:
    """A Separator that hears the mixture at several speeds, one after the other, and gives the mean of its estimates.

    A network that has learnt from all speeds errs in other places when all pitches are others; what it finds at every
    speed stays. It takes one separation for each speed. What a speed moves above half the sample rate is not heard in
    it: near there the mean is softer than the estimates.

    Args:
        separator: another Separator (see helpers.separation.networks).
        semitones: its speeds, as pitch: 12 is twice as fast.
        progress: called with the part that is done, in (0, 1], after each speed.
    """

    def __init__(self, separator, semitones=SEMITONES, progress=None):
        self.separator, self.semitones, self.progress = separator, tuple(semitones), progress
        self.sample_rate = getattr(separator, "sample_rate", 0)

    def __call__(self, waveform, sample_rate):
        """Return {source: waveform}, as long as the mixture (channels, time)."""
        total = {}
        for number, semitones in enumerate(self.semitones, start=1):
            for name, estimate in self._at(semitones, waveform, sample_rate).items():
                total[name] = total[name] + estimate if name in total else estimate
            if self.progress:
                self.progress(number / len(self.semitones))
        return {name: estimate / len(self.semitones) for name, estimate in total.items()}

    def _at(self, semitones, waveform, sample_rate):
        """Return the estimates at one speed, set back to the mixture's."""
        rate = round(sample_rate * 2 ** (-semitones / 12))  # fewer samples, taken for as many a second: faster
        faster = audio.resample(waveform, sample_rate, rate)
        found = {}
        for name, estimate in self.separator(faster, sample_rate).items():
            estimate = audio.resample(estimate, rate, sample_rate)
            found[name] = F.pad(estimate, (0, waveform.shape[-1] - estimate.shape[-1]))  # a sample more, or fewer
        return found
