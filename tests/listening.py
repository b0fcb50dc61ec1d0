"""What a listener hears in a sound: its pitch, and what does not belong to it."""

import numpy as np
from scipy.signal.windows import blackmanharris


def heard_pitch(sound, rate, start, end, low=65, high=900):
    """The median pitch in cents over MIDI pitch 0, by autocorrelation of 64 ms windows."""
    size, found = int(0.064 * rate), []
    window = np.hanning(size)
    taper = np.correlate(window, window, "full")[size - 1 :].clip(1e-3)
    for at in range(int(start * rate), int(end * rate) - size, size // 4):
        piece = sound[at : at + size] * window
        power = np.abs(np.fft.rfft(piece, 4 * size)) ** 2
        own = np.fft.irfft(power)[:size] / taper
        lags = np.arange(int(rate / high), int(rate / low))
        peaks = [lag for lag in lags if own[lag] >= own[lag - 1] and own[lag] >= own[lag + 1]]
        best = max(own[lag] for lag in peaks)
        lag = next(lag for lag in peaks if own[lag] > 0.9 * best)
        before, here, after = own[lag - 1 : lag + 2]
        found.append(rate / (lag + 0.5 * (before - after) / (before - 2 * here + after)))
    return 6900 + 1200 * np.log2(np.median(found) / 440)


def off_harmonics(sound, rate, base):
    """Energy further than 6 % of the base from every harmonic, relative to all, in dB."""
    power = np.abs(np.fft.rfft(sound * blackmanharris(len(sound)))) ** 2
    hertz = np.fft.rfftfreq(len(sound), 1 / rate)
    away = np.abs(hertz / base - np.round(hertz / base)) > 0.06
    return 10 * np.log10(power[away & (hertz > 0.5 * base)].sum() / power.sum())
