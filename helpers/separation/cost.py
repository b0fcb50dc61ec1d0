"""What separating costs, for every Separator of the project: parameters, multiply-adds, time and memory."""

import copy
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from helpers.checkpoints import load_checkpoint
from helpers.runtime import UserError, precision
from helpers.separation.baselines import BASELINES, VOICE
from helpers.separation.catalogue import known_checkpoints, load_separator


def parameters(model):
    """Return how many numbers a network learns."""
    return sum(weight.numel() for weight in model.parameters())


@torch.no_grad()
def multiply_adds(model, seconds=2.0):
    """Return how many multiply-adds an audio model spends on a segment of one channel (two for a 'joint' model).

    What torch counts in convolutions, linear layers, LSTMs and attention; transforms and norms are not counted. A copy
    of the model runs on the device 'meta', where nothing is computed.
    """
    channels = 2 if model.channels == "joint" else 1
    segment = torch.zeros(1, channels, round(seconds * model.sample_rate), device="meta")
    with FlopCounterMode(display=False) as counter:
        copy.deepcopy(model).cpu().to_empty(device="meta").eval()(segment)
    return counter.get_total_flops() // 2  # torch counts a multiplication and an addition as two


def described(model, facts, seconds=2.0, times=1):
    """Return the columns of a table that say what a network is and took: millions of parameters and of multiply-adds.

    facts: "training_minutes" and "device", where they are known (a checkpoint's). times: it hears all so many times.
    """
    columns = {"M parameters": parameters(model) / 1e6}
    columns["M multiply-adds"] = times * multiply_adds(model, seconds) / seconds / 1e6
    if facts.get("training_minutes"):
        columns |= {"training (min)": facts["training_minutes"], "trained on": str(facts.get("device", "unknown"))}
    return columns


def step_seconds(model, loss, batch, device, tries=3):
    """Return the seconds that a training step takes on a batch: the fastest of some, after one to warm up.

    In the mixed precision that fit() takes. The model is trained on by that: give a copy.
    """
    model = model.to(device).train()
    optimiser, seconds = torch.optim.AdamW(model.parameters()), []
    half = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision(device))
    for _ in range(1 + tries):
        started = time.perf_counter()
        with torch.autocast(device.type, dtype=half, enabled=half is not None):
            terms = loss(model, batch, 0.0)
        optimiser.zero_grad(set_to_none=True)
        terms["loss"].backward()
        optimiser.step()
        terms["loss"].item()  # waits for a GPU
        seconds.append(time.perf_counter() - started)
    return min(seconds[1:])


def voice_models():
    """Return {name: path} of the trained models that can tell a voice from its accompaniment.

    A file that cannot be read, or a model of images or of other sources, is left out.
    """
    paths = {}
    for name, path in sorted(known_checkpoints().items()):
        try:
            model, _ = load_checkpoint(path)
        except UserError:  # `python -m helpers models` lists it, with the reason
            continue
        if "vocals" in getattr(model, "sources", ()) and len(model.sources) > 1:
            paths[name] = path
    return paths


def separators(device="auto", without=()):
    """Return ({name: Separator}, {name: maker of an oracle}), as evaluate() takes them: all that parts voice and rest.

    All baselines but ICA, which needs as many channels as sources; all oracles; all of voice_models(). without: names.
    """
    entries = {name: entry for name, entry in BASELINES.items() if name != "ica" and name not in without}
    methods = {name: entry.make(VOICE) for name, entry in entries.items() if not entry.truth}
    methods |= {name: load_separator(name, device) for name in voice_models() if name not in without}
    return methods, {name: entry.make for name, entry in entries.items() if entry.truth}


def timed(make, seconds, sample_rate):
    """Separate seeded noise of one channel; return {"seconds a minute": of computing, "peak memory (MiB)"}.

    The memory is the most that this process has held, with all libraries: see measured_cost().
    make({source: waveform (1, time)}) -> the Separator; the true sources are for oracles.
    """
    generator = torch.Generator().manual_seed(0)
    sources = {name: 0.1 * torch.randn(1, round(seconds * sample_rate), generator=generator) for name in VOICE}
    for part in ({name: waveform[:, :sample_rate] for name, waveform in sources.items()}, sources):  # one to warm up
        separate, started = make(part), time.perf_counter()
        separate(sum(part.values()), sample_rate)
        elapsed = time.perf_counter() - started
    return {"seconds a minute": elapsed * 60 / seconds, "peak memory (MiB)": peak_memory()}


def peak_memory():
    """Return the most memory this process has held, in MiB, all libraries included; on Linux and macOS."""
    status = Path("/proc/self/status")
    if status.exists():  # of this program alone; getrusage() would count that which started it
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    import resource  # not on Windows

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def measured_cost(name, seconds=60.0, sample_rate=16_000):
    """Return what timed() says of the method of this name, or of a checkpoint's path, on the CPU.

    In a process of its own, so that no method is charged for another one's memory.
    """
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn, initializer=torch.set_num_threads, initargs=(torch.get_num_threads(),)) as pool:
        return pool.submit(_timed_by_name, str(name), seconds, sample_rate).result()


def _timed_by_name(name, seconds, sample_rate):
    if name in BASELINES and BASELINES[name].truth:
        return timed(BASELINES[name].make, seconds, sample_rate)
    return timed(lambda sources: load_separator(name, "cpu"), seconds, sample_rate)
