"""A small band made from numbers: plucked strings, held tones, a bass and a drum kit, and the parts they play.

A player is given the song's plan (`helpers.data.synth.Plan`), a desk to play into and a generator to draw from.
"""

import numpy as np
from scipy.fft import next_fast_len
from scipy.signal import oaconvolve

from helpers.data.singing import TOP, band_noise


def frequency(pitch):
    """Return the frequency in Hz of a MIDI pitch."""
    return 440 * 2 ** ((pitch - 69) / 12)


# ---- instruments -----------------------------------------------------------------------------------------------------


def pluck(pitch, sample_rate, decay, damping, bright, spot, stiff):
    """Return a plucked string: Karplus and Strong's loop (1983) with its spectrum in closed form, one FFT a note.

    `decay`: seconds to fall by 60 dB; `damping`: how much faster high partials fall; `bright`: Hz where the pick's
    spectrum bends; `spot`: where it is picked, in parts of the string; `stiff`: stretches the upper partials.
    """
    base = frequency(pitch)
    count = next_fast_len(int(1.1 * decay * sample_rate), real=True)
    hertz = np.fft.rfftfreq(count, 1 / sample_rate)
    partial = hertz / base / np.sqrt(1 + stiff * (hertz / base) ** 2)
    loop = 10 ** (-3 / (decay * base)) * np.exp(-damping * (hertz / 1000) ** 1.5 / base)
    pick = np.abs(np.sin(np.pi * spot * partial)) / (1 + (hertz / bright) ** 2)
    lag = 0.001 * hertz + 0.004 * 300 * np.log1p(hertz / 300)  # a body speaks a few milliseconds later in the bass
    pick = pick * (hertz < TOP * sample_rate) * np.exp(-2j * np.pi * lag)
    sound = np.fft.irfft(pick / (1 - loop * np.exp(-2j * np.pi * partial)), count)
    # what the pick does before it lets go stands at the end of the circle: its last milliseconds go before the rest
    rise, fall = int(0.005 * sample_rate), int(0.05 * sample_rate)
    sound = np.roll(sound, rise)[: int(decay * sample_rate)]
    sound[:rise] *= np.linspace(0, 1, rise)
    sound[-fall:] *= np.linspace(1, 0, fall)
    return sound / np.sqrt(np.mean(sound[: int(0.2 * sample_rate)] ** 2))


def drone(pitch, seconds, sample_rate, partials, attack, release, vibrato=(5.5, 0.0, 0.0)):
    """Return a held tone of partials with the given levels; `vibrato` is rate in Hz, depth in cents, delay in s."""
    base, (rate, depth, delay) = frequency(pitch), vibrato
    room = min(len(partials), int(TOP * sample_rate / (1.05 * base)))
    levels = np.zeros(1025)
    levels[1 : room + 1] = partials[:room]
    spread = np.exp(2j * np.pi * 0.618 * np.arange(1025) ** 2)  # phases apart: a rounder wave, less of a spike
    table = np.fft.irfft(levels * spread, 4096) * 2048 / np.sqrt(np.sum(levels**2) / 2)
    table = np.append(table, table[0])
    count = int((seconds + release) * sample_rate)
    time = np.arange(count) / sample_rate
    cycles = base * time
    if depth:
        swing = base * depth / 1731 / (2 * np.pi * rate)
        cycles += swing * np.clip((time - delay) / 0.3, 0, 1) * np.sin(2 * np.pi * rate * time)
    place = (cycles % 1) * 4096
    index = place.astype(np.int32)
    sound = table[index] + (place - index) * (table[index + 1] - table[index])
    shape = np.clip(np.minimum(time / attack, (count / sample_rate - time) / release), 0, 1)
    return sound * shape * shape * (3 - 2 * shape)


def draw_partials(kind, rng):
    """Draw the partials' levels of a kind of held tone: organ, strings, pad or reed."""
    number = np.arange(1, 61)
    if kind == "organ":
        levels = np.zeros(60)
        levels[[0, 1, 2, 3, 4, 5, 7]] = rng.uniform(0, 1, 7) * (1, 0.9, 0.8, 0.6, 0.3, 0.3, 0.4)
        levels[0] += 0.3
        return levels
    if kind == "strings":
        return 1 / number / (1 + (number / rng.uniform(6, 14)) ** 2)
    if kind == "pad":
        return number ** -rng.uniform(1.3, 2.2)
    peak, width = rng.uniform(2, 5), rng.uniform(1, 2.5)  # reed: a hump
    return np.exp(-(((number - peak) / width) ** 2) / 2) + 0.6 / number**1.5 * (number % 2 + 0.5)


class Desk:
    """Collects the sounds of one stem in stereo, (2, samples)."""

    def __init__(self, seconds, sample_rate):
        self.rate = sample_rate
        self.sound = np.zeros((2, round(seconds * sample_rate)))

    def add(self, sound, time, gain=1.0, pan=0.0, length=None):
        """Add a mono sound at `time` seconds, from left (-1) to right (1), cut short after `length` seconds."""
        start = max(int(time * self.rate), 0)
        fade = int(0.05 * self.rate)
        if length is not None and int(length * self.rate) + fade < len(sound):
            sound = sound[: int(length * self.rate) + fade].copy()
            sound[-fade:] *= np.linspace(1, 0, fade)
        sound = sound[: max(self.sound.shape[1] - start, 0)]
        angle = (pan + 1) * np.pi / 4
        self.sound[0, start : start + len(sound)] += gain * np.cos(angle) * sound
        self.sound[1, start : start + len(sound)] += gain * np.sin(angle) * sound

    def in_room(self, room, wet):
        """Return the sound with its echo in a room, `wet` times as strong."""
        echo = oaconvolve(self.sound.mean(axis=0)[None], room, axes=1)[:, : self.sound.shape[1]]
        return self.sound + wet * echo


def draw_room(sample_rate, rng, noise):
    """Draw the impulse response of a room, (2, samples): noise that dies away, its highs first."""
    decay, early = rng.uniform(0.5, 1.8), rng.uniform(0.008, 0.03)
    count = int(min(decay, 1.2) * sample_rate)
    time = np.arange(count) / sample_rate
    room = np.zeros((2, count))
    for low, high, speed in ((150, 3000, 6.9), (3000, 11000, 13)):
        for side in room:
            side += band_noise(low, high, count, sample_rate, noise) * np.exp(-speed * time / decay)
    room *= np.clip((time - early) / 0.01, 0, 1)
    return room / np.sqrt((room**2).sum(axis=1, keepdims=True))


# ---- chords, lead and bass -------------------------------------------------------------------------------------------


def play_strings(plan, desk, rng):
    """Play the chords on plucked strings: strummed or note by note."""
    decay, damping = rng.uniform(0.9, 3.0), rng.uniform(1, 7)
    touch = (np.exp(rng.uniform(6.8, 8.4)), rng.uniform(0.08, 0.45), rng.choice((0, 1e-4, 4e-4)))
    strum, pan, table = rng.random() < 0.5, rng.uniform(-0.7, 0.7), {}
    pattern = [*rng.permutation(3), 3, *rng.permutation(3), 3]
    hits = [0, *np.sort(rng.choice(np.arange(1, 2 * plan.beats), plan.beats, replace=False))]
    for bar, chord in enumerate(plan.voicings(int(rng.integers(52, 62)))):
        tones = [*chord, chord[0] + 12]
        played = [(hit, tone) for hit in hits for tone in tones]
        if not strum:
            played = [(step, tones[pattern[step % 8]]) for step in range(2 * plan.beats)]
        for step, tone in played:
            if tone not in table:
                table[tone] = pluck(tone, desk.rate, decay, damping, *touch)
            late = 0.012 * tones.index(tone) * strum + abs(rng.normal(0, 0.004))
            gain = rng.uniform(0.7, 1.1) * (1.2 if step % 2 == 0 else 0.9)
            time = bar * plan.bar + step * plan.beat / 2 + late
            desk.add(table[tone], time, gain, pan, 1.2 * plan.beat if strum else plan.bar / 2)


def play_pad(plan, desk, rng):
    """Play the chords on held tones, a bar each: organ, strings or pad."""
    kind = str(rng.choice(("organ", "strings", "pad")))
    partials = draw_partials(kind, rng)
    attack = {"organ": 0.02, "strings": rng.uniform(0.1, 0.25), "pad": rng.uniform(0.15, 0.4)}[kind]
    vibrato = (rng.uniform(4.5, 6.5), rng.uniform(4, 16), 0.0)
    spread = rng.uniform(0.04, 0.12)  # semitones between the two players of a tone
    for bar, chord in enumerate(plan.voicings(int(rng.integers(54, 66)))):
        for order, tone in enumerate(chord):
            for side in (-1, 1):
                swing = (vibrato[0] * (1 + 0.07 * side + 0.02 * order), vibrato[1], 0.0)
                sound = drone(tone + spread * side / 2, plan.bar - 0.05, desk.rate, partials, attack, 0.12, swing)
                desk.add(sound, bar * plan.bar, rng.uniform(0.9, 1.1), 0.6 * side)


def play_lead(plan, desk, rng, notes):
    """Play a melody in the pauses of the sung one, and now and then under it."""
    partials, pan = draw_partials("reed", rng), rng.uniform(-0.5, 0.5)
    swing = (rng.uniform(4.5, 6.5), rng.uniform(10, 45), 0.2)
    centre, time = int(rng.integers(64, 74)), 0.0
    while time < plan.seconds - 0.3:
        length = float(rng.choice((0.5, 1, 1, 2))) * plan.beat
        silent = not any(note.start < time + length and note.end > time for note in notes)
        if rng.random() < (0.75 if silent else 0.12):
            tone = rng.choice(plan.chord(time)) if rng.random() < 0.7 else rng.choice(plan.scale)
            sound = drone(centre + (tone - centre) % 12, 0.92 * length, desk.rate, partials, 0.03, 0.06, swing)
            desk.add(sound, time, rng.uniform(1.0, 1.6), pan)
        time += length


def play_bass(plan, desk, rng):
    """Play roots, fifths and octaves below the chords, plucked or as a round synthetic bass."""
    string = rng.random() < 0.65
    touch = (rng.uniform(1.2, 2.5), rng.uniform(3, 12), np.exp(rng.uniform(5.6, 7.2)), rng.uniform(0.1, 0.3), 0)
    partials = np.arange(1, 31) ** -rng.uniform(1.0, 2.0)
    steps = {"whole": (0,), "halves": (0, plan.beats), "beats": range(0, 2 * plan.beats, 2), "eighths": None}
    steps = steps[str(rng.choice(list(steps)))] or range(2 * plan.beats)
    lowest, jumps, table = int(rng.integers(28, 34)), rng.uniform(0, 0.45), {}
    lengths = np.diff([*steps, 2 * plan.beats]) * plan.beat / 2
    for bar, chord in enumerate(plan.chords):
        root = lowest + (chord[0] - lowest) % 12
        for step, length in zip(steps, lengths, strict=True):
            jump = int(rng.choice((7, 12, 12, 7))) if step and rng.random() < jumps else 0
            pitch = root + jump - 12 * (root + jump > lowest + 16)
            key = pitch if string else (pitch, length)
            if key not in table:
                round_bass = string or drone(pitch, 0.85 * length, desk.rate, partials, 0.008, 0.05)
                table[key] = pluck(pitch, desk.rate, *touch) if string else round_bass
            time = bar * plan.bar + step * plan.beat / 2 + abs(rng.normal(0, 0.004))
            desk.add(table[key], time, rng.uniform(0.85, 1.1), 0, 0.9 * length)


# ---- drums -----------------------------------------------------------------------------------------------------------


def swept_tone(high, low, sweep, decay, sample_rate):
    """Return a sine that falls from `high` to `low` Hz within about `sweep` seconds and dies away."""
    time = np.arange(int(5 * decay * sample_rate)) / sample_rate
    cycles = low * time + (high - low) * sweep * (1 - np.exp(-time / sweep))
    return np.sin(2 * np.pi * cycles) * np.exp(-time / decay)


def hiss(low, high, decay, sample_rate, noise):
    """Return noise between two edges in Hz that dies away."""
    count = int(6 * decay * sample_rate)
    return band_noise(low, high, count, sample_rate, noise) * np.exp(-np.arange(count) / (decay * sample_rate))


def draw_kit(rate, rng, noise):
    """Draw the sounds of a drum kit: a name to a list of takes."""

    def layer(*parts):
        sound = np.zeros(max(len(part) for part in parts))
        for part in parts:
            sound[: len(part)] += part
        return sound

    def hat(decay):
        return 1.1 * hiss(rng.uniform(5500, 8000), 15000, decay, rate, noise)

    deep, skin, ring = rng.uniform(44, 62), rng.uniform(160, 230), rng.uniform(0.035, 0.1)
    top, click = rng.uniform(4000, 9000), rng.uniform(0.1, 0.5)
    kick = layer(
        1.2 * swept_tone(rng.uniform(3, 6) * deep, deep, 0.02, rng.uniform(0.08, 0.2), rate),
        click * hiss(1500, 6000, 0.006, rate, noise),
    )
    crack, tune = rng.uniform(0.6, 1.2), rng.uniform(0.3, 0.6)
    snares = [
        layer(
            crack * hiss(700, top, ring, rate, noise),
            tune * swept_tone(1.5 * skin, skin, 0.01, 0.05, rate),
            0.6 * tune * swept_tone(1.8 * skin, 1.7 * skin, 0.01, 0.035, rate),
        )
        for _ in range(3)
    ]
    toms = [
        layer(0.9 * swept_tone(1.7 * low, low, 0.05, 0.16, rate), 0.2 * hiss(800, 4000, 0.02, rate, noise))
        for low in rng.uniform(0.9, 1.1) * np.array([180, 130, 90])
    ]
    short = rng.uniform(0.015, 0.05)
    return {
        "kick": [kick],
        "snare": snares,
        "hat": [hat(short) for _ in range(3)],
        "open": [hat(0.14)],
        "tom": toms,
        "crash": [0.6 * hiss(2500, 14000, 0.4, rate, noise)],
    }


def play_drums(plan, desk, rng, noise):
    """Play a groove drawn for the song, with small changes in each bar, fills, and a crash after each fill."""
    kit, beats = draw_kit(desk.rate, rng, noise), plan.beats
    back = {4: (1, 3), 3: (1, 2) if rng.random() < 0.5 else (2,), 6: (3,)}[beats]
    pushes = rng.choice(np.arange(1, 2 * beats) / 2, int(rng.integers(1, 4)), replace=False)
    kicks = list(range(beats)) if beats == 4 and rng.random() < 0.25 else sorted({0, *pushes} - set(back))
    grid = float(rng.choice((0.5, 0.5, 0.5, 0.25, 0.25, 1.0))) if beats != 6 else 1.0
    cymbal, late = rng.uniform(0.25, 0.6), rng.uniform(0, 0.12) if grid == 0.5 else 0
    every, phase = int(rng.choice((4, 8))), int(rng.integers(4))

    def hit(name, bar, beat, gain, pan=0.0):
        time = bar * plan.bar + beat * plan.beat + abs(rng.normal(0, 0.003))
        desk.add(kit[name][rng.integers(len(kit[name]))], time, gain * rng.uniform(0.8, 1.1), pan)

    for bar in range(len(plan.chords)):
        fill = bar % every == every - 1 and rng.random() < 0.8
        stop = beats - int(rng.integers(1, 3)) if fill else beats
        if bar % every == 0 and (bar or phase == 0):
            hit("crash", bar, 0, 0.5, -0.3)
        for beat in kicks:
            if beat < stop and rng.random() < 0.93:
                hit("kick", bar, beat, 1.0)
        for beat in back:
            if beat < stop:
                hit("snare", bar, beat, 0.8)
        if rng.random() < 0.25:
            hit("snare", bar, rng.integers(0, 2 * beats) / 2 + 0.25, 0.2)
        for step in np.arange(0, stop, grid):
            name = "open" if rng.random() < 0.05 else "hat"
            swing = late if (2 * step) % 2 == 1 else 0
            hit(name, bar, step + swing, cymbal * (1.0 if step % 1 == 0 else 0.7), 0.35)
        for step in np.arange(stop, beats, 0.25 if plan.beat > 0.4 else 0.5):
            name = "tom" if rng.random() < 0.6 else "snare"
            hit(name, bar, step, 0.5 + 0.4 * (step - stop) / beats, rng.uniform(-0.4, 0.4))
