"""How much memory and time does a long song take? Prints peak memory and seconds per model and length.

    python benchmarks/long_songs.py --minutes 2                              # all networks
    python benchmarks/long_songs.py --minutes 60 --model deep-unet-stems hpss

The song is stereo noise at 44.1 kHz, 16 bit. Each measurement is a process of its own that imports helpers, loads the
model and calls separate_file once, on the CPU; its memory before that call is printed, too.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from helpers.separation import list_models  # noqa: E402

RATE = 44_100
MEASURE = """
import resource, sys, time
from helpers.separation import load_separator, separate_file
song, output, model = sys.argv[1:]
separator = load_separator(model, "cpu")
unit = 2**20 if sys.platform == "darwin" else 2**10  # macOS counts bytes, Linux kibibytes
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
before, start = peak(), time.perf_counter()
separate_file(song, output, separator)
print(f"{before:.0f} {peak():.0f} {time.perf_counter() - start:.0f}")
"""


def make_song(path, minutes):
    """Write stereo noise to a WAV file, minute by minute."""
    rng = np.random.default_rng(0)
    with soundfile.SoundFile(path, "w", RATE, 2, "PCM_16") as file:
        for _ in range(minutes):
            file.write(0.1 * rng.standard_normal((60 * RATE, 2), dtype=np.float32))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", metavar="N", type=int, nargs="+", default=[2], help="default: 2")
    parser.add_argument("--model", metavar="NAME", dest="models", nargs="+", help="default: all networks")
    options = parser.parse_args()
    models = options.models or [row["model"] for row in list_models() if row["kind"].startswith("audio")]
    print("| model | minutes | MiB before | MiB at most | seconds |\n|---|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        song = Path(folder) / "song.wav"
        for minutes in options.minutes:
            make_song(song, minutes)
            for model in models:
                command = [sys.executable, "-c", MEASURE, song, Path(folder) / "out", model]
                done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
                print(f"| {model} | {minutes} | {' | '.join(done.stdout.split())} |", flush=True)


if __name__ == "__main__":
    main()
