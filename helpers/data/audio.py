"""Audio files in and out: any format, rate and number of channels; by parts; resampled, down-mixed and cached.

Waveforms are float32 tensors (channels, time), full scale at 1.0. Resampling is soxr's HQ setting: a third of the time
of torchaudio's default filter, aliases below -140 dB (there up to -17 dB).
"""

import contextlib
import errno
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch
from torch.nn import functional as F

from helpers.data.decoding import cached, cut_short, open_sound
from helpers.runtime import UserError, write_atomically

SYSTEM = 2  # libsndfile's code for an error of the system's, such as a full disk
LEAD = 1 << 14  # samples that an MP3 decoder needs after a jump until it is right again


@dataclass(frozen=True)
class Shape:
    """What a file's header says: sample rate in Hz, number of channels, and length in samples of a channel."""

    sample_rate: int
    channels: int
    frames: int


def audio_shape(path):
    """Return the Shape of an audio file without reading its samples, but the last; errors as read_audio's."""
    with open_sound(path) as file:
        if file.format in ("FLAC", "MP3"):  # only their headers say how long they are
            end = []
            with contextlib.suppress(soundfile.SoundFileError):
                file.seek(file.frames - 1)
                end = file.read(1)
            if not len(end):
                raise UserError(cut_short(path, "its end is missing"))
        return Shape(file.samplerate, file.channels, file.frames)


def read_audio(path, start=0, frames=None):
    """Return (waveform, sample rate) of an audio file, or of the part of `frames` samples that begins at `start`.

    Raises UserError if the file is missing, unreadable, empty or cut short, or if it holds NaN or infinity; and
    IndexError if the part is not wholly inside the file.
    """
    with open_sound(path) as file:
        frames = file.frames - start if frames is None else frames
        if start < 0 or frames < 0 or start + frames > file.frames:
            raise IndexError(f"{path} has {file.frames} samples: {start} to {start + frames} is not inside")
        lead = min(start, LEAD) if file.format == "MP3" else 0
        try:
            file.seek(start - lead)
            samples = file.read(lead + frames, dtype="float32", always_2d=True)[lead:]  # (time, channels)
        except soundfile.LibsndfileError as error:
            raise UserError(f"{path} cannot be read as audio ({error.error_string}): get it again") from error
        if len(samples) < frames:
            raise UserError(cut_short(path, f"{(frames - len(samples)) / file.samplerate:.2f} s are missing"))
        if not np.isfinite(samples).all():
            raise UserError(f"{path} holds samples that are no finite numbers: export it again")
        return torch.from_numpy(np.ascontiguousarray(samples.T)), file.samplerate


def write_audio(path, waveform, sample_rate, subtype="PCM_16"):
    """Write a waveform (channels, time) to `path`, in the format its ending names; it is there whole or not at all.

    subtype: soundfile's, 'PCM_16' (clips beyond full scale), 'FLOAT' (exact), ... Raises UserError for NaN or infinity,
    or if the file cannot be written.
    """
    if not torch.isfinite(waveform).all():
        raise UserError(f"{path} is not written: its samples are no finite numbers; check what they were computed from")
    form = Path(path).suffix.lstrip(".").upper()
    if form not in soundfile.available_formats():
        raise UserError(f"{path} has no ending of a format that can be written: call it .wav or .flac")
    subtype = subtype if soundfile.check_format(form, subtype) else None
    samples = waveform.detach().cpu().T.contiguous().numpy()  # (time, channels)
    _write(path, lambda name: soundfile.write(name, samples, sample_rate, subtype, format=form))


def _write(path, write):
    """Let write(name) make an audio file that becomes `path` when it is whole."""

    def content(file):
        try:
            write(file.name)
        except soundfile.LibsndfileError as error:
            if error.code != SYSTEM:
                reason = error.error_string.strip(". ")
                raise UserError(f"{path} cannot hold this sound ({reason}): write it as .wav") from error
            raise OSError(errno.ENOSPC, error.error_string) from error  # write_atomically() names file and remedy

    write_atomically(path, content)


def resampled_length(frames, rate, new_rate):
    """Return the length in samples that resample() gives `frames` samples of sample rate `rate`."""
    return max(1, (frames * new_rate + rate // 2) // rate)


def resample(waveform, rate, new_rate):
    """Return a waveform (channels, time) at `new_rate`, on its device; resampled_length() says how long."""
    if rate == new_rate:
        return waveform
    samples = np.array(waveform.cpu().numpy().T, order="C")  # a copy: soxr reads the strides, even of a single sample
    resampled = torch.from_numpy(np.ascontiguousarray(soxr.resample(samples, rate, new_rate).T))  # (channels, time)
    frames = resampled_length(waveform.shape[-1], rate, new_rate)
    return F.pad(resampled[:, :frames], (0, max(0, frames - resampled.shape[-1]))).to(waveform.device)


def to_mono(waveform):
    """Return the mean over channels of (..., channels, time), as (..., 1, time)."""
    return waveform.mean(dim=-2, keepdim=True)


def to_channels(waveform, channels):
    """Return a waveform (..., channels, time) with `channels` channels: mean for one, copies of a mono one.

    Raises UserError where neither will do.
    """
    have = waveform.shape[-2]
    if have == channels:
        return waveform
    if channels == 1:
        return to_mono(waveform)
    if have == 1:
        return waveform.expand(*waveform.shape[:-2], channels, -1)
    raise UserError(f"a file of {have} channels cannot be used as one of {channels}: mix it down first, or take mono")


def converted(path, sample_rate, mono=False):
    """Return the path of a file's version at `sample_rate`: `path` itself if it has that rate, else a cached copy.

    The copy (32-bit float WAV, down-mixed if `mono`) is made once, and anew when the file's time or size changed.
    Raises UserError as read_audio does, or if the cache cannot be written.
    """
    path = Path(path)
    with open_sound(path) as file:
        if file.samplerate == sample_rate:
            return path
    target = cached("converted", path, sample_rate, mono)
    if not target.exists():
        waveform, rate = read_audio(path)
        samples = resample(to_mono(waveform) if mono else waveform, rate, sample_rate).T.numpy()  # (time, channels)
        # RF64 is WAV without its limit of 4 GB.
        _write(target, lambda name: soundfile.write(name, samples, sample_rate, "FLOAT", format="RF64"))
    return target
