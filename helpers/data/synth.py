"""The embedded songs: a singing voice over a small band, made from numbers and a seed, for where no music is at hand.

Every song has its own key, metre, tempo, chords, melody, singer, instruments and room. The stems are vocals, drums,
bass and other; the mixture is their sum. Nothing is recorded, so nothing has to be downloaded or licensed; a figure
measured on these songs stands beside other figures measured on them, and beside no others.
"""

import functools
from dataclasses import dataclass, replace

import numpy as np
import torch

from helpers.data import audio
from helpers.data.band import Desk, draw_room, play_bass, play_drums, play_lead, play_pad, play_strings
from helpers.data.layouts import STEMS
from helpers.data.singing import CONSONANTS, VOWELS, Note, Singer, draw_singer, sing
from helpers.data.tracks import Track

SPLITS = {"train": (0, 80), "validation": (1_000_000, 20), "test": (2_000_000, 20)}  # first seed, songs if not said
ROOM = 1_000_000  # the most songs a split can have
MAJOR, MINOR = (0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10)
PROGRESSIONS = {  # steps of the scale, a bar each
    MAJOR: ((0, 4, 5, 3), (0, 5, 3, 4), (5, 3, 0, 4), (0, 3, 0, 4), (1, 4, 0, 0), (0, 2, 3, 4), (3, 4, 2, 5)),
    MINOR: ((0, 5, 2, 6), (0, 3, 6, 2), (0, 6, 5, 6), (0, 3, 4, 0), (0, 5, 3, 4), (0, 2, 6, 3)),
}


@dataclass
class Plan:
    """What a song's players agree on: seconds a beat, beats a bar, the scale as pitch classes, a chord a bar."""

    seconds: float
    beat: float
    beats: int
    scale: list
    chords: list  # three pitch classes each, root first
    intro: int  # bars before the voice
    singer: Singer

    @property
    def bar(self):
        """Seconds a bar."""
        return self.beat * self.beats

    def chord(self, time):
        """Return the chord at a time in seconds."""
        return self.chords[min(int(time / self.bar + 1e-6), len(self.chords) - 1)]

    def voicings(self, lowest):
        """Return each chord as three MIDI pitches within an octave, in close position."""
        return [sorted(lowest + (tone - lowest) % 12 for tone in chord) for chord in self.chords]


def draw_plan(seconds, rng):
    """Draw a song's frame."""
    beats = int(rng.choice((4, 4, 4, 4, 3, 6)))
    beat = 60 / (rng.uniform(140, 220) if beats == 6 else rng.uniform(70, 145))
    kind = MAJOR if rng.random() < 0.6 else MINOR
    key, bars = int(rng.integers(12)), int(np.ceil(seconds / (beat * beats)))
    scale = [(key + step) % 12 for step in kind]
    parts = rng.permutation(len(PROGRESSIONS[kind]))[:2]  # verse and chorus, eight bars in turn
    degrees = [PROGRESSIONS[kind][parts[bar // 8 % 2]][bar % 4] for bar in range(bars)]
    chords = [[scale[(degree + third) % 7] for third in (0, 2, 4)] for degree in degrees]
    longest = int(0.2 * seconds / (beat * beats))
    intro = int(rng.integers(0, longest + 1)) if rng.random() < 0.6 else 0
    return Plan(seconds, beat, beats, scale, chords, intro, draw_singer(rng))


def draw_rhythm(units, rng):
    """Return lengths in units that add up to `units`, the last one long."""
    final = min(int(rng.integers(2, 6)), units)
    short, lengths = rng.uniform(0.4, 0.8), []
    while sum(lengths) < units - final:
        length = int(rng.choice((1, 2, 3, 4), p=(short, 0.8 * (1 - short), 0.1 * (1 - short), 0.1 * (1 - short))))
        lengths.append(min(length, units - final - sum(lengths)))
    return [*lengths, final]


def draw_melody(plan, rng):
    """Return the notes to sing: phrases of one or two bars with pauses between, chord tones where they are long."""
    lowest = plan.singer.lowest
    ladder = [pitch for pitch in range(lowest, lowest + 17) if pitch % 12 in plan.scale]
    unit = plan.beat / 2 if plan.beat > 0.36 else plan.beat
    per_bar = round(plan.bar / unit)
    place, at = len(ladder) // 2, plan.intro * per_bar + int(rng.integers(0, 3))
    rhythm, notes = None, []
    while at * unit < plan.seconds:
        if rhythm is None or rng.random() < 0.5:  # else the last phrase's rhythm comes again
            bars = int(rng.choice((1, 1, 2))) if per_bar * unit > 1.6 else 2
            rhythm = draw_rhythm(max(bars * per_bar - int(rng.integers(0, 3)), 2), rng)
        aim, effort = int(rng.integers(2, len(ladder) - 2)), rng.uniform(0.75, 1.1)
        for index, length in enumerate(rhythm):
            place += int(rng.choice((-2, -1, -1, 0, 1, 1, 2))) + int(np.sign(aim - place)) * (rng.random() < 0.4)
            place, last = int(np.clip(place, 0, len(ladder) - 1)), index == len(rhythm) - 1
            if length > 1 or last:
                tones = [step for step, pitch in enumerate(ladder) if pitch % 12 in plan.chord(at * unit)]
                place = min(tones, key=lambda step: abs(step - place))
            spoken = index == 0 or rng.random() < 0.75  # else one vowel is carried over two notes
            vowel = str(rng.choice(list(VOWELS))) if spoken else notes[-1].vowel
            consonant = str(rng.choice(CONSONANTS)) if spoken else ""
            end = (at + length) * unit - (min(0.12, 0.3 * length * unit) if last else 0)
            accent = effort * rng.uniform(0.85, 1.15)
            notes.append(Note(at * unit, end, ladder[place], vowel, consonant, accent, index == 0, last))
            at += length
        at += int(rng.integers(1, 4)) + (per_bar if rng.random() < 0.25 else 0)
    notes = [note for note in notes if note.end <= plan.seconds]
    if notes:
        notes[-1].last = True
    return notes


def power(sound, where=slice(None)):
    """Return the mean square of a sound (2, samples) over some of its samples."""
    return np.mean(sound[:, where] ** 2) + 1e-12


def arrange(seed, seconds, sample_rate):
    """Return a song's stems, (2, samples) in float64 and not yet scaled, with its plan and its sung notes."""
    if not (seconds > 0 and 8000 <= sample_rate <= 192000):
        raise ValueError(f"a song needs a length above 0 s and 8 to 192 kHz, not {seconds} s at {sample_rate} Hz")
    # one generator a player: what one of them draws changes nothing for the others
    names = ("plan", "melody", "voice", "pad", "strings", "lead", "bass", "drums", "mix", "noise")
    rngs = dict(zip(names, np.random.default_rng(seed).spawn(len(names)), strict=True))
    mix, noise = rngs["mix"], rngs["noise"]
    plan = draw_plan(seconds, rngs["plan"])
    notes = draw_melody(plan, rngs["melody"])
    desks = {stem: Desk(seconds, sample_rate) for stem in STEMS}
    absent = str(mix.choice(("nobody", "drums", "bass"), p=(0.86, 0.07, 0.07)))
    players = mix.choice(["both", "strings", "pad"], p=(0.5, 0.25, 0.25))
    late = {stem: plan.bar * int(mix.integers(1, 3)) * (mix.random() < 0.2) for stem in ("drums", "bass")}

    desks["vocals"].add(sing(notes, plan.singer, seconds, sample_rate, rngs["voice"]), 0, 1, mix.uniform(-0.12, 0.12))
    for name, player in (("strings", play_strings), ("pad", play_pad)):
        if players in ("both", name):
            desk = Desk(seconds, sample_rate)
            player(plan, desk, rngs[name])
            desks["other"].sound += desk.sound * 10 ** (mix.uniform(-4, 4) / 20) / np.sqrt(power(desk.sound))
    if mix.random() < 0.5:
        desk = Desk(seconds, sample_rate)
        play_lead(plan, desk, rngs["lead"], notes)
        desks["other"].sound += desk.sound * 10 ** (mix.uniform(-5, 1) / 20) / np.sqrt(power(desk.sound))
    if absent != "bass":
        play_bass(plan, desks["bass"], rngs["bass"])
    if absent != "drums":
        play_drums(plan, desks["drums"], rngs["drums"], noise)
    for stem, start in late.items():
        if start < 0.3 * seconds:
            desks[stem].sound[:, : max(int((start - 0.01) * sample_rate), 0)] = 0

    room = draw_room(sample_rate, mix, noise)
    wet = {"vocals": mix.uniform(0.05, 0.35), "drums": mix.uniform(0.03, 0.2), "other": mix.uniform(0.05, 0.4)}
    stems = {stem: desk.in_room(room, wet[stem]) if stem in wet else desk.sound for stem, desk in desks.items()}
    levels = {"drums": mix.uniform(-3, 3), "bass": mix.uniform(-5, 1), "other": mix.uniform(-3, 2)}
    for stem, level in levels.items():
        stems[stem] = stems[stem] * (10 ** (level / 20) / np.sqrt(power(stems[stem]))) * (power(stems[stem]) > 1e-11)
    time, singing = np.arange(round(seconds * sample_rate)) / sample_rate, False
    for note in notes:
        singing = singing | ((time >= note.start) & (time < note.end))
    if notes:
        band = stems["drums"] + stems["bass"] + stems["other"]
        ratio = power(band, singing) / power(stems["vocals"], singing)
        stems["vocals"] = stems["vocals"] * np.sqrt(ratio) * 10 ** (mix.uniform(-3, 3) / 20)
    peak = mix.uniform(0.6, 0.95) / max(np.abs(sum(stems.values())).max(), 1e-9)
    return {stem: peak * sound for stem, sound in stems.items()}, plan, notes


def song(seed, seconds=20.0, sample_rate=44100, channels=2):
    """Make a song: a dictionary of float32 stems (channels, time): vocals, drums, bass and other.

    Their sum is the mixture, with a peak below 1. The voice lies within 3 dB of the band while it sings; it pauses, the
    band may play before it, and one song in seven has no drums or no bass (a stem of zeros). Another length is another
    song; another sample rate (8 to 192 kHz) is the same one. The same seed gives the same samples on a machine. One
    channel is the mean of the two.
    """
    if channels not in (1, 2):
        raise ValueError(f"a song has one channel or two, not {channels}")
    stems, _, _ = arrange(seed, seconds, sample_rate)
    if channels == 1:
        stems = {stem: sound.mean(axis=0, keepdims=True) for stem, sound in stems.items()}
    return {stem: torch.from_numpy(sound.astype(np.float32)) for stem, sound in stems.items()}


@functools.lru_cache(maxsize=2)
def kept_song(seed, seconds, sample_rate, channels):
    """Return `song(...)`, the last two of them kept: the four stems of a song are asked for one after the other."""
    return song(seed, seconds, sample_rate, channels)


@dataclass(frozen=True)
class SongStem:
    """One stem of an embedded song, made when it is read; it has the interface of `helpers.data.tracks.FileStem`."""

    seed: int
    name: str
    seconds: float
    sample_rate: int
    mono: bool = False

    @property
    def shape(self):
        """The audio.Shape of the waveform, without making it."""
        return audio.Shape(self.sample_rate, 1 if self.mono else 2, round(self.seconds * self.sample_rate))

    def read(self, start, frames):
        """Return the part (channels, frames) that begins at `start`."""
        stems = kept_song(self.seed, self.seconds, self.sample_rate, 1 if self.mono else 2)
        return stems[self.name][:, start : start + frames].clone()

    def at(self, sample_rate, mono):
        """Return the same stem made at another rate, or in mono; nothing is resampled."""
        return replace(self, sample_rate=sample_rate, mono=mono or self.mono)


def corpus(split, count=None, seconds=20.0, sample_rate=44100):
    """Return the songs of a split (train, validation or test) as a list of Tracks; no song is in two splits.

    A song is made when one of its stems is read, in about a second at 44.1 kHz and a quarter of that at 16 kHz.
    """
    if split not in SPLITS:
        raise ValueError(f"no split is called {split!r}: take one of {', '.join(SPLITS)}")
    first, usual = SPLITS[split]
    count = usual if count is None else count
    if not 0 < count <= ROOM:
        raise ValueError(f"a split has 1 to {ROOM} songs, not {count}")
    tracks = []
    for seed in range(first, first + count):
        name = f"embedded {split} {seed - first + 1:03d}"
        stems = {stem: (SongStem(seed, stem, seconds, sample_rate),) for stem in STEMS}
        tracks.append(Track(name, sample_rate, stems, split=split, song=name, tags={"seed": seed}))
    return tracks
