"""fit() goes on after an interruption as if there had been none, or says why it cannot."""

import contextlib
import io
import itertools
import os
import signal
import subprocess
import sys

import pytest
import torch
from small_run import Climber, assert_same_run, batches, climb, new_vae, numbers, train_vae, uninterrupted, weights_of
from torch import nn

from helpers import training
from helpers.models import ImageUNet, ImageVAE
from helpers.runtime import ROOT, UserError
from helpers.training import fit

torch.set_num_threads(1)


def test_a_killed_and_resumed_run_ends_bit_equal(tmp_path):
    code = f"import small_run; small_run.run_until_killed({str(tmp_path)!r}, 3)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    killed = subprocess.run([sys.executable, "-c", code], env=environment, timeout=120)
    assert killed.returncode == -signal.SIGKILL
    path, drawn = tmp_path / "state.pt", []

    def watch(split, generator):
        drawn.append(split)
        return batches(split, generator)

    torch.manual_seed(77)  # another session: another random state, other initial weights
    model = ImageVAE("conv", latent=2, width=2)
    history = train_vae(model, state_path=str(path), batches=watch)
    assert drawn == ["train", "validation"] * 3  # epochs 4 to 6, no others
    assert_same_run((weights_of(model), history), uninterrupted())
    assert history["epoch"] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(("epoch", "step", "average"), [(1, 2, None), (4, 1, None), (3, 1, 0.9)])
def test_a_run_interrupted_within_an_epoch_ends_bit_equal(tmp_path, epoch, step, average):
    epochs = itertools.count(1)

    def interrupted(split, generator):
        drawn = batches(split, generator)
        if split == "validation" or next(epochs) != epoch:
            return drawn
        return itertools.chain(itertools.islice(drawn, step), interrupt())

    def interrupt():
        raise KeyboardInterrupt
        yield

    path = tmp_path / "state.pt"
    with pytest.raises(KeyboardInterrupt):
        train_vae(new_vae(), batches=interrupted, state_path=path, average=average)
    assert path.exists() == (epoch > 1)
    model = ImageVAE("conv", latent=2, width=2) if path.exists() else new_vae()
    history = train_vae(model, state_path=path, average=average)
    assert_same_run((weights_of(model), history), uninterrupted(average))
    assert list(tmp_path.iterdir()) == [path]


def test_a_resumed_run_still_knows_its_best_state_and_its_devices(tmp_path, monkeypatch):
    """Interrupted when the best epoch is already over, and continued on another machine."""

    def stop(epoch, history):
        if epoch == 7:
            raise KeyboardInterrupt

    options = {"epochs": 9, "steps": 1, "learning_rate": 0.1, "weight_decay": 0, "schedule": lambda progress: 1}
    options["state_path"] = tmp_path / "state.pt"
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(training, "describe_device", lambda device: "Abacus 3")
        with pytest.raises(KeyboardInterrupt):
            fit(Climber(), climb, numbers(1), on_epoch=stop, mixed_precision="bf16", **options)
    model = Climber()
    history = fit(model, climb, numbers(1), mixed_precision="no", **options)
    assert history["best_epoch"] == 5 and model.weight.item() == pytest.approx(0.5, abs=1e-6)
    assert history["device"][:7] == ["Abacus 3"] * 7 and "CPU" in history["device"][7]
    assert history["mixed_precision"] == ["bf16"] * 7 + ["no"] * 2


def test_a_finished_run_is_not_trained_again(tmp_path):
    def refuse(split, generator):
        raise AssertionError("nothing is left to be drawn")

    path = tmp_path / "state.pt"
    train_vae(new_vae(), state_path=path)
    model = ImageVAE("conv", latent=2, width=2)
    history = train_vae(model, state_path=path, batches=refuse)
    assert_same_run((weights_of(model), history), uninterrupted())
    assert not model.training
    with pytest.raises(AssertionError, match="nothing is left"):
        train_vae(new_vae(), state_path=path, batches=refuse, resume=False)


def test_a_finished_state_is_small_and_gives_its_weights_and_history_on_any_device(tmp_path, monkeypatch):
    path, model, sizes = tmp_path / "state.pt", new_vae(width=8), []
    options = {"epochs": 3, "average": 0.9, "state_path": path}
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(training, "describe_device", lambda device: "Abacus 3")
        elsewhere.setattr(training.Accelerator, "scaler", torch.amp.GradScaler("cpu"), raising=False)
        history = train_vae(model, on_epoch=lambda *_: sizes.append(path.stat().st_size), **options)
    weights = sum(value.numel() * value.element_size() for value in model.state_dict().values())
    assert sizes[0] > 4 * weights and weights < sizes[-1] < 2 * weights  # model, average, two moments, best; best alone
    saved = torch.load(path, weights_only=True)
    assert saved["parts"] == {} and all(value.device.type == "cpu" for value in saved["best"].values())
    again = new_vae(width=8)
    restored = train_vae(again, batches=None, **options)
    assert_same_run((weights_of(again), restored), (weights_of(model), history))
    assert restored["device"] == ["Abacus 3"] * 3


@pytest.fixture(scope="module", params=["interrupted", "finished"])
def state(request, tmp_path_factory):
    """The bytes of the state file of a run of two epochs."""

    def stop(epoch, history):
        if request.param == "interrupted":
            raise KeyboardInterrupt

    path = tmp_path_factory.mktemp("run") / "state.pt"
    with contextlib.suppress(KeyboardInterrupt):
        train_vae(new_vae(), epochs=2, state_path=path, on_epoch=stop)
    return path.read_bytes()


CHANGES = [{"steps": 4}, {"seed": 6}, {"learning_rate": 2e-2}, {"epochs": 3}, {"average": 0.9}]


@pytest.mark.parametrize("change", [*CHANGES, {"schedule": lambda progress: 1}], ids=lambda change: next(iter(change)))
def test_state_of_other_settings(tmp_path, state, change):
    path = tmp_path / "state.pt"
    path.write_bytes(state)
    name = next(iter(change)).replace("_", " ")
    with pytest.raises(UserError, match=rf"state\.pt holds .* with other settings \({name}\): delete it, or"):
        train_vae(new_vae(), state_path=path, **{"epochs": 2, **change})
    assert path.read_bytes() == state


def test_state_of_another_model(tmp_path, state):
    path = tmp_path / "state.pt"
    path.write_bytes(state)
    for model, what in ((new_vae(width=3), "arguments"), (ImageUNet(channels=(2,), blocks=(1,)), "architecture")):
        with pytest.raises(UserError, match=rf"state\.pt holds a training run with other settings \({what}"):
            train_vae(model, epochs=2, state_path=path)
    model = new_vae()  # the same name and arguments, but the layers of another version
    model.encoder.heads.append(nn.Conv2d(4, 2, 1))
    with pytest.raises(UserError, match=r"state\.pt do not fit this version's ImageVAE: delete it, or begin again"):
        train_vae(model, epochs=2, state_path=path)
    assert path.read_bytes() == state


def flip_a_bit(whole):
    """Of a weight: torch alone would read the file without a word."""
    weight = torch.load(io.BytesIO(whole), weights_only=True)["best"]["encoder.heads.0.weight"]
    place = whole.index(weight.numpy().tobytes())
    return whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]


DAMAGES = {
    "empty": lambda whole: b"",
    "one byte short": lambda whole: whole[:-1],
    "the first kilobyte": lambda whole: whole[:1024],
    "one bit": flip_a_bit,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_state(tmp_path, state, damage):
    path = tmp_path / "state.pt"
    path.write_bytes(DAMAGES[damage](state))
    with pytest.raises(UserError, match=r"state\.pt is damaged.*: delete it"):
        train_vae(new_vae(), epochs=2, state_path=path)
    assert train_vae(new_vae(), epochs=2, state_path=path, resume=False)["epoch"] == [1, 2]  # the other remedy


@pytest.mark.parametrize("content", [{"weights": 1}, [1, 2]])
def test_another_file_is_no_state(tmp_path, content):
    torch.save(content, tmp_path / "model.pt")
    with pytest.raises(UserError, match=r"model\.pt is damaged or holds no training run: delete it"):
        train_vae(new_vae(), state_path=tmp_path / "model.pt")
    with pytest.raises(UserError, match="is damaged or holds no training run"):
        train_vae(new_vae(), state_path=tmp_path)
