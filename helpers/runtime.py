"""Where am I running, and with what: seed, device, profile, paths, versions."""

import atexit
import contextlib
import errno
import functools
import importlib.metadata
import os
import platform
import secrets
import shutil
import subprocess
import tempfile
from pathlib import Path

import torch
from accelerate.utils import convert_to_fp32, find_device, set_seed

ROOT = Path(__file__).resolve().parent.parent  # the project's folder, wherever it was cloned
BUILD = ROOT / "build"  # everything that may be thrown away
COMMITTED_PROFILES = ("full",)  # the profiles whose results may be committed
PACKAGES = ("torch", "torchvision", "torchaudio", "numpy", "scipy", "librosa", "matplotlib", "ipywidgets", "IPython")
seed_everything = set_seed  # of Python, NumPy and torch; call it again before any cell whose numbers are checked


class UserError(Exception):
    """Something the reader can mend: one sentence that names the file (or option) and the remedy."""


def pick_device(name="auto"):
    """Return a torch.device, by `auto` a GPU where there is one; UserError for one that torch cannot reach here."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, ImportError) as error:
        raise UserError(f"device '{name}' cannot be used here ({error}): take 'cpu' or 'auto'") from error
    return device


def describe_device(device):
    """Return the device in words, for a results file: 'NVIDIA T4' or '2 CPU cores (x86_64)'."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "mps":
        return f"Apple GPU ({platform.machine()})"
    return f"{torch.get_num_threads()} CPU cores ({platform.machine()})"


def precision(device):
    """Return the fastest mixed precision on a device: bf16 from NVIDIA's Ampere on, fp16 before, as on Colab's T4."""
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp16"
    cpuinfo = Path("/proc/cpuinfo")  # Linux only; elsewhere we do without
    fast = device.type == "cpu" and cpuinfo.exists() and "avx512_bf16" in cpuinfo.read_text()
    return "bf16" if fast else "no"


def in_float32(function):
    """Decorate a function (or method) of tensors so that it computes in float32 even where mixed precision is on.

    For the STFT, its inverse and LSTMs: 16 bits lose the quiet bins of a spectrogram, cuFFT knows no bfloat16, and
    cuDNN runs LSTMs in float16 whatever was asked for. Only 16-bit tensors, also in tuples, are widened.
    """

    @functools.wraps(function)
    def widened(*arguments, **named):
        arguments, named = convert_to_fp32((arguments, named))
        kind = find_device((arguments, named)).type
        known = torch.amp.is_autocast_available(kind)  # torch's device "meta" has no autocast
        with torch.autocast(kind, enabled=False) if known else contextlib.nullcontext():
            return function(*arguments, **named)

    return widened


def pick_profile(profiles, name=None):
    """Choose one of a notebook's profiles {name: settings}; return its name and its settings.

    `name` defaults to the environment variable BSS_PROFILE, else to 'auto': 'full' with a GPU, 'quick' without.
    """
    name = name or os.environ.get("BSS_PROFILE") or "auto"
    if name == "auto":
        name = "full" if torch.cuda.is_available() else "quick"
    if name not in profiles:
        raise UserError(f"unknown profile '{name}': set BSS_PROFILE to auto or one of {', '.join(profiles)}")
    return name, profiles[name]


def data_dir():
    """Return the folder of the data sets: BSS_DATA_DIR, else `data/` in the project."""
    return Path(os.environ.get("BSS_DATA_DIR") or ROOT / "data").expanduser()


@functools.cache
def cache_dir():
    """Return the folder for what can be made again: build/cache, or a temporary one where that cannot be written."""
    if os.access(BUILD if BUILD.exists() else ROOT, os.W_OK):
        return BUILD / "cache"
    folder = tempfile.mkdtemp(prefix="bss-cache-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def write_atomically(path, content):
    """Write bytes to `path` in one step and return it: a failed write leaves what was there before, and no more.

    `content` is the bytes, or a function that writes them to an open binary file. Raises UserError.
    """
    path = Path(path)
    part = path.with_name(f"{path.name[:40]}.{secrets.token_hex(8)}.part")  # one of each writer's own
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(part, "wb") as file:
            content(file) if callable(content) else file.write(content)
        os.replace(part, path)
    except OSError as error:
        remedy = "free some disk space" if error.errno == errno.ENOSPC else "choose a folder you may write to"
        raise UserError(f"{path} cannot be written ({error.strerror}): {remedy}") from error
    finally:
        with contextlib.suppress(OSError):  # where nothing could be written, there is nothing to remove either
            part.unlink()
    return path


def check_writable(path):
    """Raise UserError unless a file can be written to `path`, whose folder is made; nothing there is changed."""
    try:
        if Path(path).is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=Path(path).parent).close()
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}): give a file in a folder of yours") from error


def versions():
    """Return {package: installed version} of Python and the packages that results depend on."""
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in PACKAGES}


def git_revision():
    """Return the short revision of the project's checkout, 'unknown' outside one.

    It ends in '-dirty' where a tracked file has been changed since, but for the figures and results that runs write.
    """

    def git(*command):
        return subprocess.run(["git", *command], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != ROOT:
            return "unknown"  # unpacked inside some other checkout
        changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!figures", ":!report/results")
        return git("rev-parse", "--short", "HEAD") + "-dirty" * bool(changed)
    except (FileNotFoundError, subprocess.CalledProcessError):  # no git on this machine, no checkout
        return "unknown"


def check_space(path, size):
    """Raise OSError (no space left) unless `size` more bytes fit on the disk that holds the folder of `path`."""
    if size > shutil.disk_usage(Path(path).parent).free:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
