"""Data made by code, for where there are neither files nor a network: songs with four stems, and drawn garments.

Everything follows from a seed. Figures measured on these data say that the code works; they are not comparable with
figures on recordings or photographs, and every notebook says so.
"""

import functools
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from scipy.signal import lfilter
from skimage.draw import polygon2mask

from helpers.data import audio
from helpers.data.layouts import STEMS
from helpers.data.tracks import Track

SONGS = {"train": (0, 80), "validation": (1_000_000, 20), "test": (2_000_000, 20)}  # first seed, number of songs
SECONDS, RATE = 20.0, 44_100  # length and sample rate of a song
SCALES = ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10))  # major and minor, in semitones above the key
PROGRESSIONS = ((0, 4, 5, 3), (0, 5, 3, 4), (5, 3, 0, 4), (0, 2, 3, 4), (0, 5, 2, 6))  # chords: a degree for each bar
# Three formants in Hz, about the averages of Peterson and Barney (1952); WIDTHS are of these and of one at 3400 Hz.
VOWELS = {"a": (730, 1090, 2440), "e": (530, 1840, 2480), "i": (270, 2290, 3010), "u": (300, 870, 2240)}
WIDTHS = (80, 100, 130, 200)
HIGHEST = 0.45  # the highest harmonic, relative to the sample rate
LEVELS = {"vocals": (2, 6), "drums": (-3, 3), "bass": (-4, 1), "other": (-3, 2)}  # dB, from the lowest to the highest


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


def sung(pitch, seconds, vowel, tract, rate):
    """Return a note (samples,) of a voice: pulses with vibrato, through the resonances of a vowel.

    tract: how much higher the formants are than a man's.
    """
    time = np.arange(int(seconds * rate)) / rate
    vibrato = 0.4 * np.clip((time - 0.15) / 0.3, 0, 1) * np.sin(2 * np.pi * 5.5 * time)
    sound = low_pass(pulses(pitch + vibrato - np.exp(-time / 0.03), rate), 150, rate)  # begins a semitone too low
    for hertz, width in zip((*VOWELS[vowel], 3400), WIDTHS, strict=True):  # Klatt's digital resonators (1980)
        radius = np.exp(-np.pi * width / rate)
        sound = lfilter([1], [1, -2 * radius * np.cos(2 * np.pi * tract * hertz / rate), radius**2], sound)
    return sound / sound.std() * np.clip(np.minimum(time / 0.04, (time[-1] - time) / 0.06), 0, 1)


def struck(pitch, seconds, brightness, decay, rate):
    """Return a note (samples,) of a plucked string: above `brightness` Hz it falls by 12 dB per octave."""
    time = np.arange(int(seconds * rate)) / rate
    sound = low_pass(low_pass(pulses(np.full(len(time), float(pitch)), rate), 80, rate), brightness, rate)
    return sound * np.clip(np.minimum(time / 0.008, (time[-1] - time) / 0.03), 0, 1) * np.exp(-decay * time)


def melody(chords, rng):
    """Yield (start, length, degree) of sung notes, without end: in halves of a beat, and in degrees of the scale.

    Phrases of about two bars, rests between them; long notes are of the chord.
    """
    at, step = rng.integers(0, 5), 5
    while True:
        for length in (*rng.choice((1, 1, 2, 2, 3), rng.integers(4, 9)), 4):
            step = int(np.clip(step + rng.integers(-2, 3), 0, 9))
            away = (step - chords[at // 8 % 4]) % 7  # from the chord's root
            yield at, length, step - (away % 2 if away < 6 else 2) * (length > 1)
            at += length
        at += rng.integers(2, 9)


@functools.lru_cache(maxsize=2)  # the four stems of a song are asked for one after the other
def song(seed, seconds=SECONDS, rate=RATE):
    """Return the stems of a song, {"vocals", "drums", "bass", "other": float32 (2, samples)}; their sum is the mixture.

    The same seed gives the same samples; another sample rate gives the same song with other noise. The mixture's peak
    lies below 1, and the voice is about as loud as the band.
    """
    rng, noise = np.random.default_rng(seed).spawn(2)
    beat, key, scale = 60 / rng.uniform(75, 140), rng.integers(42, 54), SCALES[rng.integers(2)]
    chords, high = PROGRESSIONS[rng.integers(len(PROGRESSIONS))], rng.random() < 0.5
    stems = {name: np.zeros((2, round(seconds * rate))) for name in STEMS}

    def play(name, start, sound, pan=0.0):
        """Add a sound to a stem, `start` seconds from the beginning; `pan` is -1 (left) to 1 (right)."""
        place = stems[name][:, int(start * rate) :][:, : len(sound)]
        place += np.sqrt([[1 - pan], [1 + pan]]) * sound[: place.shape[1]]

    def pitch(degree):
        return key + scale[degree % 7] + 12 * (degree // 7)

    # the voice: half of them are high
    lowest, tract = (7, rng.uniform(1.1, 1.2)) if high else (0, rng.uniform(0.95, 1.05))
    hiss = 0.3 * np.diff(noise.normal(size=int(0.1 * rate))) * np.hanning(int(0.1 * rate) - 1)
    for at, length, degree in melody(chords, rng):
        start, held = at * beat / 2, (length - 0.1) * beat / 2
        if start + held > seconds:
            break
        play("vocals", start, sung(pitch(lowest + degree), held, rng.choice(list(VOWELS)), tract, rate))
        if rng.random() < 0.3:  # an s
            play("vocals", max(start - 0.07, 0), hiss)

    # the band, bar by bar
    brightness, halves = rng.uniform(800, 3000), rng.choice((1, 2, 4))  # from one note of the bass to the next
    time = np.arange(int(0.3 * rate)) / rate
    hit = noise.normal(size=len(time))
    kick = np.sin(2 * np.pi * (50 * time - 2.5 * np.exp(-time / 0.03))) * np.exp(-12 * time)
    snare = 0.5 * np.sin(2 * np.pi * 190 * time) * np.exp(-25 * time) + 0.2 * hit * np.exp(-18 * time)
    hat = 0.1 * np.diff(hit, 2, append=[0, 0]) * np.exp(-60 * time)
    for half in range(int(2 * seconds / beat)):
        start, place, root = half * beat / 2, half % 8, chords[half // 8 % 4]
        if place in (0, 4, 7):
            play("drums", start, kick)
        if place in (2, 6):
            play("drums", start, snare, 0.1)
        play("drums", start, rng.uniform(0.6, 1) * hat, -0.4)
        if half % halves == 0:
            play("bass", start, struck(28 + (pitch(root) - 28) % 12, 0.475 * halves * beat, 300, 2, rate))
        if place in (0, 4):
            for third, pan in ((0, -0.6), (2, 0.1), (4, 0.6)):
                tone = 55 + (pitch(root + third) - 55) % 12 + rng.uniform(-0.05, 0.05)
                play("other", start, struck(tone, 2 * beat, brightness, 1.5, rate), pan)

    for name, levels in LEVELS.items():
        stems[name] *= 10 ** (rng.uniform(*levels) / 20) / max(stems[name].std(), 1e-9)
    peak = rng.uniform(0.6, 0.95) / np.abs(sum(stems.values())).max()
    return {name: torch.from_numpy((peak * stem).astype(np.float32)) for name, stem in stems.items()}


@dataclass(frozen=True)
class SongStem:
    """One stem of an embedded song, made when it is read; it has the interface of tracks.FileStem."""

    seed: int
    name: str
    sample_rate: int = RATE
    mono: bool = False

    @property
    def shape(self):
        return audio.Shape(self.sample_rate, 1 if self.mono else 2, round(SECONDS * self.sample_rate))

    def read(self, start, frames):
        part = song(self.seed, SECONDS, self.sample_rate)[self.name][:, start : start + frames]
        return audio.to_mono(part) if self.mono else part.clone()

    def at(self, sample_rate, mono):
        return replace(self, sample_rate=sample_rate, mono=mono or self.mono)

    def version(self):
        return repr(self)


def songs(split):
    """Return the embedded songs of a split ('train', 'validation' or 'test'), Tracks of 20 s at 44.1 kHz."""
    first, count = SONGS[split]
    names = {seed: f"embedded {split} {seed - first + 1:03d}" for seed in range(first, first + count)}
    stems = {seed: {stem: (SongStem(seed, stem),) for stem in STEMS} for seed in names}
    return [Track(name, RATE, stems[seed], split=split, song=name) for seed, name in names.items()]


# ---- garments ----------------------------------------------------------------------------------------------------
# Each part of a drawing is (shade relative to the cloth, points (x, y) on a grid of 28 by 28 pixels). Of clothes the
# points are those of the left half.

SHORT_SLEEVE = (0.85, [(8.5, 2.5), (4, 6), (2.5, 10.5), (7, 12), (9, 9)])
LONG_SLEEVE = (0.85, [(8.5, 2.5), (5, 5), (1.5, 22), (5, 23), (8.5, 10)])
TORSO = (1, [(14, 3), (11, 1.5), (8, 3), (7, 14), (7, 26), (14, 26)])
BUTTONS = (0.4, [(13.2, 4), (13.2, 26), (14, 26), (14, 4)])
CLOTHES = (0, 1, 2, 3, 4, 6)  # labels; all others are shoes and bags
DRAWINGS = (
    [SHORT_SLEEVE, TORSO],  # T-shirt
    [(1, [(9, 1), (14, 1), (14, 8), (12.5, 27), (9, 27), (8.5, 9)])],  # trousers
    [LONG_SLEEVE, TORSO],  # pullover
    [(1, [(14, 4), (11, 1), (10, 1), (10, 10), (6.5, 27), (14, 27)])],  # dress
    [LONG_SLEEVE, (1, [(14, 4), (11, 1), (8, 2.5), (7, 14), (6.5, 27), (14, 27)]), BUTTONS],  # coat
    [(0.8, [(1, 23), (9, 23), (20, 14), (27, 12), (26, 25), (24, 25), (24, 16), (10, 25), (1, 25)]),
     (1, [(3, 23), (6, 19), (9, 19), (11, 23)])],  # sandal
    [SHORT_SLEEVE, TORSO, BUTTONS],  # shirt
    [(1, [(1, 19), (1.5, 15), (9, 12), (14, 8), (20, 10), (26, 8), (27, 19)]),
     (0.6, [(0.7, 18), (27.3, 18), (27, 21), (1.5, 21)])],  # sneaker
    [(0.8, [(8, 11), (10, 3), (18, 3), (20, 11)]), (0, [(9.5, 11), (11, 4.5), (17, 4.5), (18.5, 11)]),
     (1, [(3, 11), (25, 11), (26, 25), (2, 25)])],  # bag
    [(1, [(1, 23), (2, 18), (9, 16), (13, 12), (13, 3), (26, 3), (26, 23)]),
     (0.5, [(1, 23), (27, 23), (27, 26), (1, 26)])],  # ankle boot
)  # fmt: skip


def drawing(label, shade, rng):
    """Return a garment, floats (28, 28): its points moved a little, drawn two times larger, averaged."""
    canvas, size = np.zeros((56, 56)), rng.uniform(0.88, 1.04, 2)
    for factor, points in DRAWINGS[label]:
        moved = np.array(points, float)
        moved += rng.normal(0, 0.5, moved.shape) * (moved != 14)  # clothes stay whole in the middle
        for half in (moved, [28, 0] + moved * [-1, 1]) if label in CLOTHES else (moved,):
            canvas[polygon2mask(canvas.shape, (28 + 2 * size * (half - 14))[:, ::-1])] = factor * shade
    return canvas.reshape(28, 2, 28, 2).mean((1, 3))


def draw_garments(count, seed):
    """Draw garments of the ten classes, in equal parts and random order: uint8 (count, 28, 28), and labels (count,)."""
    rng = np.random.default_rng(seed)
    labels, shades = rng.permutation(count) % len(DRAWINGS), 0.3 + 0.7 * rng.beta(2.2, 1.4, count)
    drawn = np.stack([drawing(label, shade, rng) for label, shade in zip(labels, shades, strict=True)])
    noise = rng.standard_normal((2, *drawn.shape))
    cloth = 1 + 0.2 * gaussian_filter(noise[0], (0, 0.5, 0.5)) + 0.7 * gaussian_filter(noise[1], (0, 3, 1.1))  # folds
    return (255 * np.clip(drawn * cloth, 0, 1)).round().astype(np.uint8), labels
