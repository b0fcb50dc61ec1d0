"""Time BSS Eval of one two-source clip: ours, mir_eval and what other packages can be imported. Prints a table.

    python benchmarks/bss_eval.py [--seconds 8] [--rate 16000] [--methods 5] [--repeats 9] [--extra FOLDER]

All are timed in turns within one run, so that what else the machine does strikes all alike. For the packages that are
not requirements: `pip install --no-deps --target FOLDER fast_bss_eval torchmetrics museval ...`, then `--extra FOLDER`.
"""

import argparse
import statistics
import sys
import time
import warnings
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
warnings.filterwarnings("ignore")  # deprecations of the packages measured

from helpers.metrics.bss_eval import References  # noqa: E402
from helpers.runtime import describe_device  # noqa: E402


def clip(seconds, rate, methods, seed=0):
    """A voice-like and a band-like source, and methods' estimates of them: `(2, time)`, `(methods, 2, time)`."""
    generator = torch.Generator().manual_seed(seed)
    length = int(seconds * rate)
    time_axis = torch.arange(length, dtype=torch.float64) / rate
    noise = torch.randn(methods + 2, 2, length, generator=generator, dtype=torch.float64)
    pitches = 220 * 2 ** (torch.randint(-12, 12, (2, 24), generator=generator) / 12)
    partials = torch.arange(1, 13, dtype=torch.float64).view(-1, 1, 1)
    note = (time_axis * 3).long() % 24
    phase = 2 * torch.pi * pitches[:, note].cumsum(1) / rate  # (2, time)
    references = ((partials * phase).sin() / partials).sum(0) + 0.02 * noise[0]
    leak = torch.linspace(0.1, 0.5, methods).view(-1, 1, 1)
    estimates = references + leak * references.flip(0) + 0.05 * noise[2:]
    return references.float(), estimates.float()


def contestants(references, estimates):
    """Return {name: (what it computes, function of the number of methods to score)}, ours last."""
    arrays, pairs = references.double().numpy(), estimates.double().numpy()

    def each(score):
        return lambda count: [score(estimate) for estimate in pairs[:count]]

    found = {}
    try:
        from mir_eval.separation import bss_eval_sources

        found["mir_eval"] = "SDR SIR SAR", each(lambda e: bss_eval_sources(arrays, e, compute_permutation=False)[:3])
    except ImportError as error:
        sys.exit(f"mir_eval is what all are measured against, and it cannot be imported: {error}")
    try:
        from museval.metrics import bss_eval

        whole = {"window": float("inf"), "hop": float("inf"), "bsseval_sources_version": True}
        found["museval"] = "SDR SIR SAR", each(lambda e: [bss_eval(arrays, e, **whole)[i] for i in (0, 2, 3)])
    except (ImportError, RuntimeError) as error:
        print(f"museval: not measured ({error})", file=sys.stderr)
    try:
        from torchmetrics.functional.audio import signal_distortion_ratio

        target = references.double()
        found["torchmetrics"] = "SDR only", each(lambda e: [signal_distortion_ratio(torch.from_numpy(e), target)])
    except ImportError as error:
        print(f"torchmetrics: not measured ({error})", file=sys.stderr)
    try:
        import fast_bss_eval

        target = references.double()  # its NumPy half fails with NumPy 2
        for name, steps in {"fast_bss_eval": None, "fast_bss_eval, 10 CG steps": 10}.items():
            options = {"compute_permutation": False, "use_cg_iter": steps}
            found[name] = (
                "SDR SIR SAR",
                each(lambda e, o=options: fast_bss_eval.bss_eval_sources(target, torch.from_numpy(e), **o)[:3]),
            )
    except ImportError as error:
        print(f"fast_bss_eval: not measured ({error})", file=sys.stderr)

    def ours(count):
        scores = References(references).score(estimates[:count])
        return list(torch.stack([scores.sdr, scores.sir, scores.sar], dim=1))

    found["helpers.metrics.bss_eval"] = "SDR SIR SAR", ours
    return found


def measure(found, counts, repeats):
    """Median seconds of each contestant for each number of methods, taken in turns: `{name: {count: seconds}}`."""
    seconds = {name: {count: [] for count in counts} for name in found}
    for repeat in range(repeats + 1):  # the first round warms up and is thrown away
        for name, (_, score) in found.items():
            for count in counts:
                start = time.perf_counter()
                score(count)
                if repeat:
                    seconds[name][count].append(time.perf_counter() - start)
    return {name: {count: statistics.median(times[count]) for count in counts} for name, times in seconds.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=8.0, help="length of the clip")
    parser.add_argument("--rate", type=int, default=16000, help="its sample rate in Hz")
    parser.add_argument("--methods", type=int, default=5, help="how many methods' estimates of it are scored")
    parser.add_argument("--repeats", type=int, default=9, help="repetitions, of which the median counts")
    parser.add_argument("--threads", type=int, default=None, help="threads of torch; the others' OMP_NUM_THREADS rules")
    parser.add_argument("--extra", type=Path, help="a folder with more packages to measure")
    options = parser.parse_args()
    if options.extra:
        sys.path.append(str(options.extra))
    if options.threads:
        torch.set_num_threads(options.threads)

    references, estimates = clip(options.seconds, options.rate, options.methods)
    found = contestants(references, estimates)
    counts = sorted({1, options.methods})
    oracle = torch.tensor([[list(part) for part in parts] for parts in found["mir_eval"][1](options.methods)])
    seconds = measure(found, counts, options.repeats)

    print(f"{options.seconds:g} s at {options.rate} Hz, 2 sources; {describe_device(torch.device('cpu'))}\n")
    heads = [f"{count} method{'s' * (count > 1)}, ms | times mir_eval" for count in counts]
    print(f"| | computes | {' | '.join(heads)} | largest difference, dB |")
    print(f"|---|---|{'---:|---:|' * len(counts)}---:|")
    for name, (what, score) in found.items():
        scores = [torch.stack([torch.as_tensor(part).flatten() for part in parts]) for parts in score(options.methods)]
        scores = torch.stack(scores)  # (methods, what it computes, sources)
        difference = (scores - oracle[:, : scores.shape[1]]).abs().max()
        cells = [f"{1e3 * t:.1f} | {seconds['mir_eval'][count] / t:.1f}" for count, t in seconds[name].items()]
        print(f"| {name} | {what} | {' | '.join(cells)} | {difference:.0e} |")


if __name__ == "__main__":
    main()
