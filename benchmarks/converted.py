"""Do the committed models still give what they gave in the first edition? Prints the largest difference per model.

    python benchmarks/converted.py                      # compares, against benchmarks/results/converted.json
    python benchmarks/converted.py --reference FOLDER   # makes that file, with a checkout of the first edition

Every model separates three clips made from a seed: harmonic tones and bursts of noise, or strokes over rectangles for
models of images. The file holds 300 values and the root mean square of each model's estimates of each clip; a model
passes if none of them differs by more than 1e-5 of the mixture's peak.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = ROOT / "benchmarks" / "results" / "converted.json"
TOLERANCE = 1e-5  # of the mixture's peak
VALUES = 300  # per model and clip
CLIPS = ((1, 3.0), (2, 3.5), (1, 4.0))  # channels, seconds


def audio_clip(sample_rate, seed, channels, seconds):
    """Return (channels, 1, time): a tone of ten harmonics with vibrato, and four bursts of noise per second."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    phase = 2 * np.pi * rng.uniform(150, 400) * time + 3 * np.sin(2 * np.pi * 5 * time)
    tone = sum(np.sin(k * phase) / k for k in range(1, 11))
    bursts = rng.standard_normal((channels, len(time))) * np.exp(-20 * (time % 0.25))
    waveform = 0.2 * tone * rng.uniform(0.5, 1, (channels, 1)) + 0.2 * bursts
    return torch.from_numpy(waveform).float().unsqueeze(1)


def image_clip(seed):
    """Return mixtures (8, 1, 28, 28) in [0, 1]: a blurred stroke, like a digit's, over a grey rectangle."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:28, :28]
    pictures = []
    for _ in range(8):
        centre, slope, top, left = rng.uniform(8, 20), rng.uniform(-0.6, 0.6), *rng.integers(2, 9, 2)
        stroke = np.exp(-((columns - centre - slope * (rows - 14)) ** 2) / 4) * (abs(rows - 14) < 10)
        garment = 0.7 * ((rows > top) & (rows < 28 - top) & (columns > left) & (columns < 28 - left))
        pictures.append((stroke + garment) / 2)
    return torch.from_numpy(np.array(pictures)).float().unsqueeze(1)


@torch.no_grad()
def measure(model, clips=CLIPS):
    """Return one {'peak': of the mixture, 'values': of the estimates, their root mean square first} per clip."""
    rate, rows = getattr(model, "sample_rate", None), []
    for seed, (channels, seconds) in enumerate(clips):
        clip = audio_clip(rate, seed, channels, seconds) if rate else image_clip(seed)
        estimates = model(clip)
        estimates = getattr(estimates, "means", estimates).double().flatten()
        chosen = np.random.default_rng(seed).integers(len(estimates), size=VALUES)
        values = [estimates.square().mean().sqrt().item(), *estimates[chosen].tolist()]
        rows.append({"peak": clip.abs().max().item(), "values": [float(f"{value:.7g}") for value in values]})
    return rows


def difference(rows, reference):
    """Return the largest difference between values, as a part of their mixture's peak."""
    pairs = zip(rows, reference, strict=True)
    return max(np.abs(np.subtract(row["values"], other["values"])).max() / other["peak"] for row, other in pairs)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", metavar="FOLDER", type=Path, help="a checkout of the first edition")
    reference = parser.parse_args().reference
    sys.path.insert(0, str(reference or ROOT))
    from helpers.checkpoints import load_checkpoint  # of this edition, or of the first

    paths = sorted(((reference or ROOT) / "checkpoints").glob("*.pt" if reference else "*.safetensors"))
    measured = {path.stem: measure(load_checkpoint(path)[0]) for path in paths}
    if reference:
        REFERENCE.write_text(json.dumps(measured) + "\n")
        return 0
    expected = json.loads(REFERENCE.read_text())
    differences = {name: difference(measured[name], rows) for name, rows in expected.items()}
    for name, value in differences.items():
        print(f"{name:28} {value:.1e}{'' if value <= TOLERANCE else '   more than the tolerance'}")
    return int(max(differences.values()) > TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())
