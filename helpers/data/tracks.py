"""Track and Corpus: songs with their sources, read from disk only when asked for, and only the part asked for."""

import functools
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from helpers.data import audio, decoding
from helpers.runtime import UserError


@dataclass(frozen=True)
class FileStem:
    """A file with a waveform, or one channel of it, or one audio stream of a container such as a .stem.mp4.

    `sample_rate` and `mono` say how it is wanted; the file itself may have any rate. Other kinds of stems have the same
    `sample_rate`, `shape`, `read`, `at` and `version`.
    """

    path: Path
    sample_rate: int
    channel: int | None = None
    stream: int | None = None
    mono: bool = False

    @functools.cached_property
    def file(self):
        """The audio file: `path` itself, or the stream unpacked from it."""
        return self.path if self.stream is None else decoding.unpack_stream(self.path, self.stream)

    @functools.cached_property
    def shape(self):
        """The audio.Shape as wanted, from the header alone."""
        own = audio.audio_shape(self.file)
        channels = 1 if self.mono or self.channel is not None else own.channels
        length = audio.resampled_length(own.frames, own.sample_rate, self.sample_rate)
        return audio.Shape(self.sample_rate, channels, length)

    def read(self, start, frames):
        """Return a waveform (channels, frames) of the part that begins at `start`; the part lies inside the stem."""
        path = audio.converted(self.file, self.sample_rate, self.mono and self.channel is None)
        waveform = audio.read_audio(path, start, frames)[0]
        if self.channel is None:
            return audio.to_mono(waveform) if self.mono else waveform
        if self.channel >= len(waveform):
            raise UserError(f"{self.path} has {len(waveform)} channel(s), not one for each source: get the file again")
        return waveform[self.channel : self.channel + 1]

    def at(self, sample_rate, mono):
        """Return the same stem at another rate, or down-mixed."""
        return replace(self, sample_rate=sample_rate, mono=mono or self.mono)

    def version(self):
        """Return a text that changes with the file (place, size, time) and with how it is read."""
        state = self.path.stat()
        return repr((self, self.path.resolve(), state.st_size, state.st_mtime_ns))


@dataclass(frozen=True, eq=False)
class Track:
    """One song: its name, sample rate, sources and mixture, all sources with the same channels and length."""

    name: str
    sample_rate: int
    stems: dict  # {source: its stems, which are added up}
    mix: tuple = ()  # the stems of the mixture; none if it is the sum of the sources
    split: str | None = None
    artist: str | None = None
    song: str | None = None  # what groups the clips of one song
    longest: float | None = None  # seconds that are taken of it, from its beginning; None: all

    @functools.cached_property
    def shape(self):
        """The audio.Shape of every waveform of this track, from the headers alone.

        Shorter stems are taken as padded with silence; UserError where one is more than a second shorter.
        """
        stems = (*self.all_stems, *self.mix)
        frames = max(stem.shape.frames for stem in stems)
        shortest = min(stems, key=lambda stem: stem.shape.frames)
        seconds = (frames - shortest.shape.frames) / self.sample_rate
        if seconds > 1:
            where = getattr(shortest, "path", self.name)
            raise UserError(f"{where} is {seconds:.1f} s shorter than the other stems of '{self.name}': get it again")
        if self.longest is not None:
            frames = min(frames, round(self.longest * self.sample_rate))
        channels = max(stem.shape.channels for stem in stems)
        if odd := next((stem for stem in stems if stem.shape.channels not in (1, channels)), None):
            where, has = getattr(odd, "path", self.name), odd.shape.channels
            raise UserError(f"{where} has {has} channels, other stems of '{self.name}' {channels}: mix it down first")
        return audio.Shape(self.sample_rate, channels, frames)

    frames = property(lambda self: self.shape.frames, doc="Length in samples, without reading them.")
    channels = property(lambda self: self.shape.channels, doc="Number of channels.")
    seconds = property(lambda self: self.shape.frames / self.sample_rate, doc="Length in seconds.")
    all_stems = property(lambda self: sum(self.stems.values(), ()), doc="The stems of all sources in one tuple.")
    mixture = property(lambda self: self.read_mixture(), doc="The waveform (channels, time) of the mixture.")

    @property
    def sources(self):
        """{source: waveform (channels, time)}, all of them read now, and not kept; source() reads one."""
        return {name: self.source(name) for name in self.stems}

    def source(self, name, start=0, frames=None):
        """Return the waveform (channels, frames) of a source from sample `start` on, with silence beyond its end."""
        return self._sum(self.stems[name], start, frames)

    def read_mixture(self, start=0, frames=None):
        """Return the waveform (channels, frames) of the mixture, from sample `start` on."""
        return self._sum(self.mix or self.all_stems, start, frames)

    def _sum(self, stems, start, frames):
        frames = self.frames - start if frames is None else frames
        if start < 0 or frames < 0:
            raise IndexError(f"no part of {frames} samples begins at {start} in '{self.name}'")
        total = torch.zeros(self.channels, frames)
        for stem in stems:
            inside = min(frames, min(stem.shape.frames, self.frames) - start)
            if inside > 0:
                total[:, :inside] += audio.to_channels(stem.read(start, inside), self.channels)
        return total

    def at(self, sample_rate=None, mono=False):
        """Return the same track at another sample rate (None: its own), down-mixed to one channel if `mono`."""
        rate = sample_rate or self.sample_rate
        stems = {name: tuple(stem.at(rate, mono) for stem in group) for name, group in self.stems.items()}
        return replace(self, sample_rate=rate, stems=stems, mix=tuple(stem.at(rate, mono) for stem in self.mix))

    def regroup(self, groups):
        """Return the same track with sources added up: groups is {new source: names of the old ones}."""
        stems = {new: tuple(stem for name in names for stem in self.stems[name]) for new, names in groups.items()}
        return replace(self, stems=stems, mix=self.mix or self.all_stems)


@dataclass(frozen=True, eq=False)
class Corpus:
    """One split of a corpus: its tracks, which all have the same sources (none where only mixtures are known)."""

    name: str  # what these tracks are, as a table should say it
    split: str
    tracks: tuple
    sources: tuple
    about: str  # how the split was made
    embedded: bool = False  # True where songs made by code stand in for recordings

    def __len__(self):
        return len(self.tracks)

    def __getitem__(self, index):
        return self.tracks[index]

    @property
    def seconds(self):
        """Length of all tracks together, in seconds, from their headers."""
        return sum(track.seconds for track in self.tracks)

    def first(self, tracks, seconds=None):
        """Return the same corpus with its first tracks only, and of each of them the first so many seconds."""
        return replace(self, tracks=tuple(replace(track, longest=seconds) for track in self.tracks[:tracks]))

    def at(self, sample_rate=None, mono=False):
        """Return the same corpus at another sample rate (None: each track's own), down-mixed if `mono`."""
        return replace(self, tracks=tuple(track.at(sample_rate, mono) for track in self.tracks))

    def regroup(self, groups):
        """Return the same corpus with sources added up: groups is {new source: names of the old ones}."""
        tracks = tuple(track.regroup(groups) for track in self.tracks)
        return replace(self, tracks=tracks, sources=tuple(groups))

    def vocals_and_accompaniment(self):
        """Return the same corpus with two sources: the vocals (UserError if none), and everything else added up."""
        if "vocals" not in self.sources:
            raise UserError(f"{self.name} has no source 'vocals', only {list(self.sources)}: take another corpus")
        rest = tuple(name for name in self.sources if name != "vocals")
        return self.regroup({"vocals": ("vocals",), "accompaniment": rest})
