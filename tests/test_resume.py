"""fit() goes on after an interruption as if there had been none, or says why it cannot."""

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

from helpers.checkpoints import read_safely, save_checkpoint
from helpers.models import ImageUNet, ImageVAE
from helpers.runtime import ROOT, UserError
from helpers.training import fit

torch.set_num_threads(1)


def prepare(folder, *arguments):
    """Start a process that warms up torch, which takes it the longest, and trains as soon as it is given a line."""
    code = "import small_run; small_run.train_vae(small_run.new_vae(), epochs=1); input();"
    code += f"small_run.run_in_own_process({str(folder)!r}, *{arguments})"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    return subprocess.Popen([sys.executable, "-c", code], env=environment, stdin=subprocess.PIPE, text=True)


def finish(process):
    process.communicate("go\n", timeout=120)
    return process.returncode


def test_a_killed_and_resumed_run_ends_bit_equal(tmp_path):
    first, second = prepare(tmp_path, 3), prepare(tmp_path)
    assert finish(first) == -signal.SIGKILL
    assert read_safely(tmp_path / "state.pt")["history"]["epoch"] == [1, 2, 3]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.txt", "state.pt", "state.pt.part"]
    (tmp_path / "log.txt").unlink()
    assert finish(second) == 0
    assert (tmp_path / "log.txt").read_text().split() == ["train", "validation"] * 3  # epochs 4 to 6, no others
    resumed = read_safely(tmp_path / "done.pt")
    assert_same_run((resumed["weights"], resumed["history"]), uninterrupted())
    assert resumed["history"]["epoch"] == [1, 2, 3, 4, 5, 6]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["done.pt", "log.txt", "state.pt"]


@pytest.mark.parametrize("interrupt_at", [(1, 2), (2, 0), (4, 1)])
def test_a_run_interrupted_within_an_epoch_ends_bit_equal(tmp_path, interrupt_at):
    epoch = itertools.count(1)

    def interrupted(split, generator):
        drawn = batches(split, generator)
        if split == "validation" or next(epoch) != interrupt_at[0]:
            return drawn
        return itertools.chain(itertools.islice(drawn, interrupt_at[1]), interrupt())

    def interrupt():
        raise KeyboardInterrupt
        yield

    path = tmp_path / "state.pt"
    with pytest.raises(KeyboardInterrupt):
        train_vae(new_vae(), batches=interrupted, state_path=path)
    assert path.exists() == (interrupt_at[0] > 1)
    torch.manual_seed(77)  # another session: another random state, other initial weights
    model = ImageVAE("conv", latent=2, width=2) if path.exists() else new_vae()
    history = train_vae(model, state_path=str(path))
    assert_same_run((weights_of(model), history), uninterrupted())


def test_a_resumed_run_still_knows_its_best_state(tmp_path):
    """Interrupted when the best epoch is already over."""

    def stop(epoch, history):
        if epoch == 7:
            raise KeyboardInterrupt

    options = {"epochs": 9, "steps": 1, "learning_rate": 0.1, "weight_decay": 0, "schedule": lambda progress: 1}
    options["state_path"] = tmp_path / "state.pt"
    with pytest.raises(KeyboardInterrupt):
        fit(Climber(), climb, numbers(1), on_epoch=stop, **options)
    model = Climber()
    assert fit(model, climb, numbers(1), **options)["best_epoch"] == 5
    assert model.weight.item() == pytest.approx(0.5, abs=1e-6)


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


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The bytes of a state file."""
    path = tmp_path_factory.mktemp("run") / "state.pt"
    train_vae(new_vae(), epochs=2, state_path=path)
    return path.read_bytes()


CHANGES = [{"steps": 4}, {"seed": 6}, {"learning_rate": 2e-2}, {"weight_decay": 0.0}, {"epochs": 3}]


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_state_of_other_settings(tmp_path, finished, change):
    path = tmp_path / "state.pt"
    path.write_bytes(finished)
    with pytest.raises(UserError, match=r"state\.pt holds the training run of .* other settings: delete it, or pass"):
        train_vae(new_vae(), state_path=path, **{"epochs": 2, **change})
    assert path.read_bytes() == finished


def test_state_of_another_model(tmp_path, finished):
    path = tmp_path / "state.pt"
    path.write_bytes(finished)
    for model in (new_vae(width=3), ImageUNet(channels=(2,), blocks=(1,))):
        with pytest.raises(UserError, match=r"state\.pt holds the training run of another model"):
            train_vae(model, epochs=2, state_path=path)
    model = new_vae()  # the same name and arguments, but the layers of another version
    model.encoder.heads.append(nn.Conv2d(4, 2, 1))
    with pytest.raises(UserError, match=r"state\.pt do not fit this version's ImageVAE: delete it, or pass"):
        train_vae(model, epochs=2, state_path=path)
    assert path.read_bytes() == finished


def flip_a_bit(whole):
    """Of a weight: torch alone would read the file without a word."""
    place = whole.index(read_weight(whole))
    return whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]


def read_weight(whole):
    return torch.load(io.BytesIO(whole), weights_only=True)["weights"]["encoder.heads.0.weight"].numpy().tobytes()


DAMAGES = {
    "empty": lambda whole: b"",
    "one byte short": lambda whole: whole[:-1],
    "half": lambda whole: whole[: len(whole) // 2],
    "the first kilobyte": lambda whole: whole[:1024],
    "one bit": flip_a_bit,
    "noise": lambda whole: bytes(torch.randint(256, (5000,), generator=torch.Generator().manual_seed(0)).tolist()),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_state(tmp_path, finished, damage):
    path = tmp_path / "state.pt"
    path.write_bytes(DAMAGES[damage](finished))
    with pytest.raises(UserError, match=r"state\.pt is damaged.*: delete it"):
        train_vae(new_vae(), epochs=2, state_path=path)
    assert train_vae(new_vae(), epochs=2, state_path=path, resume=False)["epoch"] == [1, 2]  # the other remedy


def test_a_checkpoint_is_no_state(tmp_path):
    save_checkpoint(tmp_path / "model.pt", new_vae())
    with pytest.raises(UserError, match=r"model\.pt holds no training run of this version: delete it"):
        train_vae(new_vae(), state_path=tmp_path / "model.pt")


def test_a_leftover_part_does_no_harm(tmp_path):
    path, part = tmp_path / "state.pt", tmp_path / "state.pt.part"
    part.write_bytes(b"of a killed run")
    model = new_vae()
    history = train_vae(model, state_path=path)
    assert_same_run((weights_of(model), history), uninterrupted())
    assert list(tmp_path.iterdir()) == [path]
