"""Where am I running, and with what: seed, device, profile, paths, versions."""

import contextlib
import errno
import importlib.metadata
import os
import platform
import random
import subprocess
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parent.parent  # the project's folder, wherever it was cloned
BUILD = ROOT / "build"  # everything that may be thrown away
COMMITTED_PROFILES = ("long", "full")  # the profiles whose results may be committed
PACKAGES = ("torch", "torchvision", "torchaudio", "numpy", "scipy", "librosa", "matplotlib", "ipywidgets", "IPython")


class UserError(Exception):
    """Something the reader can mend: one sentence that names the file (or option) and the remedy."""


def seed_everything(seed):
    """Seed Python, NumPy and torch; call it again before any cell whose numbers are checked."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def pick_device(name="auto"):
    """Return a torch.device: the first GPU where there is one (`auto`), else the CPU.

    Raises UserError if `name` asks for a device that torch cannot reach here.
    """
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


def fast_bfloat16(device):
    """True where `device` computes in bfloat16 faster than in float32: recent NVIDIA GPUs, CPUs with AVX512-BF16."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    cpuinfo = Path("/proc/cpuinfo")  # Linux only; elsewhere we do without
    return device.type == "cpu" and cpuinfo.exists() and "avx512_bf16" in cpuinfo.read_text()


def pick_profile(profiles, name=None):
    """Choose one of a notebook's profiles; return its name and its settings.

    `name` defaults to the environment variable BSS_PROFILE, else to 'auto': 'full' where there is a GPU, 'quick'
    where there is none. Raises UserError for a name that `profiles` (a dict) does not hold.
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


def output_dir(kind, profile, embedded=False):
    """Return (and make) the folder that takes `kind` ('results', 'figures' or 'checkpoints') of this run.

    Only the profiles of COMMITTED_PROFILES, on real data, write to the committed folders; every other run writes under
    `build/`, so that trying a notebook never overwrites a published number.
    """
    homes = {"results": ROOT / "report" / "results", "figures": ROOT / "figures", "checkpoints": ROOT / "checkpoints"}
    keep = profile in COMMITTED_PROFILES and not embedded
    folder = homes[kind] if keep else BUILD / kind
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_atomically(path, content):
    """Write bytes to `path` in one step and return it: a failed write leaves what was there before, and no more.

    `content` is the bytes, or a function that writes them to the open binary file it is given.
    Raises UserError if the disk is full or the folder cannot be written.
    """
    path = Path(path)
    part = path.with_name(path.name + ".part")
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


def on_colab():
    """True in a Google Colab runtime."""
    return bool(os.environ.get("COLAB_RELEASE_TAG"))


def versions():
    """Return {package: installed version} of Python and the packages that results depend on."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "absent"
    return found


def git_revision():
    """Return the short revision of the project's checkout, 'unknown' outside a git checkout."""
    try:
        done = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    except FileNotFoundError:  # no git on this machine, as in a ZIP's user's home
        return "unknown"
    return done.stdout.strip() or "unknown"
