"""Audio files in and out: any format, rate and number of channels; by parts; resampled, down-mixed and cached.

Waveforms are float32 tensors (channels, time), full scale at 1.0. WAV, FLAC, OGG, MP3 and AIFF are read by libsndfile
(torchaudio's own reader needs TorchCodec); M4A and the MP4 stems of MUSDB18 are first unpacked to WAV by ffmpeg.
Resampling is soxr's HQ setting: on one core it takes a third of the time of torchaudio's default filter and keeps
aliases below -140 dB, where that one lets -17 dB through near the edge of the band; and it streams, so that
converting a file takes the same memory whatever its length.
"""

import contextlib
import hashlib
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch

from helpers.runtime import BUILD, UserError

CACHE = BUILD / "cache"
UNPACKED = (".m4a", ".mp4", ".aac", ".mka", ".webm", ".wma")  # what libsndfile cannot read and ffmpeg can
LEAD = 1 << 14  # samples that an MP3 decoder needs after a jump until it is right again
BLOCK = 1 << 20  # samples of a channel converted at a time


@dataclass(frozen=True)
class Shape:
    """What a file's header says: sample rate in Hz, number of channels, and length in samples of a channel."""

    sample_rate: int
    channels: int
    frames: int


# ---- reading and writing -----------------------------------------------------------------------------------------


def audio_shape(path):
    """Return the Shape of an audio file without reading its samples; errors as read_audio's."""
    with _opened(path) as file:
        return Shape(file.samplerate, file.channels, file.frames)


def read_audio(path, start=0, frames=None):
    """Return (waveform, sample rate) of an audio file, or of the part of `frames` samples that begins at `start`.

    Raises UserError if the file is missing, unreadable, empty or cut short, or if it holds NaN or infinity; and
    IndexError if the part is not wholly inside the file.
    """
    with _opened(path) as file:
        frames = file.frames - start if frames is None else frames
        if start < 0 or frames < 0 or start + frames > file.frames:
            raise IndexError(f"{path} has {file.frames} samples: {start} to {start + frames} is not inside")
        lead = min(start, LEAD) if file.format == "MP3" else 0
        with _explained(path):
            file.seek(start - lead)
        return _next_samples(file, path, lead + frames)[:, lead:], file.samplerate


def _next_samples(file, path, frames):
    """Return the next `frames` samples of an open file as a waveform; see read_audio for what it refuses."""
    with _explained(path):
        samples = file.read(frames, dtype="float32", always_2d=True)  # (time, channels)
    if len(samples) < frames:
        raise UserError(f"{path} is cut short, {frames - len(samples)} samples are missing: get it again")
    if not np.isfinite(samples).all():
        raise UserError(f"{path} holds samples that are no finite numbers: export it again")
    return torch.from_numpy(np.ascontiguousarray(samples.T))


@contextlib.contextmanager
def _explained(path):
    """Turn libsndfile's and the system's complaints about a file into one sentence."""
    try:
        yield
    except soundfile.SoundFileError as error:
        reason = str(error).split(": ", 1)[-1].rstrip(".")
        raise UserError(
            f"{path} cannot be read as audio ({reason}): give a WAV, FLAC, OGG or MP3 file, or with ffmpeg an M4A one"
        ) from error


@contextlib.contextmanager
def _opened(path):
    """Open an audio file for reading; see read_audio for what it refuses."""
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path} is a folder: give the audio files in it")
    if not path.exists():
        raise UserError(f"there is no file {path}: check its name")
    if not os.access(path, os.R_OK):
        raise UserError(f"{path} may not be read: change its permissions")
    if path.suffix.lower() in UNPACKED:
        path = unpack_streams(path)[0]
    with _explained(path):
        file = soundfile.SoundFile(path)
    with file:
        if file.frames <= 0:
            raise UserError(f"{path} holds no samples: record or download it again")
        yield file


def write_audio(path, waveform, sample_rate, subtype="PCM_16"):
    """Write a waveform (channels, time) to `path`, in the format its ending names; it is there whole or not at all.

    `subtype` is soundfile's: 'PCM_16' (clips beyond full scale), 'FLOAT' (exact), ...
    Raises UserError if the waveform holds NaN or infinity, or if the file cannot be written.
    """
    if not torch.isfinite(waveform).all():
        raise UserError(f"{path} is not written: its samples are no finite numbers; check what they were computed from")
    form = Path(path).suffix.lstrip(".").upper()
    subtype = subtype if soundfile.check_format(form, subtype) else None
    samples = waveform.detach().cpu().T.contiguous().numpy()  # (time, channels)
    with _part_of(path) as part:
        soundfile.write(part, samples, sample_rate, subtype, format=form)


@contextlib.contextmanager
def _part_of(path):
    """Give the name of a file to write; it becomes `path` if all went well, and is removed if not."""
    path = Path(path)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        os.replace(part, path)
    except (OSError, soundfile.SoundFileError) as error:
        raise UserError(f"cannot write {path} ({error}): free disk space or choose another folder") from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink()


# ---- rate and channels -------------------------------------------------------------------------------------------


def resampled_length(frames, rate, new_rate):
    """Return the length in samples that resample() gives `frames` samples of sample rate `rate`."""
    return max(1, (frames * new_rate + rate // 2) // rate)


def resample(waveform, rate, new_rate):
    """Return a CPU waveform (channels, time) at `new_rate`; resampled_length() says how long."""
    if rate == new_rate:
        return waveform
    laid_out = np.array(waveform.numpy().T, order="C")  # a copy: soxr reads the strides, even of a single sample
    samples = soxr.resample(laid_out, rate, new_rate)  # (time, channels)
    return _fit(torch.from_numpy(np.ascontiguousarray(samples.T)), resampled_length(waveform.shape[-1], rate, new_rate))


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


def _fit(waveform, frames):
    """Cut a waveform at the end, or pad it with silence, to `frames` samples."""
    return torch.nn.functional.pad(waveform[..., :frames], (0, max(0, frames - waveform.shape[-1])))


def _key(path, *settings):
    """Return 16 hex digits that change with the file's place, content (by time and size) and the settings."""
    state = path.stat()
    text = repr((str(path.resolve()), state.st_mtime_ns, state.st_size, *settings))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def converted(path, sample_rate, mono=False, cache_dir=None):
    """Return the path of a file's version at `sample_rate`: `path` itself if it has that rate, else a cached copy.

    The copy (32-bit float WAV, down-mixed if `mono`, which saves space) is made once, block by block, and appears only
    when it is whole; it is made anew when the file's time or size changed. Raises UserError as read_audio does, or if
    the cache cannot be written.
    """
    path = Path(path)
    with _opened(path) as source:
        if source.samplerate == sample_rate:
            return path
        folder = Path(cache_dir or CACHE) / "converted"
        target = folder / f"{path.stem}-{_key(path, sample_rate, mono)}.wav"
        if target.exists():
            return target
        channels = 1 if mono else source.channels
        stream = soxr.ResampleStream(source.samplerate, sample_rate, channels)
        missing = resampled_length(source.frames, source.samplerate, sample_rate)
        with (
            _part_of(target) as part,
            # RF64 is WAV without its limit of 4 GB
            soundfile.SoundFile(part, "w", sample_rate, channels, "FLOAT", format="RF64") as out,
        ):
            for start in range(0, source.frames, BLOCK):
                frames = min(BLOCK, source.frames - start)
                samples = _next_samples(source, path, frames)
                samples = (to_mono(samples) if mono else samples).T.contiguous().numpy()
                samples = stream.resample_chunk(samples, last=start + frames == source.frames)[:missing]
                out.write(samples)
                missing -= len(samples)
            out.write(np.zeros((missing, channels), np.float32))
    return target


# ---- ffmpeg ------------------------------------------------------------------------------------------------------


def ffmpeg():
    """Return the path of the ffmpeg program, or of the one that the package imageio-ffmpeg brings.

    Raises UserError where there is none.
    """
    found = shutil.which("ffmpeg")
    if found:
        return found
    try:
        import imageio_ffmpeg

        return imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError) as error:
        raise UserError(
            "M4A and MP4 files need the program ffmpeg, which is not installed: `apt install ffmpeg`, "
            "`brew install ffmpeg`, `winget install ffmpeg` or `pip install imageio-ffmpeg`"
        ) from error


def unpack_streams(path, count=1, cache_dir=None):
    """Unpack the first `count` audio streams of a file to 16-bit WAV, once; return their paths in the cache.

    The files appear together, when all are whole. Raises UserError without ffmpeg, or if it fails on this file, as it
    does where there are fewer streams.
    """
    path = Path(path)
    folder = Path(cache_dir or CACHE) / "unpacked"
    target = folder / f"{path.name.split('.')[0]}-{_key(path, count)}"
    files = [f"{stream}.wav" for stream in range(count)]
    if not target.exists():
        part = target.with_name(f"{target.name}.{os.getpid()}.part")
        command = [ffmpeg(), "-nostdin", "-v", "error", "-i", str(path.resolve())]
        for stream, name in enumerate(files):
            command += ["-map", f"0:a:{stream}", "-c:a", "pcm_s16le", "-rf64", "auto", str(part / name)]
        try:
            part.mkdir(parents=True, exist_ok=True)
            done = subprocess.run(command, capture_output=True, text=True, errors="replace")
            if done.returncode or not all((part / name).exists() for name in files):
                reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
                raise UserError(f"ffmpeg cannot read {count} audio stream(s) of {path} ({reason}): get the file again")
            with contextlib.suppress(FileExistsError):  # another process was faster
                os.replace(part, target)
        except OSError as error:
            if not target.exists():
                raise UserError(f"cannot unpack {path} ({error}): free disk space or choose another folder") from error
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return [target / name for name in files]
