"""Two small problems for fit(), and a run of one that another process can start."""

import functools
import os
import signal
from pathlib import Path

import torch
from torch import nn

from helpers.losses.vae import SupervisedVAELoss
from helpers.models import ImageVAE
from helpers.training import fit

torch.set_num_threads(1)


def batches(split, generator, steps=3):
    """Ramps to the right mixed with ramps downwards, each of a brightness of its own."""
    if split == "validation":
        generator, steps = torch.Generator().manual_seed(9), 2
    ramp = torch.linspace(0, 1, 8)
    for _ in range(steps):
        levels = torch.rand(2, 6, 1, 1, 1, generator=generator)
        a, b = levels[0] * ramp.expand(8, 8), levels[1] * ramp.view(8, 1).expand(8, 8)
        yield (a + b) / 2, a, b


def new_vae(width=2):
    torch.manual_seed(1)
    return ImageVAE("conv", latent=2, width=width)


def train_vae(model, epochs=6, **options):
    """A run with all that could go astray: sampled codes, batch normalisation, AdamW, a schedule, a KL warm-up."""
    options = {"batches": batches, "steps": 3, "seed": 5, "learning_rate": 1e-2, "mixed_precision": "no", **options}
    return fit(model, SupervisedVAELoss("learnt", warm_up=0.5), epochs=epochs, **options)


def run_until_killed(folder, kill_after):
    """Train in `folder`, keeping state.pt, until the process kills itself as `kill -9` would."""

    def on_epoch(epoch, history):
        if epoch == kill_after:
            (Path(folder) / "state.pt.part").write_bytes(b"half a st")
            os.kill(os.getpid(), signal.SIGKILL)

    train_vae(new_vae(), state_path=Path(folder) / "state.pt", on_epoch=on_epoch)


def assert_same_run(first, second):
    """Weights and history are equal, bit for bit; only the seconds may differ."""
    (first_weights, first_history), (second_weights, second_history) = first, second
    assert first_weights.keys() == second_weights.keys()
    for name in first_weights:
        assert torch.equal(first_weights[name], second_weights[name]), name
    assert {**first_history, "seconds": 0} == {**second_history, "seconds": 0}
    assert len(first_history["seconds"]) == len(second_history["seconds"])


def weights_of(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


@functools.cache
def uninterrupted(average=None):
    model = new_vae()
    history = train_vae(model, average=average)
    return weights_of(model), history


class Climber(nn.Module):
    """One weight with a constant gradient: Adam then moves it by exactly the learning rate."""

    def __init__(self):
        super().__init__()
        self.arguments = {}
        self.weight = nn.Parameter(torch.zeros(()))


def climb(model, batch, progress):
    """In training, ever higher; in validation, best at 0.5."""
    return {"loss": -model.weight if model.training else (model.weight - 0.5).square()}


def numbers(steps):
    return lambda split, generator: range(steps if split == "train" else 1)
