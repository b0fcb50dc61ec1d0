"""Which program reads an audio file: libsndfile where it can read all of it, else ffmpeg, which unpacks it to WAV.

open_sound() alone decides, by a file's content and not by its ending. libsndfile reads WAV, FLAC, OGG, MP3 and AIFF
(torchaudio's own reader needs TorchCodec), ffmpeg everything else: M4A, videos, the .stem.mp4 files of MUSDB18, MP3
files that do not say how long they are.

What ffmpeg unpacks lies in the cache, build/cache, which may be deleted at any time (`make clean` does). Where the
project's folder is read-only, a temporary folder takes its place, which is removed when the program ends.
"""

import contextlib
import hashlib
import os
import re
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

import soundfile

from helpers import runtime
from helpers.runtime import UserError

# The first frame of an MP3 file that says how many frames and bytes it has; "Info" is Xing's for a constant rate.
XING = rb"\xff[\xe2-\xff].{11,36}(?:Xing|Info)\0\0\0[\3\7\x0b\x0f](?P<frames>.{4})(?P<size>.{4})"
VBRI = rb"\xff[\xe2-\xff].{34}VBRI.{6}(?P<size>.{4})(?P<frames>.{4})"
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

    Raises UserError if the file is missing or empty, or if neither program can read it.
    """
    path = Path(path)
    try:
        mode = path.stat().st_mode
        str(path).encode()
    except FileNotFoundError as error:
        raise UserError(f"there is no file {path}: check its name") from error
    except OSError as error:
        raise UserError(f"{path} may not be read ({error.strerror}): check its name and its permissions") from error
    except UnicodeEncodeError as error:
        raise UserError(f"the name {str(path)!a} is not in UTF-8: rename the file") from error
    if not os.access(path, os.R_OK | os.X_OK if stat.S_ISDIR(mode) else os.R_OK):
        raise UserError(f"{path} may not be read: change its permissions")
    if stat.S_ISDIR(mode):
        raise UserError(f"{path} is a folder: give the audio files in it")
    if not stat.S_ISREG(mode):
        raise UserError(f"{path} is a pipe or a device, which has no length: save it to a file first, and give that")
    with open(path, "rb") as file:
        beginning = file.read(512).lstrip().lower()
    if beginning.startswith((b"<!doctype", b"<html")):
        raise UserError(f"{path} is a web page, no audio: check the address and download it again")
    if beginning.startswith(b"oggs"):
        _refuse_cut_ogg(path)
    file = _open_with_libsndfile(path) or soundfile.SoundFile(unpack_streams(path)[0])
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


def _there(found, promised):
    return f"only {found:.1f} of {promised:.1f} s are there"


def _refuse_cut(path, file):
    """Raise UserError if the header of an open file promises more samples than there are."""
    found = [match for note in NOTES for match in re.finditer(note, file.extra_info, re.MULTILINE)]
    for promised, there in ((int(match["promised"]), int(match["found"])) for match in found):
        seconds = file.frames / file.samplerate
        if promised not in UNKNOWN and (promised / max(1, there) - 1) * seconds > LEAST_MISSING:
            file.close()
            raise UserError(cut_short(path, _there(seconds, seconds * promised / max(1, there))))


def _refuse_cut_ogg(path):
    """Raise UserError if an Ogg file ends within a page: it does not say how long it should be."""
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - OGG_PAGE))
        end = file.read()
    page = end[end.rfind(b"OggS") :]
    sizes = page[27 : 27 + page[26]] if len(page) > 26 else b""
    if len(page) < 27 + len(sizes) + sum(sizes) or len(page) < 27 + page[26]:
        raise UserError(cut_short(path, "it breaks off within a page of its data"))


def _mp3_end(path):
    """Return where an MP3 file says that its last frame ends, in bytes; None if it does not say how long it is."""
    with open(path, "rb") as file:
        head, start = file.read(10), 0
        if head[:3] == b"ID3":  # a tag of text and pictures; its length is in four times seven bits
            start = 10 + sum(byte << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True))
        file.seek(start)
        first = file.read(4096)
    found = re.search(XING, first, re.DOTALL) or re.search(VBRI, first, re.DOTALL)
    frames, size = (int.from_bytes(found[name], "big") if found else 0 for name in ("frames", "size"))
    return start + found.start() + size if frames else None


# ---- ffmpeg ------------------------------------------------------------------------------------------------------


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


def unpack_streams(path, count=1):
    """Unpack the first `count` audio streams of a file to WAV, once; return their paths in the cache.

    They have 24 bits, or are floats, where the streams are lossless and as deep; else 16 bits. The files appear
    together, when all are whole. Raises UserError without ffmpeg, or if it fails on this file, as it does where there
    are fewer streams.
    """
    path = Path(path)
    target = cached("unpacked", path, count)
    names = [f"{stream}.wav" for stream in range(count)]
    if target.exists():
        return [target / name for name in names]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix="part-") as folder:
            part = Path(folder) / "streams"
            part.mkdir()
            output, (codecs, promised) = [], _described(path)
            for stream, name in enumerate(names):
                codec = codecs[stream] if stream < len(codecs) else "pcm_s16le"
                output += ["-map", f"0:a:{stream}", "-c:a", codec, "-rf64", "auto", str(part / name)]
            done = _run_ffmpeg(path, *output)
            if done.returncode or not all((part / name).exists() for name in names):
                raise UserError(_refusal(path, count, done.stderr))
            if done.stderr:
                _refuse_partial([part / name for name in names], path, promised, done.stderr)
            with contextlib.suppress(FileExistsError):  # another process was faster
                part.replace(target)
    except OSError as error:
        if not target.exists():
            raise UserError(f"cannot unpack {path} ({error}): free disk space or choose another folder") from error
    return [target / name for name in names]


def _described(path):
    """Return what ffmpeg says of a file: ([a codec for each audio stream], the seconds that its header promises or 0).

    A codec is the name of the one that holds the stream in WAV without loss, with 16 bits if it is lossy.
    """
    said = _run_ffmpeg(path, loglevel="info").stderr
    deep = {r"^pcm_f|^wavpack.* fltp": "pcm_f32le", r" s32p?\b": "pcm_s24le"}
    codecs = [
        next((codec for sign, codec in deep.items() if re.search(sign, stream)), "pcm_s16le")
        for stream in re.findall(r"Stream #.*: Audio: (.*)", said)
    ]
    length = re.search(r"Duration: (\d+):(\d+):([\d.]+)", said)
    if not length or "Estimating duration" in said:
        return codecs, 0.0
    return codecs, 3600 * int(length[1]) + 60 * int(length[2]) + float(length[3])


def _refuse_partial(files, path, promised, complaints):
    """Raise UserError if ffmpeg, which complained, unpacked less of a file than its header promises."""
    there = max(soundfile.info(str(file)).duration for file in files)
    if promised - there > LEAST_MISSING:
        raise UserError(cut_short(path, _there(there, promised)))
    if re.search(BROKEN_OFF, complaints) and not promised:
        raise UserError(cut_short(path, f"only {there:.1f} s of it are there"))


def _refusal(path, count, complaints):
    """Return the sentence for a file from which ffmpeg did not get `count` audio streams."""
    no_stream = "matches no streams" in complaints
    if no_stream and count == 1:
        return f"{path} has no sound: give a file with an audio stream"
    if no_stream:
        return f"{path} has fewer than {count} audio streams: get the file again"
    if "No space left" in complaints:
        return f"cannot unpack {path} to {runtime.cache_dir()} (No space left on device): free disk space"
    reason = (complaints.strip().splitlines() or ["no reason given"])[-1].rpartition(": ")[2]
    return f"{path} cannot be read as audio (ffmpeg: {reason}): give a WAV, FLAC, OGG, MP3 or M4A file, or get it again"


def stream_titles(path):
    """Return the titles of a file's audio streams, "" for one without; an empty list where nothing can be read.

    Stem files of Native Instruments' kind hold those of all streams but the first, the mixture, in a piece of JSON.
    """
    stems = re.search(rb'"stems"\s*:\s*\[([^\]]*)\]', path.read_bytes())
    if stems:
        return ["mixture", *(name.decode() for name in re.findall(rb'"name"\s*:\s*"([^"]*)"', stems[1]))]
    done = _run_ffmpeg(path, "-map", "0:a", "-c", "copy", "-t", "0", "-f", "ffmetadata", "-")
    found = [re.search(r"^(?:title|name)=(.*)$", part, re.MULTILINE) for part in done.stdout.split("[STREAM]")[1:]]
    return [title[1] if title else "" for title in found]
