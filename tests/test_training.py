"""fit(): it learns, follows its schedule, and keeps the best state."""

import functools
import itertools
import math
import subprocess
import sys

import pytest
import torch
from accelerate import Accelerator
from pretended_gpu import PretendedGPU
from small_run import Climber, assert_same_run, batches, climb, new_vae, numbers, train_vae, uninterrupted, weights_of
from torch import nn

from helpers import training
from helpers.losses.vae import SupervisedVAELoss, separation_mse
from helpers.models import ImageUNet
from helpers.runtime import ROOT, UserError, describe_device
from helpers.training import fingerprint, fit, one_cycle, update_average

torch.set_num_threads(1)

CONSTANT = {"learning_rate": 0.1, "weight_decay": 0, "schedule": lambda progress: 1}


# ---- the loop ----------------------------------------------------------------------------------------------------


def test_a_run_repeats_whatever_was_drawn_before():
    model, other = new_vae(), new_vae()
    torch.manual_seed(123)
    history = train_vae(model)
    assert_same_run((weights_of(model), history), uninterrupted())
    train_vae(other, seed=6)
    assert not torch.equal(other.encoder.heads[0].weight, model.encoder.heads[0].weight)


@pytest.mark.parametrize("mixed_precision", ["no", "bf16"])
def test_loss_falls_and_the_history_is_whole(mixed_precision):
    torch.manual_seed(0)
    model, seen = ImageUNet(channels=(4, 8), blocks=(1, 1)), []
    options = {"epochs": 5, "steps": 10, "learning_rate": 1e-2, "on_epoch": lambda *given: seen.append(given)}
    drawn = functools.partial(batches, steps=10)
    history = fit(model, separation_mse, drawn, mixed_precision=mixed_precision, **options)
    assert history["epoch"] == [1, 2, 3, 4, 5] == [epoch for epoch, _ in seen]
    assert all(given is history for _, given in seen)
    for values in (history["train"]["loss"], history["validation"]["loss"], history["learning_rate"]):
        assert len(values) == 5 and all(type(value) is float for value in values)
        assert values[-1] < 0.5 * values[0]
    assert history["steps"] == [10] * 5 and history["device"] == [describe_device(torch.device("cpu"))] * 5
    assert len(history["seconds"]) == 5 and all(value > 0 for value in history["seconds"])
    assert not model.training and all(value.dtype == torch.float32 for value in model.parameters())


def test_the_model_runs_in_the_precision_asked_for(monkeypatch):
    seen = []

    def watch(model, batch, progress):
        seen.append((model.layer(batch).dtype, model.training))
        return {"loss": model.layer(batch).square().mean()}

    model = nn.Module()
    model.arguments, model.layer = {}, nn.Linear(3, 3)
    for name in ("no", "bf16", "auto"):
        monkeypatch.setattr(training, "precision", lambda device: "bf16")
        fit(model, watch, lambda split, generator: [torch.ones(2, 3)], epochs=1, steps=1, mixed_precision=name)
    expected = [torch.float32, torch.bfloat16, torch.bfloat16]
    assert seen == [(dtype, training) for dtype in expected for training in (True, False)]


@pytest.mark.parametrize(("capability", "precision"), [((7, 5), "fp16"), ((8, 0), "bf16")])
def test_on_a_pretended_gpu_no_step_waits_and_nothing_is_mixed(capability, precision):
    def drawn(split, generator):
        return (tuple(part.to("cuda") for part in batch) for batch in batches(split, generator))

    with PretendedGPU(capability) as gpu:
        options = {"batches": drawn, "device": "cuda", "mixed_precision": "auto", "average": 0.9, "epochs": 1}
        history = train_vae(new_vae(), **options)
    assert history["mixed_precision"] == [precision] and not gpu.faults
    # What AdamW moves to where its weights lie is no wait; the best weights are read once, and terms once per split.
    waits = [(place, count) for (place, count) in gpu.waits.items() if "optimiser.step()" not in place]
    assert len(waits) == 2 and [count for place, count in waits if "tolist" in place] == [2]


def test_the_best_state_is_restored():
    model = Climber()
    history = fit(model, climb, numbers(1), epochs=9, steps=1, **CONSTANT)
    expected = [(0.1 * epoch - 0.5) ** 2 for epoch in range(1, 10)]
    assert history["validation"]["loss"] == pytest.approx(expected, abs=1e-6)  # it did get worse again
    assert history["best_epoch"] == 5
    assert model.weight.item() == pytest.approx(0.5, abs=1e-6)


@pytest.mark.parametrize("schedule", [one_cycle, lambda progress: 1.0 if progress < 0.5 else 0.1])
def test_every_step_follows_the_schedule(schedule):
    model, path = Climber(), []

    def watch(model, batch, progress):
        if model.training:
            path.append((progress, model.weight.item()))
        return climb(model, batch, progress)

    history = fit(model, watch, numbers(4), epochs=3, steps=4, learning_rate=0.02, weight_decay=0, schedule=schedule)
    progress, weights = zip(*path, strict=True)
    assert progress == pytest.approx([step / 12 for step in range(12)])
    expected = list(itertools.accumulate((0.02 * schedule(step / 12) for step in range(12)), initial=0))
    assert weights == pytest.approx(expected[:-1], abs=1e-6)
    assert history["learning_rate"] == pytest.approx([0.02 * schedule(step / 12) for step in (3, 7, 11)])


def test_validation_is_asked_for_the_end_of_the_run_and_averaged():
    seen = []

    def watch(model, batch, progress):
        seen.append((model.training, torch.is_grad_enabled(), progress))
        return {"loss": 0 * model.weight + batch}

    drawn = {"train": [1, 5], "validation": [2, 4, 9]}
    history = fit(Climber(), watch, lambda split, generator: drawn[split], epochs=2, steps=2)
    train, validation = [(True, True, 0), (True, True, 0.25)], [(False, False, 1.0)] * 3
    assert seen == train + validation + [(True, True, 0.5), (True, True, 0.75)] + validation
    assert history["train"]["loss"] == [3, 3] and history["validation"]["loss"] == [5, 5]


def test_one_cycle():
    assert one_cycle(0.15) == 1
    assert one_cycle(0.575) == pytest.approx(0.5)  # half-way down
    assert one_cycle(0.15 + 0.85 / 3) == pytest.approx(0.75)  # cos(60°) = 1/2
    assert one_cycle(1.0) == pytest.approx(0, abs=1e-12)
    assert 0 < one_cycle(0) < 0.01
    assert one_cycle(0.075) == pytest.approx(0.5, abs=0.01)  # half-way up
    values = [one_cycle(k / 1000) for k in range(1000)]
    assert max(values) == 1 and values[:151] == sorted(values[:151]) and values[150:] == sorted(values[150:])[::-1]


def test_a_long_gradient_is_clipped():
    model = Climber()
    fit(model, lambda *given: {"loss": 100 * model.weight}, numbers(2), epochs=1, steps=2, clip=3)
    assert model.weight.grad.item() == pytest.approx(3, rel=1e-5)


class Scaled(Accelerator):
    """As on a GPU before Ampere, whose float16 takes a gradient scaler; here on the CPU, in float32."""

    def __init__(self, **options):
        super().__init__(**options)
        self.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=2)


def test_the_gradient_scaler_belongs_to_the_state(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "Accelerator", Scaled)
    options = {**CONSTANT, "learning_rate": 0.05, "epochs": 3, "steps": 2, "state_path": tmp_path / "state.pt"}

    def stop(epoch, history):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(Climber(), climb, numbers(2), on_epoch=stop, **options)
    assert saved(options["state_path"])["parts"]["scaler"]["scale"] == 2.0**11  # grown once in two steps
    model, states = Climber(), []
    fit(model, climb, numbers(2), on_epoch=lambda *_: states.append(saved(options["state_path"])["parts"]), **options)
    assert states[1]["scaler"]["scale"] == 2.0**12 and states[2] == {}  # a finished run keeps its best weights only
    assert model.weight.item() == pytest.approx(0.3, abs=1e-6)  # unscaled before the step


# ---- the moving average ------------------------------------------------------------------------------------------


def test_the_average_is_what_is_validated_and_kept():
    """Of weights k/10 with decay d, beginning with 0: a_n = (n - d (1 - d^n) / (1 - d)) / 10."""
    model, decay = Climber(), 0.1
    history = fit(model, climb, numbers(1), epochs=9, steps=1, average=decay, **CONSTANT)
    averages = [(n - decay * (1 - decay**n) / (1 - decay)) / 10 for n in range(1, 10)]
    assert history["validation"]["loss"] == pytest.approx([(a - 0.5) ** 2 for a in averages], abs=1e-6)
    best = min(averages, key=lambda a: (a - 0.5) ** 2)
    assert model.weight.item() == pytest.approx(best, abs=1e-6)


def test_the_average_forgets_the_beginning_in_short_runs_too():
    """Buffers count; after n steps the product of (1 + k) / (10 + k), 1 / C(n+9, 9), is left of the beginning."""
    averaged, model = nn.BatchNorm1d(1), nn.BatchNorm1d(1)
    with torch.no_grad():
        averaged.weight.fill_(0), averaged.running_mean.fill_(-1)
        model.running_mean.fill_(1), model.num_batches_tracked.fill_(7)
    for number in range(20):
        update_average(averaged, model, 0.998, number)
    left = 1 / math.comb(29, 9)
    assert averaged.weight.item() == pytest.approx(1 - left, rel=1e-6)
    assert averaged.running_mean.item() == pytest.approx(1 - 2 * left, rel=1e-6)
    assert averaged.num_batches_tracked == 7
    update_average(averaged, nn.BatchNorm1d(1), 0.998, 10_000)  # later on the decay is what was asked for
    assert averaged.running_mean.item() == pytest.approx(0.998, rel=1e-5)


# ---- what goes wrong ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("drawn", [2, 4])
def test_as_many_batches_as_steps(drawn):
    with pytest.raises(ValueError, match="zip"):
        fit(Climber(), climb, numbers(drawn), epochs=1, steps=3)


def test_no_validation_batch_is_refused():
    with pytest.raises(UserError, match="the validation split gives no batch: add validation tracks"):
        fit(Climber(), climb, lambda split, generator: range(2) if split == "train" else (), epochs=1, steps=2)


def saved(path):
    return torch.load(path, weights_only=True)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("where", ["train", "validation"])
def test_a_loss_that_is_not_finite_ends_the_run(tmp_path, bad, where):
    path = tmp_path / "state.pt"

    def explode(model, batch, progress):
        spoilt = model.training == (where == "train") and model.weight > 0.025  # in the second epoch
        return {"loss": climb(model, batch, progress)["loss"] + (bad if spoilt else 0)}

    options = {**CONSTANT, "epochs": 4, "steps": 2, "learning_rate": 0.01}
    with pytest.raises(UserError, match="epoch 2: lower the learning rate 0.01"):
        fit(Climber(), explode, numbers(2), state_path=path, **options)
    assert saved(path)["history"]["epoch"] == [1]  # the spoilt epoch is not kept


@pytest.mark.parametrize("kind", ["allocator", torch.OutOfMemoryError, MemoryError])
def test_too_little_memory_is_explained(kind):
    def greedy(model, batch, progress):
        if kind == "allocator":
            torch.empty(2**55)
        raise kind("CUDA out of memory. Tried to allocate 20 GiB")

    sentence = r"needs more memory than there is: .*\(--batch-size\) or .*\(--seconds\)"
    with pytest.raises(UserError, match=sentence) as caught:
        fit(Climber(), greedy, numbers(1), epochs=1, steps=1)
    assert isinstance(caught.value.__cause__, RuntimeError | MemoryError)


def test_other_errors_are_left_as_they_are():
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        fit(Climber(), lambda *given: torch.ones(2, 3) @ torch.ones(2, 3), numbers(1), epochs=1, steps=1)


# ---- fingerprints ------------------------------------------------------------------------------------------------


def test_every_setting_changes_the_fingerprint():
    settings = [{"width": 16}, SupervisedVAELoss(beta=0.1), 32, "MNIST + Fashion-MNIST", separation_mse, one_cycle]
    others = [{"width": 17}, SupervisedVAELoss(beta=0.2), 33, "embedded", climb, lambda progress: 1]
    key = fingerprint(*settings)
    assert len(key) == 8 and int(key, 16) >= 0
    for place, other in enumerate(others):
        assert fingerprint(*settings[:place], other, *settings[place + 1 :]) != key
    assert fingerprint({"width": 16}, SupervisedVAELoss(beta=0.1), 32, *settings[3:]) == key  # equal, not the same


def halved(progress):
    return 1.0 if progress < 0.5 else 0.1 if progress not in {0.75, 0.8} else 0


def enclosing(least):
    return lambda progress: least


def edited(code):
    names = {}
    exec(f"def schedule(progress, least=0.1):\n    {code}", names)
    return names["schedule"]


def test_functions_count_by_their_code():
    different = [
        edited("return 1.0 if progress < 0.5 else least"), edited("return 1.0 if progress < 0.4 else least"),
        edited("return 1.0 if progress > 0.5 else least"), edited("return least"), edited("return abs(least)"),
        lambda progress: 1, lambda progress: 2, halved,
    ]  # fmt: skip
    different += [functools.partial(halved, least) for least in (1, 2)]
    different += [enclosing(least) for least in (1, 2)]
    assert len({fingerprint(function) for function in different}) == len(different)
    assert fingerprint(edited("return least")) == fingerprint(edited("return least"))


def test_the_fingerprint_is_the_same_in_every_process():
    """A resumed run finds its file: neither addresses nor the random order of sets count."""
    code = "import test_training as t; print(t.fingerprint(t.SETTINGS))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT / "tests", env={"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "7"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == fingerprint(SETTINGS)


SETTINGS = [SupervisedVAELoss(beta=0.1), halved, functools.partial(halved, progress=2), {"a", "b", "c"}, new_vae]


def test_weights_decay_apart_from_their_gradient():
    """AdamW: w (1 - learning rate · decay) at every step; as a part of the gradient Adam would make it full steps."""
    model = Climber()
    model.weight.data.fill_(2.0)
    options = {"learning_rate": 0.1, "weight_decay": 0.5, "schedule": lambda progress: 1}
    fit(model, lambda model, *_: {"loss": 0 * model.weight}, numbers(3), epochs=1, steps=3, **options)
    assert model.weight.item() == pytest.approx(2 * (1 - 0.1 * 0.5) ** 3, rel=1e-6)
