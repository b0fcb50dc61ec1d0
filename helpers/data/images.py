"""The images of notebook 01: MNIST digits, Fashion-MNIST garments and their mixtures x = (a + b) / 2.

Without the files and without a network, an embedded set takes their place: digits of scikit-learn's `load_digits` (real
handwriting) and garments drawn by code. It says so: see `image_banner`.
"""

import functools
import math
import warnings
import zlib
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import zoom
from sklearn.datasets import load_digits

from helpers import runtime
from helpers.data import embedded
from helpers.data.download import online
from helpers.runtime import UserError

HELD_OUT = 5_000  # images at the end of each real training set that make the validation split
FORMS = {"train": (0, 1287), "validation": (1287, 1545), "test": (1545, 1797)}  # 10, 2 and 2 forms of load_digits
DRAWN = {"train": (3_000, 1), "validation": (600, 2), "test": (600, 3)}  # count and seed of the drawn garments


@dataclass(frozen=True)
class ImageSet:
    """One split of digits and garments, not yet paired.

    digits, garments: uint8 (count, 28, 28); their labels: int64 (count,), indices into digit_names and garment_names.
    embedded: True where the images stand in for the real sets.
    """

    digits: torch.Tensor
    digit_labels: torch.Tensor
    garments: torch.Tensor
    garment_labels: torch.Tensor
    name: str
    split: str
    embedded: bool
    digit_names: tuple = tuple("0123456789")
    garment_names: tuple = field(default_factory=lambda: tuple(sets()[1].classes))

    def to(self, device):
        """Return the same set with its images (not its labels) on `device`."""
        return replace(self, digits=self.digits.to(device), garments=self.garments.to(device))


@functools.cache
def sets():
    """Return torchvision's MNIST and FashionMNIST, which know their mirrors, checksums and layout on disk (43 MB)."""
    from torchvision.datasets import MNIST, FashionMNIST  # here: torchvision takes seconds to import

    return MNIST, FashionMNIST


def load_images(split):
    """Return the ImageSet of a split: 'train', 'validation' or 'test'.

    The files lie in runtime.data_dir(), where they are downloaded to if need be; without a network a warning says that
    the embedded set takes their place. Raises UserError for an unknown split, or a file that is damaged.
    """
    if split not in FORMS:
        raise UserError(f"unknown split '{split}': take one of {', '.join(FORMS)}")
    folder = runtime.data_dir()
    if not (on_disk(folder) or all(online(data.mirrors[0] + data.resources[-1][0]) for data in sets())):
        lack = f"MNIST and Fashion-MNIST are not (whole) in {folder} and there is no network"
        warnings.warn(f"{lack}: the embedded images take their place", stacklevel=2)
        return embedded_images(split)
    part = {"train": slice(None, -HELD_OUT), "validation": slice(-HELD_OUT, None), "test": slice(None)}[split]
    digits, garments = fetch_images(folder, train=split != "test")
    images = (digits.data[part], digits.targets[part], garments.data[part], garments.targets[part])
    return ImageSet(*images, name="MNIST + Fashion-MNIST", split=split, embedded=False)


def image_banner(image_set):
    """Return a sentence (Markdown) that says what the images are; a loud one for the embedded set."""
    digits, garments = len(image_set.digits), len(image_set.garments)
    what = f"{image_set.name} ({image_set.split}: {digits:,} digits, {garments:,} garments)"
    if not image_set.embedded:
        return f"Data: {what}."
    return (
        f"**Embedded data, not MNIST and Fashion-MNIST:** {what}. Its numbers are not comparable with published ones. "
        "`python -m helpers fetch` downloads the real sets."
    )


def on_disk(folder):
    """True if every file of both sets lies in a data folder, packed (.gz) or not."""
    packed = [Path(folder) / data.__name__ / "raw" / name for data in sets() for name, _ in data.resources]
    return all(path.exists() or path.with_suffix("").exists() for path in packed)


def fetch_images(folder, train=True):
    """Return torchvision's MNIST and FashionMNIST in a data folder, downloaded if need be; UserError if that fails."""
    try:
        return [data(folder, train=train, download=True) for data in sets()]
    except (OSError, EOFError, zlib.error, RuntimeError, ValueError, AssertionError) as error:
        reason = " ".join(str(error).split()) or "a file is cut short"
        remedy = "check network and disk, delete damaged files and run `python -m helpers fetch --data-dir"
        raise UserError(f"MNIST or FashionMNIST in {folder} cannot be had ({reason}): {remedy} {folder}`") from error


@functools.cache
def embedded_images(split):
    """Return a split of the embedded ImageSet; a form of load_digits, filled in by one person, is in one split."""
    start, stop = FORMS[split]
    digits, labels = load_digits(return_X_y=True)
    garments, kinds = embedded.draw_garments(*DRAWN[split])
    images = (enlarge(digits[start:stop].reshape(-1, 8, 8) / 16), labels[start:stop], garments, kinds)
    return ImageSet(*map(torch.tensor, images), name="embedded digits + drawn garments", split=split, embedded=True)


def enlarge(small):
    """Enlarge (count, 8, 8) images of [0, 1] to uint8 (count, 28, 28): smooth strokes of MNIST's size and contrast."""
    framed = np.pad(small, ((0, 0), (1, 1), (1, 1)))
    large = zoom(framed, (1, 2.4, 2.8), order=3, mode="grid-constant", grid_mode=True)  # (count, 24, 28)
    strokes = np.clip((large - 0.38) / 0.42, 0, 1)
    return (255 * np.pad(strokes, ((0, 0), (2, 2), (0, 0)))).round().astype(np.uint8)


def gather_pairs(image_set, digit_index, garment_index):
    """Return (mixture, digit, garment) of the pairs, each float32 (count, 1, 28, 28) in [0, 1], on the set's device."""
    device = image_set.digits.device
    digit = image_set.digits[digit_index.to(device)].unsqueeze(1).float() / 255  # (count, 1, 28, 28)
    garment = image_set.garments[garment_index.to(device)].unsqueeze(1).float() / 255
    return (digit + garment) / 2, digit, garment


def fixed_pairs(image_set, count, seed=0):
    """Return (digit_index, garment_index), int64 (count,): the same pairs for the same seed, none of them twice.

    Each image is taken equally often, give or take one. Raises UserError if there are not so many different pairs.
    """
    digits, garments = len(image_set.digits), len(image_set.garments)
    if not 0 < count <= digits * garments:
        raise UserError(f"count={count} pairs, but there are {digits * garments}: take 1 to {digits * garments}")
    generator = torch.Generator().manual_seed(seed)
    first, second = (torch.randperm(size, generator=generator) for size in (digits, garments))
    index = torch.arange(count)
    # Going through both lists again and again repeats a pair after lcm steps: from there on, shift by one garment.
    return first[index % digits], second[(index + index // math.lcm(digits, garments)) % garments]


class PairSampler:
    """Random pairs, mixed on the device that holds the images: batches of (mixture, digit, garment).

    `generator` is a torch.Generator of the CPU that the caller owns, so that the pairs are the same on every device and
    a run resumes exactly from the generator's saved state.
    """

    def __init__(self, image_set, batch_size, generator, device="cpu"):
        self.images, self.batch_size, self.generator = image_set.to(device), batch_size, generator

    def batches(self, steps):
        """Yield batches: mixture, digit and garment, each float32 (batch, 1, 28, 28) in [0, 1]."""
        sizes = len(self.images.digits), len(self.images.garments)
        for _ in range(steps):
            picks = (torch.randint(size, (self.batch_size,), generator=self.generator) for size in sizes)
            yield gather_pairs(self.images, *picks)
