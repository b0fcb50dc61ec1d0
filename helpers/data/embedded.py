"""Data made by code, for where there are neither files nor a network: songs with four stems, and drawn garments.

Everything follows from a seed. Figures measured on these data say that the code works; they are not comparable with
figures on recordings or photographs, and every notebook says so.
"""

import functools
import random
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter
from scipy.signal import butter, lfilter, sosfilt

from helpers.data import audio
from helpers.data.layouts import STEMS
from helpers.data.tracks import Track

# ---- songs: what is played ---------------------------------------------------------------------------------------

SONGS = {"train": (0, 80), "validation": (1_000_000, 20), "test": (2_000_000, 20)}  # first seed, number of songs
SECONDS, RATE = 20.0, 44_100  # length and sample rate of a song
SCALES = ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10))  # major and minor, in semitones above the key
PROGRESSIONS = ((0, 4, 5, 3), (0, 5, 3, 4), (5, 3, 0, 4), (0, 2, 3, 4), (0, 5, 2, 6))  # chords: a degree for each bar
# Three formants in Hz, about the averages of Peterson and Barney (1952); WIDTHS are of these and of two fixed ones.
VOWELS = {"a": (730, 1090, 2440), "e": (530, 1840, 2480), "i": (270, 2290, 3010), "u": (300, 870, 2240)}
WIDTHS = (80, 100, 130, 200, 300)
HIGHEST = 0.45  # the highest harmonic, relative to the sample rate


@dataclass
class Plan:
    """What the players of a song agree on: seconds, seconds per beat (four make a bar), key, scale, chords, singer."""

    seconds: float
    beat: float
    key: int  # semitones above C
    scale: tuple
    chords: tuple
    lowest: int  # the degree of the scale where the voice's ten notes begin
    tract: float  # the voice's formants relative to a man's
    vibrato: tuple  # rate in Hz, depth in semitones

    def pitch(self, degree):
        """Return the MIDI pitch of a degree of the scale; degree 0 is the key note below middle C."""
        return 48 + self.key + self.scale[degree % 7] + 12 * (degree // 7)

    def chord(self, beat):
        """Return the three degrees of the chord at a beat, root first."""
        return [self.chords[int(beat / 4 + 1e-6) % 4] + third for third in (0, 2, 4)]


@dataclass
class Note:
    """One sung syllable: start and length in seconds, a MIDI pitch, a vowel, and whether an s comes before it."""

    start: float
    seconds: float
    pitch: float
    vowel: str = "a"
    hiss: bool = False


def draw_plan(seconds, rng):
    """Draw the Plan of a song; half of the voices are high."""
    high = rng.random() < 0.5
    return Plan(
        seconds=seconds,
        beat=60 / rng.uniform(75, 140),
        key=int(rng.integers(-6, 6)),
        scale=SCALES[rng.integers(len(SCALES))],
        chords=PROGRESSIONS[rng.integers(len(PROGRESSIONS))],
        lowest=int(rng.integers(6, 9) if high else rng.integers(-1, 2)),
        tract=rng.uniform(1.1, 1.2) if high else rng.uniform(0.95, 1.05),
        vibrato=(rng.uniform(4.9, 6.3), rng.uniform(0.2, 0.8)),
    )


def draw_melody(plan, rng):
    """Return the Notes of a song: phrases of about two bars, rests between them; long notes are of the chord."""
    at, step, notes = rng.integers(0, 5), 5, []  # in halves of a beat
    while True:
        for length in (*rng.choice((1, 1, 2, 2, 3), rng.integers(4, 9)), 4):
            step = int(np.clip(step + rng.integers(-2, 3), 0, 9))
            degree, root = plan.lowest + step, plan.chord(at / 2)[0]
            if length > 1:
                degree -= next(down for down in (0, 1, 2) if (degree - down - root) % 7 in (0, 2, 4))
            note = Note(at * plan.beat / 2, (length - 0.1) * plan.beat / 2, plan.pitch(degree))
            note.vowel, note.hiss = str(rng.choice(list(VOWELS))), rng.random() < 0.3
            if note.start + note.seconds > plan.seconds:
                return notes
            notes.append(note)
            at += length
        at += rng.integers(2, 9)


# ---- songs: how they sound ---------------------------------------------------------------------------------------


def seconds_of(length, rate):
    """Return the time of each sample of a sound that is `length` seconds long."""
    return np.arange(int(length * rate)) / rate


def pulses(pitch, rate):
    """Return pulses (samples,) at MIDI pitches (samples,): all harmonics below HIGHEST, each with amplitude 1.

    The sum of N cosines has a closed form, Dirichlet's kernel (sin((2N + 1) x / 2) / sin(x / 2) - 1) / 2. So there is
    no aliasing, and a note takes the same time however many harmonics it has.
    """
    hertz = 440 * 2 ** ((pitch - 69) / 12)
    harmonics = max(int(HIGHEST * rate / hertz.max()), 1)
    half = np.clip(np.pi * (np.cumsum(hertz) / rate % 1), 1e-6, np.pi - 1e-6)  # not 0, where the kernel is 0 / 0
    return (np.sin((2 * harmonics + 1) * half) / np.sin(half) - 1) / 2


def low_pass(sound, hertz, rate):
    """Return `sound` with all above `hertz` falling by 6 dB per octave."""
    pole = np.exp(-2 * np.pi * hertz / rate)
    return lfilter([1 - pole], [1, -pole], sound)


def tone(pitch, time, brightness, rate):
    """Return a saw-like tone at one MIDI pitch; above `brightness` Hz it falls by 12 dB per octave."""
    return low_pass(low_pass(pulses(np.full(len(time), pitch), rate), 80, rate), brightness, rate)


def formant(sound, hertz, width, rate):
    """Return `sound` with a resonance at `hertz`, `width` Hz wide (Klatt's digital resonator, 1980)."""
    radius = np.exp(-np.pi * width / rate)
    feedback = 2 * radius * np.cos(2 * np.pi * hertz / rate)
    return lfilter([1 - feedback + radius**2], [1, -feedback, radius**2], sound)


def noise_band(count, low, high, rate, rng):
    """Return `count` samples of noise of level 1 between two frequencies in Hz."""
    high = min(high, HIGHEST * rate)
    noise = sosfilt(butter(2, (min(low, 0.7 * high), high), "bandpass", fs=rate, output="sos"), rng.normal(size=count))
    return noise / noise.std()


def envelope(time, attack, release, decay=0.0):
    """Return the loudness of a note: a rise, a fall by a factor e every 1 / `decay` seconds, and the end."""
    return np.minimum(1, time / attack) * np.minimum(1, (time[-1] - time) / release) * np.exp(-decay * time)


def add(stem, sound, start, rate, pan=0.0):
    """Add a mono sound to a stem (2, samples) from `start` seconds on; `pan` is -1 (left) to 1 (right)."""
    first = max(int(start * rate), 0)
    sound = sound[: max(stem.shape[1] - first, 0)]
    stem[:, first : first + len(sound)] += np.sqrt([[1 - pan], [1 + pan]]) * sound


def sing(stem, plan, notes, rate, rng):
    """Add a voice to a stem: pulses and a little noise through the formants of each note's vowel, and hisses."""
    speed, depth = plan.vibrato
    for note in notes:
        time = seconds_of(note.seconds, rate)
        vibrato = depth * np.clip((time - 0.15) / 0.3, 0, 1) * np.sin(2 * np.pi * speed * time)
        curve = note.pitch + vibrato - np.exp(-time / 0.03)  # a note begins a semitone too low
        sound = low_pass(pulses(curve, rate), 150, rate) + 0.01 * rng.normal(size=len(time))
        for hertz, width in zip((*VOWELS[note.vowel], 3400, 4500), WIDTHS, strict=True):
            if plan.tract * hertz < HIGHEST * rate:
                sound = formant(sound, plan.tract * hertz, width, rate)
        add(stem, sound / sound.std() * envelope(time, 0.04, 0.06, decay=0.3), note.start, rate)
        if note.hiss:
            count = int(0.1 * rate)
            add(stem, 0.3 * noise_band(count, 4500, 10_000, rate, rng) * np.hanning(count), note.start - 0.07, rate)


def play_chords(stem, plan, rate, rng):
    """Add the chords to a stem: three tones spread from left to right, held for a bar or struck twice in it."""
    struck, brightness, lowest = rng.random() < 0.5, rng.uniform(800, 3000), rng.integers(52, 58)
    beats = 2 if struck else 4
    time = seconds_of(beats * plan.beat, rate)
    shape = envelope(time, 0.005, 0.05, decay=rng.uniform(1, 3)) if struck else envelope(time, 0.1, 0.1)
    sound = functools.cache(lambda pitch: tone(pitch + rng.uniform(-0.05, 0.05), time, brightness, rate) * shape)
    for beat in range(0, int(plan.seconds / plan.beat) + 1, beats):
        for degree, pan in zip(plan.chord(beat), (-0.6, 0.1, 0.6), strict=True):
            add(stem, sound(lowest + (plan.pitch(degree) - lowest) % 12), beat * plan.beat, rate, pan)


def play_bass(stem, plan, rate, rng):
    """Add the bass to a stem: the root of each chord, two to eight times per bar."""
    beats, brightness, decay = rng.choice((0.5, 1, 2)), rng.uniform(150, 400), rng.uniform(1, 4)
    time = seconds_of(0.95 * beats * plan.beat, rate)
    sound = functools.cache(lambda pitch: tone(pitch, time, brightness, rate) * envelope(time, 0.008, 0.03, decay))
    for beat in np.arange(0, plan.seconds / plan.beat, beats):
        add(stem, sound(28 + (plan.pitch(plan.chord(beat)[0]) - 28) % 12), beat * plan.beat, rate)


def play_drums(stem, plan, rate, rng, noise):
    """Add the drums to a stem: bass drum, snare and hi-hat; `noise` is the generator of their noise."""
    time = seconds_of(0.3, rate)
    low, body, ring = rng.uniform(45, 60), rng.uniform(160, 220), rng.uniform(40, 80)
    kick = np.sin(2 * np.pi * (low * time - 2.5 * np.exp(-time / 0.03))) * np.exp(-12 * time)
    snare = 0.5 * np.sin(2 * np.pi * body * time) * np.exp(-25 * time)
    snare += 0.4 * noise_band(len(time), 1000, 9000, rate, noise) * np.exp(-18 * time)
    hat = 0.25 * noise_band(len(time), 7000, 16_000, rate, noise) * np.exp(-ring * time)
    extra = rng.integers(1, 8)  # where in the bar, in halves of a beat, the bass drum plays once more
    for half_beat in range(int(2 * plan.seconds / plan.beat)):
        start, place = half_beat * plan.beat / 2, half_beat % 8
        if place in (0, 4, extra):
            add(stem, kick, start, rate)
        if place in (2, 6):
            add(stem, snare, start, rate, pan=0.1)
        add(stem, rng.uniform(0.6, 1) * hat, start, rate, pan=-0.4)


@functools.lru_cache(maxsize=2)  # the four stems of a song are asked for one after the other
def song(seed, seconds=SECONDS, rate=RATE):
    """Return the stems of a song, {"vocals", "drums", "bass", "other": float32 (2, samples)}; their sum is the mixture.

    The same seed gives the same samples; another sample rate gives the same song with other noise. The mixture's peak
    lies below 1, and the voice is about as loud as the band.
    """
    # One generator per player: what one of them draws changes nothing for the others.
    plan_rng, melody, voice, drums, bass, chords, mix, noise = np.random.default_rng(seed).spawn(8)
    plan = draw_plan(seconds, plan_rng)
    stems = {name: np.zeros((2, round(seconds * rate))) for name in STEMS}
    sing(stems["vocals"], plan, draw_melody(plan, melody), rate, voice)
    play_drums(stems["drums"], plan, rate, drums, noise)
    play_bass(stems["bass"], plan, rate, bass)
    play_chords(stems["other"], plan, rate, chords)
    for name, (low, high) in {"vocals": (2, 6), "drums": (-3, 3), "bass": (-4, 1), "other": (-3, 2)}.items():
        stems[name] *= 10 ** (mix.uniform(low, high) / 20) / max(stems[name].std(), 1e-9)  # levels in dB
    peak = mix.uniform(0.6, 0.95) / np.abs(sum(stems.values())).max()
    return {name: torch.from_numpy((peak * stem).astype(np.float32)) for name, stem in stems.items()}


@dataclass(frozen=True)
class SongStem:
    """One stem of an embedded song, made when it is read; it has the interface of helpers.data.tracks.FileStem."""

    seed: int
    name: str
    sample_rate: int = RATE
    mono: bool = False

    @property
    def shape(self):
        """The audio.Shape of the waveform, without making it."""
        return audio.Shape(self.sample_rate, 1 if self.mono else 2, round(SECONDS * self.sample_rate))

    def read(self, start, frames):
        """Return the part (channels, frames) that begins at sample `start`."""
        part = song(self.seed, SECONDS, self.sample_rate)[self.name][:, start : start + frames]
        return audio.to_mono(part) if self.mono else part.clone()

    def at(self, sample_rate, mono):
        """Return the same stem made at another sample rate, or in mono; nothing is resampled."""
        return replace(self, sample_rate=sample_rate, mono=mono or self.mono)

    def version(self):
        """Return a text that says which song this is and how it is read."""
        return repr(self)


def songs(split):
    """Return the embedded songs of a split ('train', 'validation' or 'test'), Tracks of 20 s at 44.1 kHz."""
    first, count = SONGS[split]
    names = {seed: f"embedded {split} {seed - first + 1:03d}" for seed in range(first, first + count)}
    stems = {seed: {stem: (SongStem(seed, stem),) for stem in STEMS} for seed in names}
    return [Track(name, RATE, stems[seed], split=split, song=name) for seed, name in names.items()]


# ---- garments ----------------------------------------------------------------------------------------------------
# Each part of a drawing is (shade relative to the cloth, points on a grid of 28 by 28 pixels). Of clothes the points
# are those of the left half. Two points are a line, a detail that some garments have: a seam, a button row, a lace.

SHORT_SLEEVES = (0.85, [(8.5, 2.5), (4, 6), (2.5, 10.5), (7, 12), (9, 9)])
LONG_SLEEVES = (0.85, [(8.5, 2.5), (5, 5), (1.5, 22), (5, 23), (8.5, 10)])
TORSO = (1, [(14, 3), (11, 1.5), (8, 3), (7, 14), (7, 26), (14, 26)])
LONG_TORSO = (1, [(14, 4), (11, 1), (8, 2.5), (7, 14), (6.5, 27), (14, 27)])
BUTTONS, COLLAR, CHEST = (0.4, [(14, 4), (14, 26)]), (1.3, [(11, 1), (10, 4), (14, 6)]), (0.6, [(7, 12), (14, 12)])
SOLE = (0.6, [(0.7, 18), (27.3, 18), (27, 21), (1.5, 21)])
LACES, STRIPE = (0.5, [(9, 12), (12, 15)]), (0.5, [(16, 11), (18, 17)])
FLAP, BAG = (0.6, [(3, 16), (25, 16)]), (1, [(3, 11), (25, 11), (26, 25), (2, 25)])
CLOTHES = (0, 1, 2, 3, 4, 6)  # labels; all others are shoes and bags
DRAWINGS = (  # for each label some variants, each a list of parts
    ([SHORT_SLEEVES, TORSO, CHEST], [(1, [(14, 7), (11, 1), (9, 1), (8, 9), (7, 26), (14, 26)]), CHEST]),  # T-shirt
    ([(1, [(9, 1), (14, 1), (14, 8), (12.5, 27), (9, 27), (8.5, 9)]), (0.6, [(11, 9), (11, 26)])],),  # trousers
    ([LONG_SLEEVES, TORSO, CHEST, (0.7, [(7, 24), (14, 24)])],),  # pullover
    (
        [(1, [(14, 4), (11, 1), (10, 1), (10, 10), (6.5, 27), (14, 27)]), (0.6, [(10, 11), (14, 11)])],  # dress
        [(0.85, [(11, 1), (7, 4), (6.5, 9), (10, 8)]), (1, [(14, 4), (11, 1), (10, 11), (7, 27), (14, 27)])],
    ),
    ([LONG_SLEEVES, LONG_TORSO, BUTTONS, COLLAR, (0.6, [(8, 19), (12, 19)])],),  # coat
    (
        [(0.8, [(1, 20), (27, 19), (27, 21), (1, 22)]), (1, [(3, 20), (6, 16), (8, 16), (10, 20)]),  # flat sandal
         (1, [(12, 20), (17, 15), (19, 15), (17, 20)]), (1, [(19, 19), (26, 12)])],
        [(0.8, [(1, 23), (9, 23), (20, 14), (27, 12), (26, 25), (24, 25), (24, 16), (10, 25), (1, 25)]),  # on a heel
         (1, [(3, 23), (6, 19), (9, 19), (11, 23)]), (1, [(26, 12), (25, 5), (19, 7), (20, 8), (25, 8)])],
    ),
    ([SHORT_SLEEVES, TORSO, BUTTONS, COLLAR], [LONG_SLEEVES, TORSO, BUTTONS, COLLAR]),  # shirt
    (
        [(1, [(1, 19), (1.5, 15), (9, 12), (14, 8), (20, 10), (26, 8), (27, 19)]), SOLE, LACES, STRIPE],
        [(1, [(1, 19), (1.5, 15), (9, 12), (15, 5), (25, 5), (27, 19)]), SOLE, LACES, STRIPE],  # high
    ),  # sneaker
    (
        [(0.8, [(8, 11), (10, 3), (18, 3), (20, 11)]), (0, [(9.5, 11), (11, 4.5), (17, 4.5), (18.5, 11)]), BAG, FLAP],
        [BAG, FLAP, (1.4, [(13, 16), (15, 18)]), (0.8, [(3, 11), (14, 3)]), (0.8, [(14, 3), (25, 11)])],
    ),  # bag
    (
        [(1, [(1, 23), (2, 18), (9, 16), (13, 12), (13, 3), (26, 3), (26, 23)]),
         (0.5, [(1, 23), (27, 23), (27, 26), (1, 26)]), (0.5, [(13, 6), (17, 8)]), (0.6, [(13, 4), (26, 4)])],
        [(1, [(1, 25), (2, 22), (9, 19), (14, 13), (14, 2), (25, 2), (27, 17), (20, 20), (10, 26)]),  # on a heel
         (0.7, [(21, 19), (27, 16), (26, 26), (24, 26)]), (0.6, [(20, 3), (20, 17)])],
    ),  # ankle boot
)  # fmt: skip


def drawing(label, shade, dice):
    """Return a garment, floats (28, 28) in [0, 1]: its points moved a little, drawn four times larger, averaged."""
    canvas = Image.new("L", (112, 112))
    pen = ImageDraw.Draw(canvas)
    wide, high, slant = dice.uniform(0.88, 1.04), dice.uniform(0.92, 1), dice.gauss(0, 0.015)
    for factor, points in dice.choice(DRAWINGS[label]):
        if len(points) == 2 and dice.random() < 0.4:
            continue
        moved = [(x if x == 14 else dice.gauss(x, 0.5), dice.gauss(y, 0.4)) for x, y in points]
        halves = [moved, [(28 - x, y) for x, y in moved]] if label in CLOTHES else [moved]
        for half in halves:
            place = [(56 + 4 * (wide * (x - 14) + slant * (y - 14)), 56 + 4 * high * (y - 14)) for x, y in half]
            grey = int(255 * min(factor * shade, 1))
            pen.line(place, grey, dice.randint(2, 5)) if len(points) == 2 else pen.polygon(place, grey)
    return np.asarray(canvas.reduce(4)) / 255


def fabric(count, rng):
    """Return factors around 1 for each pixel, (count, 28, 28): plain cloth, stripes, checks or a print, and folds."""
    y, x = np.mgrid[:28, :28]
    pitch, phase = rng.uniform(2.5, 8, (2, count, 1, 1)), rng.uniform(0, 6, (2, count, 1, 1))
    rows, columns = (np.tanh(3 * np.sin(2 * np.pi * place / pitch[i] + phase[i])) for i, place in enumerate((y, x)))
    noise = rng.standard_normal((2, count, 28, 28))
    grain, folds = gaussian_filter(noise[0], (0, 0.5, 0.5)), gaussian_filter(noise[1], (0, 3, 1.1))
    patterns = np.stack([0 * grain, rows, columns, (rows + columns) / 2, np.tanh(4 * grain)])
    kind = rng.choice(5, count, p=(0.6, 0.12, 0.05, 0.08, 0.15))
    return 1 + rng.uniform(0.1, 0.4, (count, 1, 1)) * patterns[kind, np.arange(count)] + 0.06 * grain + 0.5 * folds


def draw_garments(count, seed):
    """Draw garments of the ten classes, in equal parts and random order: uint8 (count, 28, 28), and labels (count,)."""
    rng, dice = np.random.default_rng(seed), random.Random(seed)
    labels, shades = rng.permutation(count) % len(DRAWINGS), 0.2 + 0.75 * rng.beta(2.2, 1.4, count)
    drawn = [drawing(label, shade, dice) for label, shade in zip(labels, shades, strict=True)]
    return (255 * np.clip(drawn * fabric(count, rng), 0, 1)).round().astype(np.uint8), labels
