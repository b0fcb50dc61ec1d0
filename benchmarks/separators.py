"""The separators kept for songs and clips, measured once on test items, with floors, ceilings and published systems.

    python benchmarks/separators.py [songs] [excerpts] [clips] [speed] [--data-dir DIR]

Writes report/results/kept_<part>.json, from a clean revision. songs: the test songs in MUSDB18-HQ's layout, and four
stems of the same. excerpts: SiSEC 2018's 12 excerpts, with five systems' published estimates on the same seconds.
clips: MIR-1K's test clips. speed: seconds for a song of four minutes, with Open-Unmix's architecture in the same run.
Everything that had to be chosen was chosen on validation items before.
"""

import argparse
import sys
import time
from pathlib import Path

import pandas
import torch

sys.path[0] = str(Path(__file__).resolve().parent.parent)

from helpers import runtime  # noqa: E402
from helpers.data.corpora import load_corpus, place  # noqa: E402
from helpers.data.layouts import published_systems  # noqa: E402
from helpers.models import OpenUnmix  # noqa: E402
from helpers.results import Run  # noqa: E402
from helpers.separation.anchors import FixedEqualiser, PublishedEstimates  # noqa: E402
from helpers.separation.baselines import BASELINES  # noqa: E402
from helpers.separation.catalogue import load_separator  # noqa: E402
from helpers.separation.cost import parameters  # noqa: E402
from helpers.separation.evaluation import evaluate  # noqa: E402
from helpers.separation.every_speed import EverySpeed  # noqa: E402
from helpers.separation.networks import ModelSeparator  # noqa: E402

FOR_SONGS = ("deep-unet-songs", "songs-ensemble", "deep-unet-stems")
FOR_CLIPS = ("deep-unet", "music-vae", "mir1k-lstm", "mir1k-single-frame")
SLOW = 5  # most methods get every fifth clip
SONG = 240.0  # seconds


def networks(names, every_speed=()):
    """{name: Separator} of these checkpoints, and of those that also hear every speed."""
    found = {name: load_separator(name) for name in names}
    return found | {f"{name}, every speed": EverySpeed(found[name]) for name in every_speed}


def floors(train, sources):
    """{name: Separator} of what learns nothing, and the fixed equaliser of the training tracks."""
    plain = {name: BASELINES[name].make(sources) for name in ("mixture", "hpss", "repet-sim", "nmf-kl-blind")}
    return plain | {"fixed equaliser": FixedEqualiser(train)}


def measure(name, title, corpus, separators, oracles=("wiener",), weighted=False, by="song", every=None):
    """Evaluate, and write the results file."""
    run = Run("kept", "full", 0, corpus.name, corpus.embedded, runtime.describe_device(runtime.pick_device()))
    ideal = {oracle: BASELINES[oracle].make for oracle in oracles}
    evaluation = evaluate(separators, corpus, ideal, progress=lambda done, _: print(done, end=" "), every=every)
    rows = evaluation.rows(weighted, by)
    protocol = f"{evaluation.protocol}; means {'weighted by length' if weighted else 'over tracks'}; intervals by {by}"
    print(run.save(name, title, rows, split=corpus.split, items=len(corpus), metric="dB", protocol=protocol))
    print(pandas.DataFrame(rows).sort_values("source").to_string(index=False, float_format="%.2f"))


def songs(data_dir):
    """Voice and accompaniment, then four stems."""
    four, train = (load_corpus("musdb18hq", split, data_dir, real=True) for split in ("test", "train"))
    two = four.vocals_and_accompaniment()
    own = networks(FOR_SONGS, ("deep-unet-songs", "songs-ensemble"))
    measure("songs", "Test songs", two, own | floors(train.vocals_and_accompaniment(), two.sources))
    stems = networks(("deep-unet-stems",))
    plain = {"mixture": BASELINES["mixture"].make(four.sources)}
    measure("stems", "Four stems of the test songs", four, stems | plain | {"fixed equaliser": FixedEqualiser(train)})


def excerpts(data_dir):
    """SiSEC's excerpts, with the published systems."""
    corpus = load_corpus("sisec-excerpts", "test", data_dir, real=True)
    train = load_corpus("musdb18hq", "train", data_dir, real=True).vocals_and_accompaniment()
    folder = place("sisec-excerpts", data_dir) / "systems"
    published = {system: PublishedEstimates(folder, system) for system in published_systems(folder)}
    own = networks(FOR_SONGS, ("deep-unet-songs", "songs-ensemble"))
    separators = own | published | floors(train, corpus.sources)
    measure("excerpts", "SiSEC 2018's excerpts", corpus, separators)


def clips(data_dir):
    """MIR-1K's test clips: deep-unet and the mixture on all, as notebooks 02 and 03 measure the VAE and the masks."""
    corpus = load_corpus("mir1k", "test", data_dir, 16_000, True, real=True)
    train = load_corpus("mir1k", "train", data_dir, 16_000, True, real=True)
    separators, plain = networks(FOR_CLIPS, ("deep-unet",)), floors(train, corpus.sources)
    every = dict.fromkeys((*separators, *plain, "wiener"), SLOW) | {"mixture": 1, "deep-unet": 1}
    measure("clips", "MIR-1K's test clips", corpus, separators | plain, weighted=True, by="singer", every=every)


def speed(data_dir):
    """Seconds for four minutes of stereo at 44.1 kHz, the better of two runs each, in turn."""
    torch.manual_seed(0)
    song = 0.1 * torch.randn(2, round(SONG * 44_100))
    methods = {name: load_separator(name, "cpu") for name in ("deep-unet-songs", "deep-unet-stems", "songs-ensemble")}
    unmix = OpenUnmix(512, sample_rate=44_100, n_fft=4096, hop_length=1024)
    methods["Open-Unmix's architecture, 2 networks"] = ModelSeparator(unmix, torch.device("cpu"))
    seconds = dict.fromkeys(methods, float("inf"))
    for _ in range(2):
        for name, separator in methods.items():
            started = time.perf_counter()
            separator(song, 44_100)
            seconds[name] = min(seconds[name], time.perf_counter() - started)
    rows = [
        {"separator": name, "seconds": value, "parameters (M)": parameters(methods[name].model) / 1e6}
        for name, value in seconds.items()
    ]
    run = Run("kept", "full", 0, "white noise", False, runtime.describe_device(torch.device("cpu")))
    about = {"split": "none", "items": 1, "metric": "seconds", "protocol": "better of two runs, in turn"}
    print(run.save("speed", "Four minutes of stereo at 44.1 kHz", rows, **about), *rows, sep="\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=("songs", "excerpts", "clips", "speed"))
    parser.add_argument("--data-dir", type=Path, default=runtime.data_dir())
    args = parser.parse_args()
    for part in args.parts or ("songs", "excerpts", "clips", "speed"):
        {"songs": songs, "excerpts": excerpts, "clips": clips, "speed": speed}[part](args.data_dir)
