"""The images of notebook 01: MNIST digits, Fashion-MNIST garments and their mixtures x = (a + b) / 2.

Without data folder and network, an embedded set takes their place: digits of scikit-learn's `load_digits` (real
handwriting) and garments drawn by code. It says so: see `banner`.
"""

import errno
import functools
import gzip
import hashlib
import math
import os
import shutil
import warnings
import zlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pooch
import requests
import torch
from scipy.ndimage import zoom
from sklearn.datasets import load_digits
from torchvision.datasets import MNIST, FashionMNIST

from helpers import runtime
from helpers.data import garments
from helpers.runtime import UserError

SPLITS = ("train", "validation", "test")
HELD_OUT = 5_000  # images at the end of each real training set that make the validation split
DIGIT_NAMES = tuple("0123456789")
GARMENT_NAMES = tuple(FashionMNIST.classes)
SETS = {"MNIST": MNIST, "FashionMNIST": FashionMNIST}  # torchvision knows their mirrors and the packed files' MD5

# MD5 of the files once unpacked: one check for packed files, repacked files and files that somebody unpacked
CHECKSUMS = {
    "MNIST/raw/train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "MNIST/raw/train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "MNIST/raw/t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "MNIST/raw/t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    "FashionMNIST/raw/train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
    "FashionMNIST/raw/train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
    "FashionMNIST/raw/t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
    "FashionMNIST/raw/t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
}

FORMS = {"train": (0, 1287), "validation": (1287, 1545), "test": (1545, 1797)}  # 10, 2 and 2 forms of load_digits
DRAWN = {"train": (6_000, 1), "validation": (1_000, 2), "test": (1_000, 3)}  # count and seed of the drawn garments


@dataclass(frozen=True)
class ImageSet:
    """One split of digits and garments, not yet paired.

    `digits` and `garments` are uint8 tensors (count, 28, 28); the labels are int64 tensors (count,), indices into
    `digit_names` and `garment_names`. `embedded` is True where the images stand in for the real sets.
    """

    digits: torch.Tensor
    digit_labels: torch.Tensor
    garments: torch.Tensor
    garment_labels: torch.Tensor
    name: str
    split: str
    embedded: bool
    digit_names: tuple = DIGIT_NAMES
    garment_names: tuple = GARMENT_NAMES

    def to(self, device):
        """Return the same set with its images (not its labels) on `device`."""
        return replace(self, digits=self.digits.to(device), garments=self.garments.to(device))


def load_images(split, data_dir=None, source="auto", download=True):
    """Return the ImageSet of a split: 'train', 'validation' or 'test'.

    `source` is 'real' (MNIST and Fashion-MNIST), 'embedded', or 'auto': the real sets where they lie in `data_dir`
    (default: runtime.data_dir()), else downloaded where `download` allows it and there is a network, else the embedded
    set, with a warning. The real validation split is the last 5,000 of each set's 60,000 training images.
    Raises UserError where a file is damaged, or missing from a folder that has others, or where 'real' cannot be had.
    """
    if split not in SPLITS:
        raise UserError(f"unknown split '{split}': take one of {', '.join(SPLITS)}")
    if source not in ("auto", "real", "embedded"):
        raise UserError(f"unknown source '{source}': take 'auto', 'real' or 'embedded'")
    if source == "embedded":
        return embedded_images(split)
    folder = Path(data_dir) if data_dir else runtime.data_dir()
    absent = [file for file in CHECKSUMS if on_disk(folder / file) is None]
    if absent and download and online():
        fetch(folder)
    elif len(absent) == len(CHECKSUMS) and source == "auto":
        lack = f"MNIST and Fashion-MNIST are not in {folder} and were not downloaded"
        warnings.warn(f"{lack}: the embedded images take their place", stacklevel=2)
        return embedded_images(split)
    elif absent:
        raise UserError(f"{folder / absent[0]}.gz is missing: {remedy(folder)}, or take source='embedded'")
    return real_images(split, folder)


def banner(image_set):
    """Return a sentence (Markdown) that says what the images are; a loud one for the embedded set."""
    counts = f"{len(image_set.digits):,} digits, {len(image_set.garments):,} garments"
    what = f"{image_set.name} ({image_set.split}: {counts})"
    if not image_set.embedded:
        return f"Data: {what}."
    return (
        f"**Embedded data, not MNIST and Fashion-MNIST:** {what}. Its numbers are not comparable with published ones. "
        "`python -m helpers fetch` downloads the real sets."
    )


# ---- the real sets -----------------------------------------------------------------------------------------------


def remedy(folder):
    """Return what to do about missing or damaged files of a data folder."""
    return f"run `python -m helpers fetch --data-dir {folder}` to download it"


def on_disk(path):
    """Return the path of a data file: packed (.gz) where it is there, else unpacked, else None."""
    return next((found for found in (Path(f"{path}.gz"), path) if found.exists()), None)


def read_idx(folder, file):
    """Return the uint8 array of an idx file (a key of CHECKSUMS) in the data folder, packed or not.

    Raises UserError if it cannot be read, is cut short or is not, byte for byte, the published file.
    """
    path = on_disk(folder / file)
    try:
        raw = path.read_bytes()
        content = gzip.decompress(raw) if path.suffix == ".gz" else raw
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} cannot be read ({error}): {remedy(folder)} again") from error
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != CHECKSUMS[file]:
        wrong = f"its checksum is wrong ({len(raw)} bytes)"
        raise UserError(f"{path} is damaged or cut short, {wrong}: {remedy(folder)} again")
    sizes = np.frombuffer(content, ">u4", count=content[3], offset=4)  # the fourth byte counts the dimensions
    return np.frombuffer(content, np.uint8, offset=4 + 4 * len(sizes)).reshape(sizes)


def real_images(split, folder):
    """Return a split of MNIST and Fashion-MNIST as an ImageSet; all their files are in the data folder."""
    part = {"train": slice(None, -HELD_OUT), "validation": slice(-HELD_OUT, None), "test": slice(None)}[split]
    kept = []
    for name in SETS:
        stem = f"{name}/raw/{'t10k' if split == 'test' else 'train'}"
        kept.append(torch.tensor(read_idx(folder, f"{stem}-images-idx3-ubyte")[part]))
        kept.append(torch.tensor(read_idx(folder, f"{stem}-labels-idx1-ubyte")[part]).long())
    return ImageSet(*kept, name="MNIST + Fashion-MNIST", split=split, embedded=False)


@functools.cache
def online():
    """True if a mirror of each set answers within three seconds; asked once per process."""

    def answers(url):
        try:
            return requests.head(url, timeout=3, allow_redirects=True).ok
        except requests.RequestException:
            return False

    return all(any(answers(mirror + data.resources[-1][0]) for mirror in data.mirrors) for data in SETS.values())


def fetch(data_dir=None):
    """Download what is missing or damaged of MNIST and Fashion-MNIST (43 MB); return the data folder.

    Files lie as torchvision lays them, FOLDER/MNIST/raw/train-images-idx3-ubyte.gz and so on, from its mirrors.
    Raises UserError without network, disk space or the right to write; nothing half-finished stays behind.
    """
    folder = Path(data_dir) if data_dir else runtime.data_dir()
    for name, data in SETS.items():
        for packed, md5 in data.resources:
            file = f"{name}/raw/{packed.removesuffix('.gz')}"
            if not sound(folder, file):
                print(f"downloading {name}/raw/{packed}")
                download([mirror + packed for mirror in data.mirrors], folder / f"{file}.gz", md5)
    return folder


def sound(folder, file):
    """True if a data file is there and undamaged."""
    try:
        return on_disk(folder / file) is not None and read_idx(folder, file) is not None
    except UserError:
        return False


def download(urls, target, md5):
    """Download a file from the first of `urls` that has it; `target` appears only once its checksum is right.

    Raises UserError if none has it, or if it cannot be written.
    """
    pooch.get_logger().setLevel("WARNING")
    part = target.parent / "download.part"  # what a killed download leaves here goes with the next one
    reasons = []
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        for url in urls:
            try:
                got = pooch.retrieve(url, f"md5:{md5}", target.name, part, downloader=pooch.HTTPDownloader(timeout=30))
                os.replace(got, target)
                return
            except requests.RequestException as error:
                reasons.append(f"{url}: {type(error).__name__}")
            except ValueError:
                reasons.append(f"{url}: cut short or wrong checksum")
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise UserError(f"no space left for {target}: free 100 MB, or choose another folder with --data") from error
        raise UserError(f"{target} cannot be written ({error}): choose another folder with --data") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    raise UserError(
        f"{target.name} could not be downloaded ({'; '.join(reasons)}): try again with a network, copy the file to "
        f"{target}, or take source='embedded'"
    )


# ---- the embedded set --------------------------------------------------------------------------------------------


@functools.cache
def embedded_images(split):
    """Return a split of the embedded set: digits of load_digits, and garments drawn by code, as an ImageSet.

    The digits come in 14 forms, each filled in by one hand, one after another; a form belongs to one split alone.
    """
    start, stop = FORMS[split]
    digits, labels = load_digits(return_X_y=True)
    drawn, kinds = garments.draw_garments(*DRAWN[split])
    return ImageSet(
        torch.tensor(enlarge(digits[start:stop].reshape(-1, 8, 8) / 16)),
        torch.tensor(labels[start:stop]).long(),
        torch.tensor(drawn),
        torch.tensor(kinds).long(),
        name="embedded digits + drawn garments",
        split=split,
        embedded=True,
        garment_names=garments.NAMES,
    )


def enlarge(small):
    """Enlarge (count, 8, 8) images of [0, 1] to uint8 (count, 28, 28): smooth strokes of MNIST's size and contrast."""
    framed = np.pad(small, ((0, 0), (1, 1), (1, 1)))
    large = zoom(framed, (1, 2.4, 2.8), order=3, mode="grid-constant", grid_mode=True)  # (count, 24, 28)
    inked = np.clip((large - 0.38) / 0.42, 0, 1)
    strokes = inked * inked * (3 - 2 * inked)
    return (255 * np.pad(strokes, ((0, 0), (2, 2), (0, 0)))).round().astype(np.uint8)


# ---- mixtures ----------------------------------------------------------------------------------------------------


def mix(digit, garment):
    """Return the mixture x = (a + b) / 2 of two tensors of the same shape."""
    return (digit + garment) / 2


def gather_pairs(image_set, digit_index, garment_index):
    """Return (mixture, digit, garment) of the pairs, each float32 (count, 1, 28, 28) in [0, 1], on the set's device."""
    device = image_set.digits.device
    digit = image_set.digits[digit_index.to(device)].unsqueeze(1).float() / 255  # (count, 1, 28, 28)
    garment = image_set.garments[garment_index.to(device)].unsqueeze(1).float() / 255
    return mix(digit, garment), digit, garment


def fixed_pairs(image_set, count, seed=0):
    """Return (digit_index, garment_index), int64 (count,): the same pairs for the same seed, none of them twice.

    Each image is taken equally often, give or take one: with as many pairs as images, once.
    Raises UserError if there are not so many different pairs.
    """
    digits, dresses = len(image_set.digits), len(image_set.garments)
    if not 0 < count <= digits * dresses:
        raise UserError(f"count={count} pairs of {digits} digits and {dresses} garments: take 1 to {digits * dresses}")
    generator = torch.Generator().manual_seed(seed)
    first, second = (torch.randperm(size, generator=generator) for size in (digits, dresses))
    index = torch.arange(count)
    # Walking both lists round and round meets a pair again after lcm steps: go on one garment further from there.
    return first[index % digits], second[(index + index // math.lcm(digits, dresses)) % dresses]


class PairSampler:
    """Random pairs, mixed on the device where the images stay: batches of (mixture, digit, garment).

    `generator` is a torch.Generator of the CPU that the caller owns, so that the pairs are the same on every device and
    a run resumes exactly from the generator's saved state.
    """

    def __init__(self, image_set, batch_size, generator, device="cpu"):
        self.images = image_set.to(device)
        self.batch_size = batch_size
        self.generator = generator

    def sample(self):
        """Return one batch: mixture, digit and garment, each float32 (batch, 1, 28, 28) in [0, 1]."""
        sizes = len(self.images.digits), len(self.images.garments)
        picks = (torch.randint(size, (self.batch_size,), generator=self.generator) for size in sizes)
        return gather_pairs(self.images, *picks)

    def batches(self, steps):
        """Yield `steps` batches."""
        for _ in range(steps):
            yield self.sample()
