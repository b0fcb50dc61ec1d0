"""Tracks played faster or slower, like a tape: a cheap way from two singers to many."""

from dataclasses import dataclass, replace

from helpers.tracks import FileStem, MemoryStem

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
