"""Audio files taken apart: read, separated and written block by block, so of any length; and many of them."""

import contextlib
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

BLOCK, SHARED = 60.0, 2.0  # seconds in memory at a time, and shared by neighbours, for what has no chunks of its own
SILENT_FOR = 30.0  # seconds between two lines of progress in a log file
AUDIO = (*ENDINGS, ".mp4", ".m4v", ".mkv", ".mov", ".avi", ".webm")
FORMATS = {  # {ending: (most channels, sample rates)}
    "wav": (1024, range(1, 2**31)),
    "flac": (8, range(1, 655_351)),
    "mp3": (2, (8000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)),
}


# ---- one file ----------------------------------------------------------------------------------------------------


def separate_file(path, folder, separator, form="wav", only=(), two_stems=False, add_up=False, warn=warnings.warn):
    """Separate one audio file into `folder`/SOURCE.`form`, a block of seconds at a time; return the files' paths.

    Args:
        form: 'wav', as deep as the input (float also where samples would clip), 'flac' or 'mp3'. Where these two would
            clip, all sources are made softer alike, with a warning.
        only: write these sources alone. two_stems: write vocals and accompaniment, all other sources added up.
        add_up: see share_residual. warn: called with a sentence of warning.

    All files are there in the end, or none is. Raises UserError.
    """
    folder, shape = Path(folder), audio.audio_shape(path)
    most_channels, rates = FORMATS[form]
    if shape.channels > most_channels or shape.sample_rate not in rates:
        has = f"{path} has {shape.channels} channels of {shape.sample_rate:,} Hz"
        raise UserError(f"{has}, which {form} cannot hold: take --format wav")
    if warning := low_rate(path, shape.sample_rate, separator):
        warn(warning)
    try:
        # `folder` itself is made when all is done
        there = next(parent for parent in folder.absolute().parents if parent.exists())
        with tempfile.TemporaryDirectory(dir=there, prefix=f".{folder.name}.", suffix=".part") as part:
            raw, loudest = _write_raw(Path(part), _estimates(path, shape, separator, only, two_stems, add_up), shape)
            if loudest > 1 and form != "wav":
                warn(f"{path}: the sources are made {loudest:.2f} times softer, {form} cannot hold them as they are")
            written = [_converted(file, form, _subtype(path, form, loudest), max(1.0, loudest)) for file in raw]
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


def low_rate(path, sample_rate, separator):
    """Return a sentence of warning if a file's sample rate is below a network's, else ''; a baseline has no rate."""
    own = getattr(separator, "sample_rate", 0)
    if sample_rate >= own:
        return ""
    return (
        f"{path} has a sample rate of {sample_rate:,} Hz, the model one of {own:,} Hz: it may separate badly without "
        f"the highs that it learnt from; take a model for {sample_rate:,} Hz or less, see `python -m helpers models`"
    )


def _estimates(path, shape, separator, only, two_stems, add_up):
    """Yield {source: waveform (channels, some samples)} of a file, one after the other."""
    rate, names, blocks_done = shape.sample_rate, (), 0
    inner = getattr(separator, "separator", separator)  # an EverySpeed's
    block, shared = inner.block(rate) if hasattr(inner, "block") else (round(BLOCK * rate), round(SHARED * rate))
    count = 1 + max(0, -(-(shape.frames - block) // (block - shared)))
    report = getattr(separator, "progress", None)

    def separate(blocks):  # (1, channels, time) -> (1, sources, channels, time)
        nonlocal names, blocks_done
        if report:
            separator.progress = lambda done, before=blocks_done: report((before + done) / count)
        estimates = separator(blocks[0], rate)
        estimates = share_residual(estimates, blocks[0]) if add_up else estimates
        estimates = _chosen(estimates, only, two_stems)
        names, blocks_done = tuple(estimates), blocks_done + 1
        return torch.stack(list(estimates.values()))[None]

    def read(start, stop):
        return audio.read_audio(path, start, stop - start)[0]

    try:
        for piece in in_pieces(separate, read, shape.frames, block, shared):
            yield dict(zip(names, piece, strict=True))
    finally:
        if report:
            separator.progress = report


def _chosen(estimates, only, two_stems):
    """Return the estimates that were asked for."""
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


def _write_raw(part, pieces, shape):
    """Write pieces of estimates to float files, PART/SOURCE.part; return the files and the largest sample of all."""
    files, loudest = {}, 0.0
    with contextlib.ExitStack() as stack:
        for estimates in pieces:
            for name, estimate in estimates.items():
                path = part / f"{name}.part"
                if path not in files:
                    out = soundfile.SoundFile(path, "w", shape.sample_rate, shape.channels, "FLOAT", format="RF64")
                    files[path] = stack.enter_context(out)
                files[path].write(estimate.T.numpy())
                if estimate.numel():
                    loudest = max(loudest, float(estimate.abs().max()))
    return list(files), loudest


def _subtype(path, form, loudest):
    """Return soundfile's name of the depth that the estimates of a file are written in."""
    if form == "mp3":
        return "MPEG_LAYER_III"
    with open_sound(path) as file:
        depth = file.subtype
    if form == "wav" and (loudest > 1 or depth in ("FLOAT", "DOUBLE", "PCM_32")):
        return "FLOAT"
    return "PCM_24" if depth in ("PCM_24", "PCM_32", "FLOAT", "DOUBLE") else "PCM_16"


def _converted(raw, form, subtype, loudest):
    """Write a float file in another format, softer by `loudest` unless it stays float; return the new file's path."""
    gain = 1.0 if subtype == "FLOAT" else 1 / loudest
    target = raw.with_suffix(f".{form}")
    with soundfile.SoundFile(raw) as source:
        large = form == "wav" and source.frames * source.channels * 4 > 2**32 - 2**16  # RF64 is WAV without its limit
        container = "RF64" if large else form.upper()
        with soundfile.SoundFile(target, "w", source.samplerate, source.channels, subtype, format=container) as out:
            for samples in source.blocks(2**20, dtype="float32", always_2d=True):
                out.write(samples * gain)
    raw.unlink()
    return target


# ---- many files --------------------------------------------------------------------------------------------------


def song_folders(inputs, output=None):
    """Return {file: its folder in the output}: SONG, or for the files of a folder FOLDER/…/SONG, as they lie in it.

    SONG is the file's name without its ending; where that is taken, with more of its path, or a number. Hidden files,
    and results in `output`, are left out. Raises UserError where the results of a folder would lie among its songs.
    """
    parents = {}  # {file: folder above SONG}
    for path in map(Path, inputs):
        files = _audio_in(path, output) if os.path.isdir(path) else []
        for file in files or [path]:
            parents.setdefault(file, Path(path.resolve().name, file.parent.relative_to(path)) if files else Path())
    folders, taken = {}, set()
    for path, parent in parents.items():
        stem = path.stem if path.stem.strip(".") else path.name  # "...wav" must not name the folder above
        longer = f"{path.absolute().parent.name}-{path.name}"
        names = itertools.chain([stem, longer], (f"{longer} ({number})" for number in itertools.count(2)))
        folders[path] = next(parent / name for name in names if str(parent / name).casefold() not in taken)
        taken.add(str(folders[path]).casefold())
    return folders


def _audio_in(folder, output):
    """Return the audio files below a folder, sorted; see song_folders for what is left out."""
    results = Path(output or os.devnull).resolve()
    if folder.resolve() == results:
        results = results / results.name  # see song_folders
    elif folder.resolve() == results / folder.resolve().name:
        raise UserError(f"the results would lie among the songs of {folder}: choose another output than {output}")
    inside = results.is_relative_to(folder.resolve())
    files = []
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        ours = inside and path.resolve().is_relative_to(results)
        song = path.suffix.lower() in AUDIO and os.path.isfile(path)
        closed = os.path.isdir(path) and not os.access(path, os.R_OK | os.X_OK)  # to be named, not left out
        if (song or closed) and not hidden and not ours:
            files.append(path)
    return files


def separate_files(inputs, output, separator, name, **options):
    """Separate audio files, and those in folders, into `output`/SONG/`name`/SOURCE.wav.

    options: separate_file's. Yields (path, files written, None or the UserError) of each; an input that fails does not
    stop the others. Raises UserError at once where the separator has not the sources that the options name.
    """
    sources = getattr(separator, "sources", getattr(separator, "names", ()))
    if sources:
        _chosen(dict.fromkeys(sources, 0), options.get("only", ()), options.get("two_stems", False))
    for path, song in song_folders(inputs, output).items():
        try:
            yield path, separate_file(path, Path(output) / song / name, separator, **options), None
        except UserError as error:
            yield path, [], error if str(path) in str(error) else UserError(f"{path}: {error}")


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
