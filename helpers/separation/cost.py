"""What separating costs, for every Separator of the project: parameters, multiply-adds, time and memory.

    python -m helpers.separation.cost NAME --seconds 60     # a process of its own, which prints JSON

Time and memory are measured in a process that does nothing else, so that no model is charged for another one's.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch import nn

from helpers import checkpoints
from helpers.runtime import ROOT, UserError, pick_device
from helpers.separation import baselines
from helpers.separation import networks as separation
from helpers.separation.baselines import VOICE

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d)


# ---- of a network ------------------------------------------------------------------------------------------------


def parameters(model):
    """Return how many numbers a network learns."""
    return sum(weight.numel() for weight in model.parameters())


def _work(layer, inputs, output):
    """Return the multiply-adds of one call of a layer, as its definition has them."""
    if isinstance(layer, CONVOLUTIONS):  # each output value is a sum over the kernel and the inputs of its group
        return output.numel() * layer.weight[0].numel()
    if isinstance(layer, TRANSPOSED):  # each input value goes to the kernel's places in the outputs of its group
        return inputs[0].numel() * layer.weight[0].numel()
    if isinstance(layer, nn.Linear):
        return output.numel() * layer.in_features
    places = inputs[0].shape[0] * inputs[0].shape[1]  # of an LSTM: batch × time
    return places * sum(weight.numel() for name, weight in layer.named_parameters() if "weight" in name)


@torch.no_grad()
def multiply_adds(model, seconds=2.0):
    """Return how many multiply-adds an audio model spends on a segment of one channel (two for a 'joint' model).

    Counted in its convolutions, linear layers and LSTMs, without biases; transforms, norms and products of attention
    do not count. The model is run once, in evaluation mode, on silence, on the device where it is.
    """
    kinds = (*CONVOLUTIONS, *TRANSPOSED, nn.Linear, nn.LSTM)
    total, training = 0, model.training

    def count(layer, inputs, output):
        nonlocal total
        total += _work(layer, inputs, output)

    hooks = [layer.register_forward_hook(count) for layer in model.modules() if isinstance(layer, kinds)]
    channels = 2 if model.channels == "joint" else 1
    try:
        silence = torch.zeros(1, channels, round(seconds * model.sample_rate), device=next(model.parameters()).device)
        model.eval()(silence)
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    return total


def step_seconds(model, loss, batch, device, tries=3, mixed_precision=False):
    """Return the seconds that a training step takes on a batch: the fastest of some, after one to warm up.

    The model is trained on by that: give a copy.
    """
    model = model.to(device).train()
    optimiser, seconds = torch.optim.AdamW(model.parameters()), []
    for _ in range(1 + tries):
        started = time.perf_counter()
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=mixed_precision):
            terms = loss(model, batch, 0.0)
        optimiser.zero_grad(set_to_none=True)
        terms["loss"].backward()
        optimiser.step()
        terms["loss"].item()  # waits for a GPU
        seconds.append(time.perf_counter() - started)
    return min(seconds[1:])


# ---- of everything that separates --------------------------------------------------------------------------------


def voice_models():
    """Return {name: path} of the trained models that can tell a voice from its accompaniment.

    A file that cannot be read, or a model of images or of other sources, is left out.
    """
    found = {}
    for name, path in sorted(separation.known_checkpoints().items()):
        try:
            model, _ = checkpoints.load_checkpoint(path)
        except UserError:  # `python -m helpers models` lists it, with the reason
            continue
        if "vocals" in getattr(model, "sources", ()) and len(model.sources) > 1:
            found[name] = path
    return found


def separators(device="auto", without=()):
    """Return ({name: Separator}, {name: maker of an oracle}), as evaluate() takes them: all that parts voice and rest.

    All baselines but ICA, which needs as many channels as sources; all oracles; all of voice_models(). without: names.
    """
    entries = {name: entry for name, entry in baselines.BASELINES.items() if name != "ica" and name not in without}
    methods = {name: entry.make(VOICE) for name, entry in entries.items() if not entry.truth}
    methods |= {name: separation.load_separator(name, device) for name in voice_models() if name not in without}
    return methods, {name: entry.make for name, entry in entries.items() if entry.truth}


def noise(seconds, sample_rate):
    """Return {source: (1, time)}, two seeded noises: what separating costs does not depend on what is heard."""
    generator = torch.Generator().manual_seed(0)
    return {name: 0.1 * torch.randn(1, round(seconds * sample_rate), generator=generator) for name in VOICE}


def peak_memory():
    """Return the most memory this process has held, in MiB, all libraries included.

    Linux: of this program alone (VmHWM); getrusage() would count what the process was that started it. macOS: by
    getrusage(), in bytes there.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def timed(make, seconds, sample_rate):
    """Separate `seconds` of one-channel noise; return {"seconds a minute": of computing, for a minute of audio,
    after a warm-up of a second; "peak memory (MiB)": of this process}.

    make({source: waveform (1, time)}) -> the Separator; the true sources are for oracles.
    """
    sources = noise(seconds, sample_rate)
    warm_up = {source: waveform[:, :sample_rate] for source, waveform in sources.items()}
    for part in (warm_up, sources):
        separate = make(part)
        started = time.perf_counter()
        separate(sum(part.values()), sample_rate)
        taken = time.perf_counter() - started
    return {"seconds a minute": taken * 60 / seconds, "peak memory (MiB)": peak_memory()}


def measure(name, seconds, sample_rate, device="cpu"):
    """Return what timed() finds for the method of this name, or for a checkpoint's path.

    Besides {"device"}, and on a GPU {"GPU memory (MiB)": what torch held at most}.
    """
    device = pick_device(device)
    entry = baselines.BASELINES.get(name) if name not in separation.known_checkpoints() else None

    def make(sources):
        if entry is None:
            return separation.load_separator(name, device)
        return entry.make(sources if entry.truth else VOICE)

    found = timed(make, seconds, sample_rate) | {"device": device.type}
    if device.type == "cuda":
        found["GPU memory (MiB)"] = torch.cuda.max_memory_allocated() / 2**20
    return found


def cost(name, seconds=60.0, sample_rate=16_000, device="cpu", threads=None):
    """Return what measure() finds, in a process of its own, with so many threads (None: as many as torch has here).

    Raises UserError if that process fails.
    """
    command = [sys.executable, "-m", "helpers.separation.cost", str(name), "--seconds", str(seconds)]
    command += ["--rate", str(sample_rate), "--device", str(device)]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads or torch.get_num_threads())}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"])[-1]
        raise UserError(f"what '{name}' costs was not measured ({reason}): mend that, or leave it out")
    return json.loads(done.stdout.splitlines()[-1])


def main():
    """Measure one method and print what it took, as JSON."""
    parser = argparse.ArgumentParser(description="What separating by one method costs.")
    parser.add_argument("name", help="a model or baseline, as `python -m helpers models` lists them, or a checkpoint")
    parser.add_argument("--seconds", type=float, default=60.0, help="length of the noise that is separated")
    parser.add_argument("--rate", type=int, default=16_000, help="its sample rate in Hz")
    parser.add_argument("--device", default="cpu", help="for a network: auto, cpu, cuda, ...")
    given = parser.parse_args()
    print(json.dumps(measure(given.name, given.seconds, given.rate, given.device)))


if __name__ == "__main__":
    main()
