"""A singing voice made from numbers: glottal pulses and noise, shaped by the resonances of a moving vocal tract.

The source-filter model of speech (Fant 1960; Klatt 1980, "Software for a cascade/parallel formant synthesizer"): band-
limited pulses at the instants the vocal folds close, a glottal roll-off, and a cascade of resonances, one about every
kilohertz, of which five move from vowel to vowel. What is slow (pitch, loudness, formants) is drawn at CONTROL
values a second, so a note sheet means the same song at every sample rate.
"""

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.fft import irfft, next_fast_len, rfft
from scipy.ndimage import gaussian_filter1d
from scipy.signal import butter, lfilter, sosfilt

CONTROL = 200  # values a second of every slow curve
TOP = 0.46  # the highest partial, in parts of the sample rate
VOWELS = {  # F1, F2, F3 in Hz of a grown man's vowels, about the averages of Peterson and Barney (1952)
    "a": (730, 1090, 2440),
    "ae": (660, 1700, 2410),
    "e": (500, 1850, 2500),
    "i": (290, 2250, 2950),
    "o": (490, 880, 2400),
    "u": (310, 850, 2250),
    "uh": (620, 1190, 2390),
    "er": (480, 1350, 1750),
}
GLIDES = {"e": "i", "o": "u", "a": "i", "ae": "u"}  # where diphthongs end
VOICED = {  # formants and loudness of consonants that are sung
    "m": ((270, 1050, 2200), 0.35),
    "n": ((280, 1500, 2500), 0.35),
    "l": ((360, 1150, 2700), 0.6),
    "w": ((300, 650, 2200), 0.6),
    "y": ((270, 2250, 2950), 0.6),
    "r": ((350, 1100, 1550), 0.6),
}
HISSES = {  # lower and upper edge in Hz, seconds, loudness
    "s": (4700, 11000, 0.105, 0.30),
    "sh": (2300, 7500, 0.105, 0.32),
    "f": (1500, 9500, 0.085, 0.08),
    "h": (500, 4500, 0.070, 0.10),
}
BURSTS = {"p": (350, 1800, 0.018, 0.35), "t": (2900, 9000, 0.024, 0.40), "k": (1200, 3800, 0.026, 0.40)}
CONSONANTS = ("", *VOICED, *HISSES, *BURSTS)


@dataclass
class Note:
    """One sung syllable: seconds, a MIDI pitch, what it says, and how loud (around 1)."""

    start: float
    end: float
    pitch: float
    vowel: str = "a"
    consonant: str = ""
    loudness: float = 1.0
    first: bool = False  # begins a phrase: a breath before it
    last: bool = False  # ends a phrase


@dataclass
class Singer:
    """What makes one voice sound unlike another; frequencies in Hz, `extent` (the vibrato's amplitude) in cents."""

    lowest: int = 48  # MIDI pitch of the lowest comfortable note
    tract: float = 1.0  # formants relative to a grown man's
    rate: float = 5.5
    extent: float = 60.0
    delay: float = 0.25  # seconds until the vibrato sets in
    slide: float = 0.025  # seconds, standard deviation of the smoothing between notes
    effort: float = 3000.0  # corner of the source's upper roll-off
    breath: float = 0.02
    rough: float = 0.004  # jitter, in parts of a period
    ring: float = 0.0  # 0 to 1: how far the upper formants gather into a singer's formant
    clarity: float = 1.0  # loudness of the consonants


def draw_singer(rng):
    """Draw a voice: a man's (low) or a woman's (high), trained or not."""
    high = rng.random() < 0.5
    return Singer(
        lowest=int(rng.integers(54, 61)) if high else int(rng.integers(44, 51)),
        tract=rng.uniform(1.10, 1.22) if high else rng.uniform(0.95, 1.07),
        rate=rng.uniform(4.9, 6.3),
        extent=rng.uniform(25, 95),
        delay=rng.uniform(0.12, 0.35),
        slide=rng.uniform(0.015, 0.04),
        effort=np.exp(rng.uniform(np.log(1500), np.log(5000))),
        breath=np.exp(rng.uniform(np.log(0.006), np.log(0.05))),
        rough=rng.uniform(0.002, 0.007),
        ring=rng.uniform(0, 0.8) * (rng.random() < 0.5),
        clarity=rng.uniform(0.6, 1.4),
    )


def band_noise(low, high, count, sample_rate, rng):
    """Return `count` samples of noise between two edges in Hz; its density does not depend on the sample rate."""
    noise = rng.standard_normal(count) * np.sqrt(sample_rate / 44100)
    high = min(high, TOP * sample_rate)
    low = min(low, 0.8 * high)
    return sosfilt(butter(2, (low, high), "bandpass", fs=sample_rate, output="sos"), noise)


# ---- slow curves ---------------------------------------------------------------------------------------------------


def pitch_curve(notes, singer, steps, rng):
    """Return the pitch in Hz at every control step: notes, scoops, slides between them, drift and delayed vibrato."""
    time = np.arange(steps) / CONTROL
    starts = np.array([note.start for note in notes])
    pitches = np.array([note.pitch for note in notes])
    index = np.clip(np.searchsorted(starts - 0.02, time, side="right") - 1, 0, None)  # singers move a little ahead
    cents = 100.0 * pitches[index]
    depth = np.zeros(steps)
    for note in notes:
        since = time - note.start
        held = (since >= 0) & (time < note.end)
        if note.first and rng.random() < 0.5:
            cents -= held * rng.uniform(80, 220) * np.clip(1 - since / 0.09, 0, None)
        length = note.end - note.start
        if length > singer.delay + 0.15:
            depth += held * np.clip((since - singer.delay) / 0.3, 0, 1) * rng.uniform(0.7, 1.1)
    cents = gaussian_filter1d(cents, singer.slide * CONTROL, mode="nearest")
    wobble = gaussian_filter1d(rng.standard_normal((2, steps)), 0.12 * CONTROL, axis=1) * np.sqrt(0.4 * CONTROL)
    cents += 9 * wobble[0] + rng.normal(0, 4)
    turns = np.cumsum(singer.rate * (1 + 0.05 * wobble[1])) / CONTROL
    cents += singer.extent * gaussian_filter1d(depth, 0.03 * CONTROL) * np.sin(2 * np.pi * turns)
    return 440 * 2 ** ((cents - 6900) / 1200)


def formant_curves(notes, singer, pitch, rng):
    """Return five formants, (steps, 5) in Hz: vowels, diphthongs and voiced consonants, smoothed into each other."""
    steps = len(pitch)
    formants = np.zeros((steps, 5))
    formants[:, :3] = VOWELS["uh"]
    for note, after in zip(notes, [*notes[1:], None], strict=True):
        end = note.end if note.last or after is None else after.start
        start, stop = (int(CONTROL * edge) for edge in (note.start - (0.4 if note.first else 0), end))
        formants[max(start, 0) : stop, :3] = VOWELS[note.vowel] + rng.normal(0, 0.02, 3) * VOWELS[note.vowel]
        if note.vowel in GLIDES and rng.random() < 0.4:
            turn = int(start + 0.6 * (stop - start))
            formants[turn:stop, :3] += 0.7 * (np.array(VOWELS[GLIDES[note.vowel]]) - formants[turn:stop, :3])
        if note.consonant in VOICED:
            onset = int(CONTROL * note.start)
            formants[max(onset - 14, 0) : max(onset, 0), :3] = VOICED[note.consonant][0]
    formants[:, 3], formants[:, 4] = 3450, 4450
    middle = 2900 * singer.ring + formants[:, 2:] * (1 - singer.ring)
    formants[:, 2:] = 0.45 * middle + 0.55 * formants[:, 2:]
    formants = singer.tract * gaussian_filter1d(formants, 0.022 * CONTROL, axis=0, mode="nearest")
    formants[:, 0] = np.maximum(formants[:, 0], 1.05 * pitch)  # high notes open the mouth until F1 is not below them
    formants[:, 1] = np.maximum(formants[:, 1], formants[:, 0] + 200)
    return formants


def loudness_curves(notes, singer, steps, rng):
    """Return two curves: how strongly the folds vibrate, and how strongly breath flows, at every control step."""
    time = np.arange(steps) / CONTROL
    voice, air = np.zeros(steps), np.zeros(steps)
    for note, after in zip(notes, [*notes[1:], None], strict=True):
        legato = not note.last and after is not None
        end = after.start if legato else note.end
        span = (time >= note.start - 0.01) & (time < end)
        part = (time[span] - note.start) / max(end - note.start, 0.05)
        voice[span] = note.loudness * (1 - 0.25 * part - (0 if legato else 0.3) * part**3) * rng.uniform(0.9, 1.1)
    for note in notes:
        before = note.start - time
        if note.consonant in VOICED:
            voice[(before > 0) & (before < 0.07)] = VOICED[note.consonant][1] * note.loudness
        elif note.consonant in HISSES:
            voice[(before > -0.005) & (before < HISSES[note.consonant][2])] = 0
        elif note.consonant in BURSTS:
            voice[(before > -0.02) & (before < rng.uniform(0.05, 0.08))] = 0
        if note.first:
            length = rng.uniform(0.2, 0.4)
            breath = (before > 0.12) & (before < 0.12 + length)
            air[breath] = rng.uniform(0.006, 0.035) * np.sin(np.pi * (before[breath] - 0.12) / length)
    voice = gaussian_filter1d(voice, 0.011 * CONTROL)
    flutter = gaussian_filter1d(rng.standard_normal(steps), 0.04 * CONTROL) * np.sqrt(0.14 * CONTROL)
    return voice * np.exp(0.06 * flutter), air + singer.breath * voice


# ---- sound -----------------------------------------------------------------------------------------------------------


def glottal_pulses(pitch, strength, singer, count, sample_rate, rng):
    """Return `count` samples of band-limited pulses, one a period, each a little early or late, weak or strong."""
    cycles = np.concatenate([[0.0], np.cumsum(pitch) / CONTROL])
    ticks = np.arange(1, int(cycles[-1]))
    clock = np.arange(len(cycles)) / CONTROL
    instants = np.interp(ticks, cycles, clock)
    period = 1 / np.interp(instants, clock[:-1], pitch)
    instants = instants + singer.rough * period * rng.standard_normal(len(ticks))
    weights = np.interp(instants, clock[:-1], strength) * (1 + 8 * singer.rough * rng.standard_normal(len(ticks)))
    keep = weights > 1e-4
    places, weights = instants[keep] * sample_rate, weights[keep] * sample_rate / 44100
    reach = 24
    taps = np.floor(places).astype(int)[:, None] + np.arange(1 - reach, reach + 1)
    distance = taps - places[:, None]
    kernel = 2 * TOP * 0.96 * np.sinc(2 * TOP * 0.96 * distance) * np.cos(np.pi * distance / (2 * reach + 2)) ** 2
    kernel *= weights[:, None]
    inside = (taps >= 0) & (taps < count)
    return np.bincount(taps[inside], weights=kernel[inside], minlength=count)


def tract_response(formants, singer, hertz):
    """Return the complex response (steps, bins) of a vocal tract with these formants (steps, 5) at `hertz` (bins,).

    A neutral tube resonates at 500, 1500, 2500 ... Hz, and its peaks lie level. Each formant is taken relative to its
    broad neutral place, so that the response stays level above them too; two fixed resonances follow.
    """
    neutral = singer.tract * np.array([500, 1500, 2500, 3500, 4500, 5600, 7000])
    narrow = np.array([60, 75, 110, 160, 220, 350, 500])
    wide = np.array([500, 700, 800, 900, 1000, 1000, 1200])
    response = np.ones((len(formants), len(hertz)), np.complex64)
    square, turned = (hertz**2).astype(np.float32), (1j * hertz).astype(np.complex64)
    for index, (home, thin, broad) in enumerate(zip(neutral, narrow, wide, strict=True)):
        place = formants[:, index, None].astype(np.float32) if index < 5 else np.full((1, 1), home, np.float32)
        peak = place**2 / (place**2 - square + turned * (thin + np.float32(0.02) * place))
        response *= peak * ((home**2 - square + turned * broad) / home**2).astype(np.complex64)
    return response / (1 + (hertz / 11000) ** 4).astype(np.float32)


def vocal_tract(source, formants, singer, sample_rate):
    """Send a source (samples,) through a tract that moves: short windows, each through its own response, added up."""
    hop = round(0.006 * sample_rate)
    count = next_fast_len(2 * hop + int(0.03 * sample_rate), real=True)  # room to ring out
    padded = np.pad(source, (hop, 3 * hop))
    frames = sliding_window_view(padded, 2 * hop)[::hop]
    busy = np.flatnonzero(np.abs(frames).max(axis=1) > 1e-7)
    window = np.sin(np.pi * (np.arange(2 * hop) + 0.5) / (2 * hop)) ** 2
    steps = np.minimum((busy * hop * CONTROL) // sample_rate, len(formants) - 1)
    response = tract_response(formants[steps], singer, np.fft.rfftfreq(count, 1 / sample_rate))
    rung = irfft(rfft((frames[busy] * window).astype(np.float32), count) * response, count)
    out = np.zeros((len(frames) + count // hop + 1, hop))
    for shift in range(-(-count // hop)):  # add up by pieces of a hop
        piece = rung[:, shift * hop : (shift + 1) * hop]
        out[busy + shift, : piece.shape[1]] += piece
    return out.ravel()[hop : hop + len(source)]


def compressed(sound, sample_rate):
    """Return a sound (samples,) with its loudness evened out, as songs are mixed: of two dB one is left.

    A partial that meets a formant is 15 dB louder than one beside it. What lies more than 14 dB below the loudness of
    the song, such as a breath, is raised by 7 dB and no further.
    """
    edges = (np.arange(int(len(sound) * CONTROL / sample_rate) + 2) * sample_rate / CONTROL).astype(int)
    energy = np.diff(np.concatenate([[0.0], np.cumsum(sound**2)])[np.minimum(edges, len(sound))])
    loudness = gaussian_filter1d(energy / np.diff(edges), 0.04 * CONTROL)
    loud = loudness[loudness > 0.04 * loudness.max()].mean() if loudness.any() else 1.0
    gain = np.maximum(loudness / loud, 0.04) ** -0.25
    return sound * np.interp(np.arange(len(sound)), (edges[:-1] + edges[1:]) / 2, gain)


def sing(notes, singer, seconds, sample_rate, rng):
    """Sing a list of notes (ordered by time). Returns (samples,) in float64, loud notes around 0.1 to 0.5."""
    count = round(seconds * sample_rate)
    if not notes:
        return np.zeros(count)
    steps = int(np.ceil(seconds * CONTROL)) + 1
    curves, noises = rng.spawn(2)  # the curves are the same at every sample rate
    pitch = pitch_curve(notes, singer, steps, curves)
    formants = formant_curves(notes, singer, pitch, curves)
    voice, air = loudness_curves(notes, singer, steps, curves)
    pulses = glottal_pulses(pitch, voice, singer, count, sample_rate, curves)
    # the flow through the folds falls by 12 dB an octave and the lips give 6 dB back; softer voices fall faster
    deep, low, soft = np.exp(-2 * np.pi * np.array([50.0, 130.0, singer.effort]) / sample_rate)
    flow = lfilter([20 * (1 - low)], [1, -low], lfilter([1, -1], [1, -deep], pulses))
    flow = lfilter([1 - soft], [1, -soft], flow)
    time = np.arange(count) / sample_rate
    clock = np.arange(steps) / CONTROL
    cycle = np.interp(time, clock + 1 / CONTROL, np.cumsum(pitch) / CONTROL)
    noise = noises.standard_normal(count) * np.sqrt(sample_rate / 44100) * np.interp(time, clock, air)
    noise *= 0.6 + 0.4 * np.cos(2 * np.pi * cycle)  # breath is loudest while the folds are open
    sound = compressed(vocal_tract(flow + noise, formants, singer, sample_rate), sample_rate)
    level = np.sqrt(np.mean(sound**2) / max(np.mean(voice > 0.1), 1e-3))
    for note in notes:
        kind = HISSES.get(note.consonant) or BURSTS.get(note.consonant)
        if kind is None:
            continue
        low, high, length, loudness = kind
        piece = int(length * curves.uniform(0.8, 1.25) * sample_rate)
        start = max(int(note.start * sample_rate) - (piece if note.consonant in HISSES else piece // 2), 0)
        part = np.linspace(0, 1, piece)
        shape = np.minimum(part * 20, 1) * np.exp(-5 * part)
        if note.consonant in HISSES:
            shape = np.sin(np.pi * part**0.8)
        burst = band_noise(low, high, piece, sample_rate, noises) * shape * loudness * singer.clarity
        piece = min(piece, count - start)
        sound[start : start + piece] += (note.loudness * level * curves.uniform(0.6, 1.3) * burst)[:piece]
    return sound
