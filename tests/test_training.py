"""fit(): it learns, follows its schedule, and keeps the best state."""

import functools
import itertools
import math
import subprocess
import sys

import pytest
import torch
from small_run import Climber, assert_same_run, batches, climb, new_vae, numbers, train_vae, uninterrupted, weights_of

from helpers import training
from helpers.checkpoints import read_safely
from helpers.losses.vae import SupervisedVAELoss, separation_mse
from helpers.models import ImageUNet
from helpers.runtime import ROOT, UserError
from helpers.training import fingerprint, fit, one_cycle

torch.set_num_threads(1)


def test_a_run_repeats_whatever_was_drawn_before():
    model, other = new_vae(), new_vae()
    torch.manual_seed(123)
    history = train_vae(model)
    assert_same_run((weights_of(model), history), uninterrupted())
    train_vae(other, seed=6)
    assert not torch.equal(other.encoder.heads[0].weight, model.encoder.heads[0].weight)


def test_loss_falls_and_the_history_is_whole():
    torch.manual_seed(0)
    model, seen = ImageUNet(channels=(4, 8), blocks=(1, 1)), []
    options = {"epochs": 5, "steps": 10, "learning_rate": 1e-2, "on_epoch": lambda *given: seen.append(given)}
    history = fit(model, separation_mse, functools.partial(batches, steps=10), **options)
    assert set(history) == {"epoch", "train", "validation", "learning_rate", "seconds", "best_epoch"}
    assert history["epoch"] == [1, 2, 3, 4, 5] == [epoch for epoch, _ in seen]
    assert all(given is history for _, given in seen)
    for values in (history["train"]["loss"], history["validation"]["loss"], history["learning_rate"]):
        assert len(values) == 5 and all(type(value) is float for value in values)
    assert len(history["seconds"]) == 5 and all(value > 0 for value in history["seconds"])
    assert history["train"]["loss"][-1] < 0.5 * history["train"]["loss"][0]
    assert history["validation"]["loss"][-1] < 0.5 * history["validation"]["loss"][0]
    assert not model.training


def test_mixed_precision_learns_in_float32_weights():
    torch.manual_seed(0)
    model = ImageUNet(channels=(4, 8), blocks=(1, 1))
    options = {"epochs": 5, "steps": 10, "learning_rate": 1e-2, "mixed_precision": True}
    history = fit(model, separation_mse, functools.partial(batches, steps=10), **options)
    assert history["validation"]["loss"][-1] < 0.5 * history["validation"]["loss"][0]
    assert all(value.dtype == torch.float32 for value in model.parameters())


def test_the_best_state_is_restored():
    model = Climber()
    options = {"learning_rate": 0.1, "weight_decay": 0, "schedule": lambda progress: 1}
    history = fit(model, climb, numbers(1), epochs=9, steps=1, **options)
    expected = [(0.1 * epoch - 0.5) ** 2 for epoch in range(1, 10)]
    assert history["validation"]["loss"] == pytest.approx(expected, abs=1e-6)  # it did get worse again
    assert history["best_epoch"] == 5
    assert model.weight.item() == pytest.approx(0.5, abs=1e-6)


@pytest.mark.parametrize("schedule", [one_cycle, lambda progress: 1.0 if progress < 0.5 else 0.1, lambda p: 1 - p])
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


def test_validation_is_asked_for_the_end_of_the_run():
    seen = []

    def watch(model, batch, progress):
        seen.append((model.training, torch.is_grad_enabled(), progress))
        return climb(model, batch, progress)

    fit(Climber(), watch, numbers(2), epochs=2, steps=2)
    train, validation = [(True, True, 0), (True, True, 0.25)], [(False, False, 1.0)]
    assert seen == train + validation + [(True, True, 0.5), (True, True, 0.75)] + validation


def test_one_cycle():
    assert one_cycle(0.15) == 1
    assert one_cycle(0.575) == pytest.approx(0.5)  # half-way down
    assert one_cycle(0.15 + 0.85 / 3) == pytest.approx(0.75)  # cos(60°) = 1/2
    assert one_cycle(1.0) == pytest.approx(0, abs=1e-12)
    assert 0 < one_cycle(0) < 0.01
    assert one_cycle(0.075) == pytest.approx(0.5, abs=0.01)  # half-way up
    values = [one_cycle(k / 1000) for k in range(1000)]
    assert max(values) == 1 and values[:151] == sorted(values[:151]) and values[150:] == sorted(values[150:])[::-1]
    assert max(abs(a - b) for a, b in itertools.pairwise(values)) < 0.01


def test_validation_is_deterministic():
    model, loss = new_vae(), SupervisedVAELoss()
    autocast = functools.partial(torch.autocast, "cpu", enabled=False)
    found = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        found.append(training.validate(model, loss, batches("validation", None), autocast))
    assert found[0] == found[1]
    assert set(found[0]) == {"loss", "reconstruction", "kl", "mse", "conditioned mse"}
    model.eval()
    first, second = (loss(model, batch, 1.0)["loss"].item() for batch in batches("validation", None))
    assert found[0]["loss"] == pytest.approx((first + second) / 2, rel=1e-6)


@pytest.mark.parametrize("drawn", [2, 4])
def test_as_many_batches_as_steps(drawn):
    with pytest.raises(ValueError, match="zip"):
        fit(Climber(), climb, numbers(drawn), epochs=1, steps=3)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("where", ["train", "validation"])
def test_a_loss_that_is_not_finite_ends_the_run(tmp_path, bad, where):
    path = tmp_path / "state.pt"

    def explode(model, batch, progress):
        spoilt = model.training == (where == "train") and model.weight > 0.025  # in the second epoch
        return {"loss": climb(model, batch, progress)["loss"] + (bad if spoilt else 0)}

    options = {"epochs": 4, "steps": 2, "learning_rate": 0.01, "schedule": lambda progress: 1, "weight_decay": 0}
    with pytest.raises(UserError, match="epoch 2: lower the learning rate 0.01"):
        fit(Climber(), explode, numbers(2), state_path=path, **options)
    assert read_safely(path)["history"]["epoch"] == [1]  # the spoilt epoch is not kept
    assert fit(Climber(), climb, numbers(2), state_path=path, **options)["epoch"] == [1, 2, 3, 4]


def test_every_setting_changes_the_fingerprint():
    settings = [{"width": 16}, SupervisedVAELoss(beta=0.1), 32, "MNIST + Fashion-MNIST", separation_mse]
    others = [{"width": 17}, SupervisedVAELoss(beta=0.2), 33, "embedded", climb]
    key = fingerprint(*settings)
    assert len(key) == 8 and int(key, 16) >= 0
    for place, other in enumerate(others):
        assert fingerprint(*settings[:place], other, *settings[place + 1 :]) != key
    assert fingerprint({"width": 16}, SupervisedVAELoss(beta=0.1), 32, *settings[3:]) == key  # equal, not the same
    done = subprocess.run(
        [sys.executable, "-c", "from helpers.losses.vae import *; from helpers.training import fingerprint as f;"
         "print(f({'width': 16}, SupervisedVAELoss(beta=0.1), 32, 'MNIST + Fashion-MNIST', separation_mse))"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == key  # in another process, too: a resumed run finds its file
