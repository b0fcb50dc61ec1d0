"""Open-Unmix's architecture beside the U-Nets of notebook 04: from its own package, trained from scratch by our loop.

    pip install openunmix
    python benchmarks/openunmix.py [--data songs | mir1k] [--minutes 12] [--data-dir DIR] [--output FILE]

One network for each source (Stöter, Uhlich, Liutkus and Mitsufuji, 2019), both trained at once, so that the minutes
are those of both together. No published weights. As in the package: windows of 4096 samples, 1024 apart, at 44.1 kHz
(at 16 kHz 1024 and 256), the lower 16 kHz looked at, inputs standardised bin by bin, squared error of magnitudes.
Other than there: segments of 2 s instead of 6, one channel, and the masked magnitudes get the mixture's phase, without
the expectation maximisation after it. What separating costs is measured beside the U-Nets, in the same run, on the CPU.
"""

import argparse
import functools
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

sys.path[0] = str(Path(__file__).resolve().parent.parent)  # not this folder, where `openunmix` would be this file

from helpers import runtime  # noqa: E402
from helpers.data import corpora  # noqa: E402
from helpers.data.batches import SegmentSampler, fixed_batches, load_samples  # noqa: E402
from helpers.data.corpora import load_corpus  # noqa: E402
from helpers.runtime import UserError  # noqa: E402
from helpers.separation import cost as leaderboard  # noqa: E402
from helpers.separation.catalogue import known_checkpoints  # noqa: E402
from helpers.separation.evaluation import MULTITRACK, evaluate  # noqa: E402
from helpers.separation.networks import ModelSeparator  # noqa: E402
from helpers.stft import STFT  # noqa: E402
from helpers.training import fit  # noqa: E402

SECONDS, BATCH, EPOCHS = 2.0, 8, 10
HIGHEST = 16_000  # Hz: what lies above is not looked at, only masked
WINDOWS = {44_100: (4096, 1024), 16_000: (1024, 256)}  # {sample rate: (n_fft, hop_length)}


class TwoUnmixers(nn.Module):
    """Open-Unmix for each source; an audio model (helpers.separation.networks).

    Args:
        network: the class openunmix.model.OpenUnmix.
        statistics: mean and standard deviation of the mixture's magnitudes in each bin, arrays (bins,).
        hidden: width of its layers, 512 in the package.
    """

    channels = "each"

    def __init__(self, network, statistics, sample_rate, hidden=512, sources=("vocals", "accompaniment")):
        super().__init__()
        self.sample_rate, self.sources = sample_rate, tuple(sources)
        self.stft = STFT(*WINDOWS[sample_rate])
        mean, deviation = statistics
        seen = min(self.stft.bins, round(HIGHEST / sample_rate * self.stft.n_fft) + 1)
        self.networks = nn.ModuleList(
            network(self.stft.bins, 1, hidden, input_mean=mean, input_scale=deviation, max_bin=seen) for _ in sources
        )

    def magnitudes(self, mixture):
        """Magnitudes (batch, 1, bins, frames) -> (batch, sources, bins, frames)."""
        return torch.cat([network(mixture) for network in self.networks], dim=1)

    def forward(self, waveform):
        """(batch, 1, time) -> (batch, sources, 1, time)."""
        spectrogram = self.stft(waveform)
        size = spectrogram.abs()
        estimates = self.magnitudes(size) * (spectrogram / size.clamp_min(1e-12))
        return self.stft.inverse(estimates, waveform.shape[-1]).unsqueeze(2)


def squared_error(model, batch, progress):
    """Mean squared error of the sources' magnitudes: Open-Unmix's loss, summed over its networks."""
    mixture, sources = batch
    truth = model.stft(sources[:, :, 0]).abs()
    estimates = model.magnitudes(model.stft(mixture).abs())
    return {"loss": (estimates - truth).square().mean(dim=(0, 2, 3)).sum()}


@torch.no_grad()
def statistics(batches, stft):
    """Mean and standard deviation of the mixtures' magnitudes in each bin, arrays (bins,), none of these near zero."""
    count, total, squares = 0, 0.0, 0.0
    for mixture, _ in batches:
        size = stft(mixture).abs()[:, 0].double()  # (batch, bins, frames)
        count += size.shape[0] * size.shape[2]
        total, squares = total + size.sum(dim=(0, 2)), squares + size.square().sum(dim=(0, 2))
    mean = total / count
    deviation = (squares / count - mean.square()).clamp_min(0).sqrt()
    return mean.numpy(), deviation.clamp_min(1e-4 * float(deviation.max())).numpy()


def corpus_of(data, data_dir):
    """Return {split: Corpus} of vocals and accompaniment, mono: the songs at 44.1 kHz, or MIR-1K's clips at 16 kHz."""
    folder = Path(data_dir) if data_dir else runtime.data_dir()
    found = [name for name in MULTITRACK if corpora.place(name, folder)]
    name, rate = ("mir1k", 16_000) if data == "mir1k" else ((found or MULTITRACK)[0], 44_100)
    splits = {}
    for split in corpora.SPLITS:
        corpus = load_corpus(name, split, data_dir, sample_rate=rate, mono=True)
        splits[split] = corpus if data == "mir1k" else corpus.vocals_and_accompaniment()
    return splits


def train(corpus, minutes, network, device, seed=0):
    """Train for so many minutes; return the model and the history."""
    held = {split: load_samples(corpus[split]) for split in ("train", "validation")}
    rate = held["train"].sample_rate
    runtime.seed_everything(seed)
    found = statistics(fixed_batches(held["train"], SECONDS, BATCH), STFT(*WINDOWS[rate]))
    model = TwoUnmixers(network, found, rate)

    def batches(split, generator, steps):
        if split == "validation":
            return fixed_batches(held["validation"], SECONDS, BATCH, device, 64)
        unchanged = {"remix": 0.0, "gain_db": 0.0}
        return SegmentSampler(held["train"], SECONDS, BATCH, generator, device, **unchanged).batches(steps)

    batch = next(iter(batches("validation", None, 1)))
    another = TwoUnmixers(network, found, rate)
    pace = leaderboard.step_seconds(another, squared_error, batch, device)
    steps = max(1, round(60 * minutes / pace / EPOCHS))

    def tell(epoch, history):
        print(f"epoch {epoch}/{EPOCHS}  train {history['train']['loss'][-1]:.4g}  "
              f"validation {history['validation']['loss'][-1]:.4g}", flush=True)  # fmt: skip

    history = fit(
        model, squared_error, functools.partial(batches, steps=steps), epochs=EPOCHS, steps=steps, learning_rate=1e-3,
        weight_decay=1e-5, device=device, seed=seed, on_epoch=tell,
    )  # fmt: skip
    return model, history


# What it is compared with in speed and memory, at the rate of its own data.
NEIGHBOURS = {"songs": ("unet-songs",), "mir1k": ("spectrogram-unet", "mask-unet", "wave-unet", "band-split")}


def cost(network, sample_rate, seconds=20.0):
    """What separating costs in this process, as leaderboard.timed() says; the weights do not matter for that."""
    bins = WINDOWS[sample_rate][0] // 2 + 1
    model = TwoUnmixers(network, (torch.zeros(bins).numpy(), torch.ones(bins).numpy()), sample_rate)
    return leaderboard.timed(lambda _: ModelSeparator(model, "cpu"), seconds, sample_rate)


def costs(data, sample_rate):
    """What separating costs by Open-Unmix and by those neighbours that are there: each in a process of its own."""
    command = [sys.executable, __file__, "--cost", str(sample_rate)]
    own = subprocess.run(command, capture_output=True, text=True, check=True)
    there = [name for name in NEIGHBOURS[data] if name in known_checkpoints()]
    ours = {name: leaderboard.measured_cost(name, 20.0, sample_rate) for name in there}
    return {"Open-Unmix": json.loads(own.stdout)} | ours


def main():
    """Train, evaluate on the test tracks, measure what it costs, print, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", choices=("songs", "mir1k"), default="songs")
    parser.add_argument("--minutes", type=float, default=12.0, help="of training, both networks together")
    parser.add_argument("--data-dir", help="the data folder; default: BSS_DATA_DIR, else data/")
    parser.add_argument("--tracks", type=int, help="take at most so many tracks of each split")
    parser.add_argument("--cost", type=int, metavar="RATE", help="only print what separating costs in this process")
    parser.add_argument("--output", help="default: benchmarks/results/openunmix.json, or openunmix-mir1k.json")
    given = parser.parse_args()
    try:
        from openunmix.model import OpenUnmix
    except ImportError as error:
        raise UserError(f"openunmix is not installed ({error}): run `pip install openunmix`") from error
    if given.cost:
        print(json.dumps(cost(OpenUnmix, given.cost)))
        return
    device = runtime.pick_device()
    corpus = corpus_of(given.data, given.data_dir)
    corpus = {split: replace(part, tracks=part.tracks[: given.tracks]) for split, part in corpus.items()}
    model, history = train(corpus, given.minutes, OpenUnmix, device)
    found = evaluate({"Open-Unmix": ModelSeparator(model, device)}, corpus["test"])
    rows = [row | {"parameters": leaderboard.parameters(model)} for row in found.rows(weighted=given.data == "mir1k")]
    record = {
        "data": corpus["test"].name, "embedded": corpus["test"].embedded, "tracks": len(corpus["test"]),
        "minutes": sum(history["seconds"]) / 60, "device": runtime.describe_device(device), "protocol": found.protocol,
        "costs": costs(given.data, corpus["test"][0].sample_rate), "threads": torch.get_num_threads(),
        "date": time.strftime("%Y-%m-%d"), "versions": runtime.versions(), "rows": rows,
    }  # fmt: skip
    name = "openunmix.json" if given.data == "songs" else "openunmix-mir1k.json"
    path = Path(given.output) if given.output else Path(__file__).resolve().parent / "results" / name
    runtime.write_atomically(path, json.dumps(record, indent=1, ensure_ascii=False).encode() + b"\n")
    for row in rows:
        print({key: round(value, 2) if isinstance(value, float) else value for key, value in row.items()})
    print(record["costs"])
    print(path)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(str(error))
