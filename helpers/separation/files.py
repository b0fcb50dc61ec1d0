"""Audio files taken apart: read, separated and written block by block, so of any length; and many of them."""

import contextlib
import io
import itertools
import os
import sys
import tempfile
import time
import warnings
from pathlib import Path

import soundfile
import torch

from helpers.data import audio
from helpers.data.decoding import ENDINGS, open_sound
from helpers.runtime import UserError
from helpers.separation.chunks import in_pieces
from helpers.separation.networks import share_residual

SILENT_FOR = 30.0  # seconds between two lines of progress in a log file
BLOCK, SHARED = 60.0, 2.0  # seconds in memory at a time, and shared by neighbours, for what has no chunks of its own
AUDIO = (*ENDINGS, ".mp4", ".m4v", ".mkv", ".mov", ".avi", ".webm")


def separate_file(
    path, folder, separator, form="wav", only=(), two_stems=False, add_up=False, warn=warnings.warn, progress=None
):
    """Separate one audio file into `folder`/SOURCE.`form`, a block of seconds at a time; return the files' paths.

    Args:
        form: 'wav', as deep as the input (float also where samples would clip), 'flac' or 'mp3'. Where these two would
            clip, all sources are made softer alike, with a warning.
        only: write these sources alone. two_stems: write vocals and accompaniment, all other sources added up.
        add_up: see share_residual. warn: called with a sentence of warning.
        progress: called after each block with the part that is done, in (0, 1].

    All files are there in the end, or none is. Raises UserError.
    """
    folder, shape = Path(folder), audio.audio_shape(path)
    with open_sound(path) as file:
        depth = file.subtype
    try:
        soundfile.SoundFile(io.BytesIO(), "w", shape.sample_rate, shape.channels, format=form).close()
    except soundfile.LibsndfileError as error:
        has = f"{path} has {shape.channels} channels of {shape.sample_rate:,} Hz"
        raise UserError(f"{has}, which {form} cannot hold: take --format wav") from error
    own = getattr(separator, "sample_rate", 0)  # a baseline has none
    if shape.sample_rate < own:
        warn(
            f"{path} has a sample rate of {shape.sample_rate:,} Hz, the model one of {own:,} Hz: it may separate badly "
            "without the highs that it learnt from; `python -m helpers models` lists models for lower rates"
        )
    try:
        # `folder` itself is made when all is done
        there = next(parent for parent in folder.absolute().parents if parent.exists())
        with tempfile.TemporaryDirectory(dir=there, prefix=f".{folder.name}.", suffix=".part") as part:
            raw, loudest = _write_raw(Path(part), path, shape, separator, only, two_stems, add_up, progress)
            if loudest > 1 and form != "wav":
                warn(f"{path}: the sources are made {loudest:.2f} times softer, {form} cannot hold them as they are")
            written = [_converted(file, form, depth, loudest) for file in raw]
            folder.mkdir(parents=True, exist_ok=True)
            for file in written:
                os.replace(file, folder / file.name)
            return [folder / file.name for file in written]
    except (OSError, soundfile.SoundFileError, UnicodeEncodeError) as error:
        reason = getattr(error, "strerror", None) or str(error).rstrip(".")
        raise UserError(f"cannot write to {folder} ({reason}): free disk space or choose another folder") from error
    except (MemoryError, RuntimeError) as error:  # torch raises the second on a CPU
        if isinstance(error, RuntimeError) and "allocate memory" not in str(error):
            raise
        raise UserError(f"{path} takes more memory than there is: choose a smaller --chunk") from error


def chosen(estimates, only, two_stems):
    """Return the estimates that were asked for; UserError where there are no such sources. See separate_file."""
    if two_stems:
        if "vocals" not in estimates or len(estimates) < 2:
            have = ", ".join(estimates)
            raise UserError(f"the model separates {have}, not vocals from the rest: choose another model")
        rest = sum(estimate for name, estimate in estimates.items() if name != "vocals")
        return {"vocals": estimates["vocals"], "accompaniment": rest}
    for name in only:
        if name not in estimates:
            raise UserError(f"there is no source '{name}' to write alone: choose from {', '.join(estimates)}")
    return {name: estimate for name, estimate in estimates.items() if not only or name in only}


def _write_raw(part, path, shape, separator, only, two_stems, add_up, progress):
    """Separate a file into float files, PART/SOURCE.part; return these and the largest sample of all."""
    rate, files, loudest = shape.sample_rate, {}, 0.0
    inner = getattr(separator, "separator", separator)  # an EverySpeed's
    block, shared = inner.block(rate) if hasattr(inner, "block") else (round(BLOCK * rate), round(SHARED * rate))

    def separate(blocks):  # (1, channels, time) -> (1, sources, channels, time)
        estimates = separator(blocks[0], rate)
        estimates = share_residual(estimates, blocks[0]) if add_up else estimates
        estimates = chosen(estimates, only, two_stems)
        for name in estimates:
            if name not in files:
                file = soundfile.SoundFile(part / f"{name}.part", "w", rate, shape.channels, "FLOAT", format="RF64")
                files[name] = stack.enter_context(file)
        return torch.stack(list(estimates.values()))[None]

    def read(start, stop):
        return audio.read_audio(path, start, stop - start)[0]

    with contextlib.ExitStack() as stack:
        for piece in in_pieces(separate, read, shape.frames, block, shared, progress=progress):
            for file, estimate in zip(files.values(), piece, strict=True):
                file.write(estimate.T.numpy())
            if piece.numel():
                loudest = max(loudest, float(piece.abs().max()))
    return [part / f"{name}.part" for name in files], loudest


def _converted(raw, form, depth, loudest):
    """Write a float file in another format, softer by `loudest` unless it stays float; return the new file's path.

    depth: soundfile's name of how deep the song is.
    """
    subtype = "PCM_24" if depth in ("PCM_24", "PCM_32", "FLOAT", "DOUBLE") else "PCM_16"
    if form == "wav" and (loudest > 1 or depth in ("FLOAT", "DOUBLE", "PCM_32")):
        subtype, loudest = "FLOAT", 1.0
    gain = 1 / max(1.0, loudest)
    target = raw.with_suffix(f".{form}")
    with soundfile.SoundFile(raw) as source:
        large = form == "wav" and source.frames * source.channels * 4 > 2**32 - 2**16  # RF64 is WAV without its limit
        container, subtype = "RF64" if large else form.upper(), None if form == "mp3" else subtype
        with soundfile.SoundFile(target, "w", source.samplerate, source.channels, subtype, format=container) as out:
            for samples in source.blocks(2**20, dtype="float32", always_2d=True):
                out.write(samples * gain)
    raw.unlink()
    return target


def song_folders(inputs, output):
    """Return {file: its folder in the output}: SONG, or for the files of a folder FOLDER/…/SONG, as they lie in it.

    SONG is the file's name without its ending; where that is taken, with more of its path, or a number. Hidden files,
    and results in `output`, are left out. Raises UserError where the results of a folder would lie among its songs.
    """
    folders, taken = {}, set()
    for given in map(Path, inputs):
        songs = _audio_in(given, output) if os.path.isdir(given) else []
        for path in songs or [given]:
            parent = Path(given.resolve().name, path.parent.relative_to(given)) if songs else Path()
            stem = path.stem if path.stem.strip(".") else path.name  # "...wav" must not name the folder above
            longer = f"{path.absolute().parent.name}-{path.name}"
            names = itertools.chain([stem, longer], (f"{longer} ({number})" for number in itertools.count(2)))
            folder = next(parent / name for name in names if str(parent / name).casefold() not in taken)
            if folders.setdefault(path, folder) == folder:
                taken.add(str(folder).casefold())
    return folders


def _audio_in(folder, output):
    """Return the audio files below a folder, sorted; see song_folders for what is left out."""
    top, results = folder.resolve(), Path(output).resolve()
    if top not in results.parents:
        results = results / top.name  # where those of this folder go
    if top.is_relative_to(results):
        raise UserError(f"the results would lie among the songs of {folder}: choose another output than {output}")
    files = []
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        song = path.suffix.lower() in AUDIO and os.path.isfile(path)
        closed = os.path.isdir(path) and not os.access(path, os.R_OK | os.X_OK)  # to be named, not left out
        if (song or closed) and not hidden and not path.resolve().is_relative_to(results):
            files.append(path)
    return files


def progress_line(label):
    """Return a function that tells the part that is done, in (0, 1], and the time left on standard error.

    On a terminal in one line, wiped out in the end; in a log file in a line every half minute.
    """
    terminal = sys.stderr.isatty()
    started = told = time.monotonic()
    before = 0.0

    def show(done):
        nonlocal started, told, before
        now = time.monotonic()
        if done < before:  # the next song
            started = now
        before = done
        minutes, seconds = divmod(round((now - started) * (1 - done) / done), 60)
        text = f"{label} {done:4.0%}, {minutes}:{seconds:02d} left" if done < 1 else ""
        if terminal:
            print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
        elif text and now - told > SILENT_FOR:
            told = now
            print(text, file=sys.stderr, flush=True)

    return show
