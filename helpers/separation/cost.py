"""What separating costs: parameters, multiply-adds and memory."""

import copy
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from helpers.separation.baselines import BASELINES, VOICE
from helpers.separation.catalogue import load_separator

RATE = 16_000  # Hz


def parameters(model):
    """Return how many numbers a network learns."""
    return sum(weight.numel() for weight in model.parameters())


@torch.no_grad()
def multiply_adds(model, seconds=2.0):
    """Return how many multiply-adds an audio model spends on a segment of one channel, in convolutions, LSTMs, ...

    Transforms and norms are not counted. A copy of the model runs on the device 'meta', where nothing is computed.
    """
    segment = torch.zeros(1, 1, round(seconds * model.sample_rate), device="meta")
    with FlopCounterMode(display=False) as counter:
        copy.deepcopy(model).cpu().to_empty(device="meta").eval()(segment)
    return counter.get_total_flops() // 2  # torch counts a multiplication and an addition as two


def described(model, facts, seconds=2.0):
    """Return the columns of a table that say what a network is and took: millions of parameters and of multiply-adds.

    facts: "training_minutes" and "device", where they are known (a checkpoint's).
    """
    columns = {"M parameters": parameters(model) / 1e6}
    columns["M multiply-adds"] = multiply_adds(model, seconds) / seconds / 1e6
    if facts.get("training_minutes"):
        columns |= {"training (min)": facts["training_minutes"], "trained on": str(facts.get("device", "unknown"))}
    return columns


def measured_cost(name, seconds=60.0):
    """Separate noise of one channel at RATE by the method of this name, or of a checkpoint's path, on the CPU.

    Returns {"peak memory (MiB)": ...}, all libraries included; on Linux and macOS. In a process of its own, so that no
    method is charged for another one's memory.
    """
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn, initializer=torch.set_num_threads, initargs=(torch.get_num_threads(),)) as pool:
        return {"peak memory (MiB)": pool.submit(_memory_of, str(name), seconds).result()}


def _memory_of(name, seconds):
    generator = torch.Generator().manual_seed(0)
    sources = {name: 0.1 * torch.randn(1, round(seconds * RATE), generator=generator) for name in VOICE}
    oracle = name in BASELINES and BASELINES[name].truth
    separate = BASELINES[name].make(sources) if oracle else load_separator(name, "cpu")
    separate(sum(sources.values()), RATE)
    status = Path("/proc/self/status")
    if status.exists():  # of this program alone; getrusage() would count that which started it
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    import resource  # not on Windows

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
