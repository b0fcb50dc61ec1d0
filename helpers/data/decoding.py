"""Which program reads an audio file: libsndfile where it can read all of it, else ffmpeg, which unpacks it to WAV.

open_sound() alone decides, by a file's content and not by its ending. What ffmpeg unpacks lies in the cache,
build/cache, which may be deleted at any time.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import soundfile

from helpers import runtime
from helpers.runtime import UserError, write_atomically

ENDINGS = (  # of audio files, in lower case
    ".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".mp2", ".aiff", ".aif", ".aifc", ".caf", ".au", ".w64", ".rf64",
    ".m4a", ".m4b", ".aac", ".ac3", ".wma", ".wv", ".mka",
)  # fmt: skip
# The first frame of an MP3 file that says how many frames and bytes it has; "Info" is Xing's for a constant rate.
XING = rb"\xff[\xe2-\xff].{11,36}(?:Xing|Info)\0\0\0[\3\7\x0b\x0f](?P<frames>.{4})(?P<size>.{4})"
# What libsndfile notes where a WAV, AIFF, AU, RF64 or W64 file ends before it should, in bytes or samples.
NOTES = (
    r"^ *(?:data|SSND|Data Size|riff) *: (?P<promised>\d+) \(should be (?P<found>\d+)\)",
    r"frame count (?P<found>\d+) does not match value from 'ds64' chunk of (?P<promised>\d+)",
)
UNKNOWN = range(0x7FF0_0000, 2**32)  # sizes that programs write into a WAV's header where they know none, as to a pipe
BROKEN_OFF = r"partial file|ended prematurely|Error during demuxing|decode_frame\(\) failed"  # what ffmpeg calls it
LEAST_MISSING = 0.05  # seconds; headers are wrong by some bytes even in files that are whole
OGG_PAGE = 27 + 255 + 255 * 255  # bytes, at most


def open_sound(path):
    """Return a SoundFile of all that an audio file holds: of the file itself, or of what ffmpeg unpacked from it.

    Raises UserError if the file is missing, empty or cut short, or if neither program can read it.
    """
    path = Path(path)
    try:
        str(path).encode()
        if path.is_dir():
            raise UserError(f"{path} is a folder: give the audio files in it")
        if path.exists() and not path.is_file():  # to open a pipe would wait for its other end
            raise UserError(f"{path} is a pipe or a device: save it to a file first, and give that")
        with open(path, "rb") as file:
            is_ogg = file.read(4) == b"OggS"
    except FileNotFoundError as error:
        raise UserError(f"there is no file {path}: check its name") from error
    except (OSError, UnicodeEncodeError) as error:
        reason = getattr(error, "strerror", None) or "its name is not in UTF-8"
        raise UserError(f"{path} may not be read ({reason}): change its name or its permissions") from error
    if is_ogg:
        _refuse_cut_ogg(path)
    file = _open_with_libsndfile(path) or soundfile.SoundFile(unpack_stream(path))
    if file.frames <= 0:
        file.close()
        raise UserError(f"{path} holds no samples: record or download it again")
    return file


def _open_with_libsndfile(path):
    """Return a SoundFile, or None where libsndfile cannot read the file, all of it, and from any sample on.

    An MP3 file that does not say how long it is does not count: libsndfile guesses, and cuts it there. Nor does one
    that is longer than it says, as where files were put one behind the other: the first frame speaks of the first one
    only. These are kept from libsndfile, which would complain on standard error.
    """
    end, size = _mp3_end(path), path.stat().st_size
    if end and size > end + 1024:  # a small tag may come last
        return None
    if end and size < 0.99 * end:
        raise UserError(cut_short(path, f"{(end - size) / end:.0%} of it is missing"))
    # Opened without its name: for the ending .mp3, libsndfile would look for MP3 frames in whatever it is.
    source = os.open(path, os.O_RDONLY) if os.name == "posix" else path
    try:
        file = soundfile.SoundFile(source)
    except soundfile.SoundFileError:
        return None
    if 0 < file.frames < 2**62 and file.seekable() and (file.format != "MP3" or end):  # 2^63 - 1: a FLAC of a pipe
        _refuse_cut(path, file)
        return file
    file.close()
    return None


def cut_short(path, what):
    """Return the sentence for a file that ends before it should."""
    return f"{path} is cut short, {what}: get it again, or save what is there as a file of its own"


def _refuse_cut(path, file):
    """Raise UserError if the header of an open file promises more samples than there are."""
    for note in NOTES:
        for match in re.finditer(note, file.extra_info, re.MULTILINE):
            there, promised = file.frames / file.samplerate, int(match["promised"])
            missing = there * (promised / max(1, int(match["found"])) - 1)  # seconds
            if promised not in UNKNOWN and missing > LEAST_MISSING:
                file.close()
                raise UserError(cut_short(path, f"only {there:.1f} of {there + missing:.1f} s are there"))


def _refuse_cut_ogg(path):
    """Raise UserError if an Ogg file ends within a page: it does not say how long it should be."""
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - OGG_PAGE))
        end = file.read()
    page = end[end.rfind(b"OggS") :]
    segments = (page + bytes(27))[26]  # their sizes follow
    if len(page) < 27 + segments + sum(page[27 : 27 + segments]):
        raise UserError(cut_short(path, "it breaks off within a page of its data"))


def _mp3_end(path):
    """Return where an MP3 file says that its last frame ends, in bytes; None if it does not say how long it is."""
    with open(path, "rb") as file:
        head, start = file.read(10), 0
        if head[:3] == b"ID3":  # a tag of text and pictures; its length is in four times seven bits
            start = 10 + sum(byte << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True))
        file.seek(start)
        first = file.read(4096)
    found = re.search(XING, first, re.DOTALL)
    if found and any(found["frames"]):
        return start + found.start() + int.from_bytes(found["size"], "big")
    return None


def ffmpeg():
    """Return the path of the ffmpeg program, or of the one that the package imageio-ffmpeg brings.

    Raises UserError where there is none.
    """
    program = shutil.which("ffmpeg")
    if program:
        return program
    try:
        import imageio_ffmpeg

        return imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError) as error:
        raise UserError(
            "M4A, MP4 and other files that libsndfile cannot read need the program ffmpeg, which is not installed: "
            "`apt install ffmpeg`, `brew install ffmpeg`, `winget install ffmpeg` or `pip install imageio-ffmpeg`"
        ) from error


def _run_ffmpeg(path, *output, loglevel="error"):
    """Run ffmpeg on a file; return the finished process."""
    try:
        command = [ffmpeg(), "-nostdin", "-v", loglevel, "-i", str(path.resolve()), *output]
    except UserError as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    return subprocess.run(command, capture_output=True, text=True, errors="replace")


def cached(kind, path, *settings):
    """Return where in the cache a version of a file lies: another place when the file's time or size has changed."""
    state = path.stat()
    text = repr((str(path.resolve()), state.st_mtime_ns, state.st_size, *settings))
    return runtime.cache_dir() / kind / f"{path.stem[:40]}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def unpack_stream(path, stream=0):
    """Return the WAV file in the cache that an audio stream of a file is unpacked to, once.

    It has 24 bits, or floats, where the stream is lossless and as deep; else 16 bits. Raises UserError without ffmpeg,
    if it fails on this file, or if the file has no such stream or is cut short.
    """
    path = Path(path)
    target = cached("unpacked", path, stream)
    if not target.exists():
        write_atomically(target, lambda file: _unpack(path, stream, file.name))
    return target


def _unpack(path, stream, wav):
    said = _run_ffmpeg(path, loglevel="info").stderr  # what the file is
    about = [*re.findall(r"^ *Stream #.*: Audio: (.*)", said, re.MULTILINE), *[""] * (stream + 1)][stream]
    codec = "pcm_s24le" if re.search(r" s32p?\b", about) else "pcm_s16le"
    codec = "pcm_f32le" if re.search(r"^pcm_f|^wavpack.* fltp", about) else codec
    done = _run_ffmpeg(path, "-map", f"0:a:{stream}", "-c:a", codec, "-rf64", "auto", "-f", "wav", "-y", wav)
    if done.returncode:
        raise UserError(_refusal(path, stream, done.stderr))
    if not done.stderr:
        return
    there, length = soundfile.info(wav).duration, re.search(r"^  Duration: (\d+):(\d+):([\d.]+)", said, re.MULTILINE)
    if length and "Estimating duration" not in said:
        promised = 3600 * int(length[1]) + 60 * int(length[2]) + float(length[3])
        if promised - there > LEAST_MISSING:
            raise UserError(cut_short(path, f"only {there:.1f} of {promised:.1f} s are there"))
    elif re.search(BROKEN_OFF, done.stderr):
        raise UserError(cut_short(path, f"only {there:.1f} s of it are there"))


def _refusal(path, stream, complaints):
    """Return the sentence for a file from which ffmpeg did not get an audio stream."""
    if "matches no streams" in complaints:
        what = f"fewer than {stream + 1} audio streams" if stream else "no sound"
        return f"{path} has {what}: give a file with sound, or get it again"
    if "No space left" in complaints:
        return f"cannot unpack {path} to {runtime.cache_dir()} (No space left on device): free disk space"
    reason = (complaints.strip().splitlines() or ["no reason given"])[-1].rpartition(": ")[2]
    return f"{path} cannot be read as audio (ffmpeg: {reason}): give a WAV, FLAC, OGG, MP3 or M4A file, or get it again"


def stream_titles(path):
    """Return the titles of a file's audio streams, "" for one without; an empty list where nothing can be read.

    Stem files of Native Instruments' kind hold those of all streams but the first, the mixture, in a piece of JSON.
    """
    stems = re.search(rb'"stems"\s*:\s*(\[(?:[^\[\]"]|"(?:[^"\\]|\\.)*")*\])', path.read_bytes())
    if stems:
        return ["mixture", *(stem.get("name", "") for stem in json.loads(stems[1].decode(errors="replace")))]
    done = _run_ffmpeg(path, "-map", "0:a", "-c", "copy", "-t", "0", "-f", "ffmetadata", "-")
    found = [re.search(r"^(?:title|name)=(.*)$", part, re.MULTILINE) for part in done.stdout.split("[STREAM]")[1:]]
    return [title[1] if title else "" for title in found]
