"""Oracles and classical methods on MIR-1K's test clips, beside the published figures. Prints a table, writes JSON.

    OMP_NUM_THREADS=1 python benchmarks/oracles.py [--data DIR] [--clips N] [--blind-every 6] [--output FILE]

Protocol: voice against accompaniment, test singers (all but abjones and amy), the mixture is the sum of a clip's two
channels as they are recorded (0 dB to within what 'level' in the JSON says; nothing is normalised), the whole clip is
scored at once, means are weighted by the clips' lengths. 'gain': BSS Eval 2, one gain; 'v3': 512-tap filters.
"""

import argparse
import json
import platform
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from helpers import runtime  # noqa: E402
from helpers.data.corpora import load_corpus  # noqa: E402
from helpers.metrics.bss_eval import References  # noqa: E402
from helpers.metrics.intervals import mean_and_interval  # noqa: E402
from helpers.separation.baselines import BASELINES  # noqa: E402

METRICS = {"gain": 1, "v3": 512}  # taps of the distortion filter
ON_ALL = ("mixture", "ibm", "irm", "wiener")  # fast enough for every clip
METHODS = {  # ICA needs as many channels as sources
    name: entry.make for name, entry in BASELINES.items() if name != "ica"
}
PUBLISHED = {  # GNSDR in dB over all 825 test clips; oracles with windows of 1024 and hops of 512 samples
    ("ibm", "gain"): 12.34,
    ("irm", "gain"): 12.36,
    ("wiener", "gain"): 13.05,
    ("wiener", "v3"): 13.65,
}


def measure(tracks, every, say=print):
    """Return {(method, metric): {"NSDR" | "SIR" | "SAR" | "length" | "singer": a list}}, seconds per clip, levels."""
    scores, seconds, levels = {}, {}, []
    for number, track in enumerate(tracks):
        sources, mixture = dict(track.sources), track.mixture
        truth = torch.cat([sources[name] for name in ("vocals", "accompaniment")])  # (sources, time)
        levels.append(10 * torch.log10(truth[0].square().sum() / truth[1].square().sum()).item())
        estimates = {}
        for name, make in METHODS.items():
            if name not in ON_ALL and number % every:
                continue
            started = time.process_time()
            found = make(sources)(mixture, track.sample_rate)
            seconds.setdefault(name, []).append(time.process_time() - started)
            estimates[name] = torch.cat([found["vocals"], found["accompaniment"]])
        for metric, taps in METRICS.items():
            result = References(truth, taps, list(sources)).score(
                torch.stack(list(estimates.values())), list(estimates)
            )
            for name, sdr, sir, sar in zip(estimates, result.sdr, result.sir, result.sar, strict=True):
                row = {"NSDR": sdr[0] - result.sdr[0, 0], "SIR": sir[0], "SAR": sar[0], "length": truth.shape[1]}
                scores.setdefault((name, metric), {}).setdefault("singer", []).append(track.artist)
                for key, value in row.items():
                    scores.setdefault((name, metric), {}).setdefault(key, []).append(float(value))
        if number % 20 == 19:
            say(f"{number + 1} of {len(tracks)} clips", file=sys.stderr)
    return scores, seconds, levels


def rows(scores, seconds):
    """Return one flat dict for each method and metric; intervals are over singers, or clips of a single one."""
    found = []
    for (name, metric), values in scores.items():
        units = values["length"], values["singer"] if len(set(values["singer"])) > 1 else None  # of one singer, clips
        means = {key: mean_and_interval(values[key], *units) for key in ("NSDR", "SIR", "SAR")}
        row = {"method": name, "metric": metric, "clips": len(values["length"]), "singers": len(set(values["singer"]))}
        row |= dict(zip(("GNSDR", "GNSDR low", "GNSDR high"), means["NSDR"], strict=True))
        row["GSIR"] = means["SIR"][0]
        if name != "mixture":  # which has no artefacts: its SAR is what rounding leaves
            row["GSAR"] = means["SAR"][0]
        if (name, metric) in PUBLISHED:
            row["published GNSDR, 825 clips"] = PUBLISHED[name, metric]
        row["seconds a clip"] = sum(seconds[name]) / len(seconds[name])
        found.append(row)
    return found


def markdown(table):
    """Return the table of `rows` as Markdown, one line per method, a column for each metric."""
    columns = ["method", "clips"]
    for metric in METRICS:
        columns += [f"GNSDR {metric} [95 %]", f"published {metric}", f"GSIR {metric}", f"GSAR {metric}"]
    lines = ["| " + " | ".join([*columns, "CPU s a clip"]) + " |", "|---" * (len(columns) + 1) + "|"]
    for name in dict.fromkeys(row["method"] for row in table):
        mine = {row["metric"]: row for row in table if row["method"] == name}
        cells = [name, str(mine["gain"]["clips"])]
        for metric in METRICS:
            row = mine[metric]
            cells.append(f"{row['GNSDR']:.2f} [{row['GNSDR low']:.2f}, {row['GNSDR high']:.2f}]")
            others = (row.get("published GNSDR, 825 clips"), row["GSIR"], row.get("GSAR"))
            cells += ["–" if value is None else f"{value:.2f}" for value in others]
        lines.append("| " + " | ".join([*cells, f"{mine['gain']['seconds a clip']:.2f}"]) + " |")
    return "\n".join(lines)


def main():
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", metavar="DIR", type=Path, help="the data folder (default: $BSS_DATA_DIR, else data/)")
    parser.add_argument("--clips", metavar="N", type=int, help="take N clips, evenly spread (default: all)")
    parser.add_argument("--blind-every", metavar="N", type=int, default=6, help="all but the oracles: every Nth clip")
    default = Path(__file__).parent / "results" / "oracles.json"
    parser.add_argument("--output", metavar="FILE", type=Path, default=default)
    options = parser.parse_args()
    torch.set_num_threads(1)
    started = time.monotonic()
    corpus = load_corpus("mir1k", "test", options.data, real=True)
    count = min(options.clips or len(corpus), len(corpus))
    tracks = [corpus[index * len(corpus) // count] for index in range(count)]
    scores, seconds, levels = measure(tracks, options.blind_every)
    table = rows(scores, seconds)
    record = {
        "title": "Oracles and classical methods on MIR-1K, voice",
        "data": corpus.name,
        "split": f"test: {corpus.about}",
        "items": count,
        "protocol": __doc__.partition("Protocol: ")[2].replace("\n", " ").strip(),
        "level": {"lowest dB": min(levels), "highest dB": max(levels)},
        "stft": "window/hop in samples: oracles 1024/512, HPSS 8192/2048 then 512/128, the others 1024/256; Hann",
        "device": f"one CPU core ({platform.machine()})",
        "seconds": time.monotonic() - started,
        "versions": runtime.versions(),
        "revision": runtime.git_revision(),
        "created": datetime.now(UTC).date().isoformat(),
        "rows": table,
    }
    text = json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False)
    runtime.write_atomically(options.output, text.encode() + b"\n")
    print(f"{corpus.name}, {count} test clips; {options.output}\n\n{markdown(table)}")


if __name__ == "__main__":
    try:
        main()
    except runtime.UserError as error:
        sys.exit(f"oracles.py: error: {error}")
