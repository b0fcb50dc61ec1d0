"""Training in several processes: two on the CPU take the steps that one takes; and `train` by name, from end to end."""

import functools
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from toy_corpus import make
from toy_songs import write_song

from helpers import distributed, recipes
from helpers.__main__ import main, parser
from helpers.checkpoints import load_checkpoint, read_safely
from helpers.data.batches import fixed_batches, hold
from helpers.data.ordered import CarriedLoss, ordered_batches
from helpers.losses.masks import MaskLoss
from helpers.models import LSTMNet
from helpers.runtime import ROOT, UserError
from helpers.separation.networks import ModelSeparator
from helpers.training import fit

torch.set_num_threads(1)

RATE = 16_000
PROCESSES = 2


# ---- runs that one process and two can make ----------------------------------------------------------------------


class Doubtful(nn.Module):
    """A model whose loss goes around forward(), in double precision: what is left over is no rounding."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.arguments = {}
        self.first, self.last = nn.Linear(6, 5), nn.Linear(5, 2)
        self.double()

    def describe(self, x):
        return self.last(torch.tanh(self.first(x)))


def squared(model, batch, progress):
    """The weights of the samples differ, so that slices of a batch have different means."""
    x, target = batch
    error = (model.describe(x) - target).square().mean()
    return {"loss": error, "size": model.last.weight.square().mean()}


def points(split, generator, batch_size=8):
    """Five batches for training, ever larger within each; for validation one that two processes could not share."""
    if split == "validation":
        generator, batch_size = torch.Generator().manual_seed(1), 3
    for _ in range(5 if split == "train" else 1):
        x = torch.randn(batch_size, 6, generator=generator).double() * torch.arange(1, batch_size + 1)[:, None]
        yield x, x[:, :2].sin()


def run_of_points(**options):
    model = Doubtful()
    return model, fit(model, squared, points, epochs=3, steps=5, learning_rate=1e-2, seed=4, **options)


def run_of_songs():
    """An LSTM that carries its state through songs, two of which every process follows."""
    torch.manual_seed(5)
    model = LSTMNet(sample_rate=800, n_fft=64, hop_length=32, width=8, code=6, hidden=7)
    held = hold(make(names=("vocals", "accompaniment"), channels=1))

    def batches(split, generator):
        if split == "validation":
            return fixed_batches(held, 0.5, 4, limit=8)
        return ordered_batches(held, model.stft, 6, 4, 4, generator, remix=0.5)

    return model, fit(model, CarriedLoss(MaskLoss()), batches, epochs=2, steps=4, learning_rate=1e-3)


def command(folder, name):
    """The same run of `train` each time, but for the file it is to write."""
    length = ["--epochs", "2", "--steps", "3", "--batch-size", "4", "--seconds", "0.25"]
    where = ["--data", str(folder / "songs"), "-o", str(folder / name), "--device", "cpu", "--seed", "2"]
    return ["train", "source-lstm", *length, *where, "--set", "hidden=6", "layers=1"]


def work(folder):
    """What each of two processes does; its findings go to a file of its own."""
    recipes.fast_bfloat16 = lambda device: False
    epochs = []
    with distributed.joined("cpu") as device:
        rank, status = distributed.rank(), main(command(folder, "two.pt"))
        points_model, points_history = run_of_points(
            state_path=folder / "state.pt", on_epoch=lambda epoch, _: epochs.append(epoch)
        )
        songs_model, songs_history = run_of_songs()
        try:
            distributed.own_slice((torch.zeros(4, 1), torch.zeros(3)))
        except UserError as error:
            refusal = str(error)
        with distributed.leader_first(), (folder / "order.txt").open("a") as file:
            file.write(f"{rank}\n")
        found = {
            "status": status, "device": str(device), "size": distributed.size(), "leads": distributed.leads(),
            "epochs": epochs, "refusal": refusal, "slice": distributed.own_slice([torch.arange(6)]),
            "points": (points_model.state_dict(), points_history), "songs": (songs_model.state_dict(), songs_history),
            "said": distributed.from_leader(lambda: f"from {rank}"), "mean": distributed.averaged({"a": float(rank)}),
            "seed": distributed.own_seed(7),
        }  # fmt: skip
    torch.save(found, folder / f"rank{rank}.pt")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("distributed")
    for number, split in enumerate(("train", "train", "validation")):
        song = folder / "songs" / split / f"song {number}"
        write_song(song, 12_000, number, ("vocals", "accompaniment"), channels=1, rate=RATE)
    return folder


@pytest.fixture(scope="module")
def two(folder):
    """The findings of both processes, which torchrun started on this very file."""

    def stop(epoch, history):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):  # they go on with what one process began
        run_of_points(state_path=folder / "state.pt", on_epoch=stop)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={PROCESSES}"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    done = subprocess.run(
        [*launch, __file__, str(folder)], env=environment, capture_output=True, text=True, timeout=1500
    )
    assert done.returncode == 0, done.stderr
    return [read_safely(folder / f"rank{rank}.pt") for rank in range(PROCESSES)], done.stdout


def assert_same(one, two, rounding, start):
    """The losses are the same, and the weights differ by a small part of the way that training took them."""
    (weights, history), (others, other_history) = one, two
    assert history["best_epoch"] == other_history["best_epoch"]
    for split in ("train", "validation"):
        assert history[split]["loss"] == pytest.approx(other_history[split]["loss"], rel=rounding)
    way = sum(float((weights[name] - start[name]).square().sum()) for name in weights) ** 0.5
    apart = sum(float((weights[name] - others[name]).square().sum()) for name in weights) ** 0.5
    assert way > 0 and apart < rounding * way


# ---- two processes -----------------------------------------------------------------------------------------------


def test_two_processes_train_as_one_does_also_when_resumed(two):
    model, history = run_of_points()
    for found in two[0]:
        assert_same((model.state_dict(), history), found["points"], 1e-9, Doubtful().state_dict())
        assert found["points"][1]["train"]["size"] == pytest.approx(history["train"]["size"], rel=1e-9)
    sliced = functools.partial(points, batch_size=4)  # or else: one process on half a batch goes another way
    other = Doubtful()
    fit(other, squared, sliced, epochs=3, steps=5, learning_rate=1e-2, seed=4)
    with pytest.raises(AssertionError):
        assert_same((model.state_dict(), history), (other.state_dict(), history), 1e-2, Doubtful().state_dict())


def test_streams_of_songs_are_shared_with_their_states(two):
    model, history = run_of_songs()
    torch.manual_seed(5)
    start = LSTMNet(**model.arguments).state_dict()
    for found in two[0]:
        assert_same((model.state_dict(), history), found["songs"], 1e-3, start)


def test_one_process_leads(two, folder):
    first, second = two[0]
    assert (first["leads"], second["leads"]) == (True, False)
    assert first["epochs"] == [1, 2, 3] and second["epochs"] == []
    assert (folder / "order.txt").read_text().split() == ["0", "1"]
    assert first["said"] == second["said"] == "from 0"
    assert first["mean"] == second["mean"] == {"a": 0.5}
    assert first["seed"] == 7 != second["seed"]
    assert {found["size"] for found in two[0]} == {2} and {found["device"] for found in two[0]} == {"cpu"}
    assert read_safely(folder / "state.pt")["history"]["epoch"] == [1, 2, 3]


def test_a_batch_is_cut_into_equal_slices_or_refused(two):
    assert [found["slice"][0].tolist() for found in two[0]] == [[0, 1, 2], [3, 4, 5]]
    for found in two[0]:
        assert found["refusal"] == "a batch of 3 cannot be shared by 2 processes: choose a multiple of 2"


def test_the_command_trains_alike_in_one_process_and_in_two(two, folder, monkeypatch, capsys):
    monkeypatch.setattr(recipes, "fast_bfloat16", lambda device: False)
    assert main(command(folder, "one.pt")) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(re.findall(r"^epoch +\d/2 ", two[1], re.M)) == 2  # from one process alone
    assert [found["status"] for found in two[0]] == [0, 0] and "in 2 processes" in two[1]
    assert [line for line in lines if line.startswith("epoch   2/2  train")]
    (one, facts), (other, other_facts) = (load_checkpoint(folder / name) for name in ("one.pt", "two.pt"))
    assert (facts["processes"], other_facts["processes"]) == (1, 2)
    assert facts["validation_loss"] == pytest.approx(other_facts["validation_loss"], rel=1e-4)
    for name, value in one.state_dict().items():
        assert torch.allclose(value, other.state_dict()[name], atol=3e-4), name
    assert facts["data"] == "songs (2 songs)" and facts["batch_size"] == 4 and facts["learning_rate"] == 2e-3
    assert one.mean.abs().max() > 0.1  # the features' statistics were measured
    found = ModelSeparator(one, "cpu")(torch.randn(1, 9000) / 10, RATE)
    assert list(found) == ["vocals", "accompaniment"] and found["vocals"].shape == (1, 9000)


# ---- one process -------------------------------------------------------------------------------------------------


def test_alone_everything_is_handed_on():
    loss, terms = object(), {"loss": 1.0}
    assert distributed.shared(loss, None) is loss and distributed.averaged(terms) is terms
    assert distributed.from_leader(lambda: terms) is terms and distributed.own_seed(5) == 5
    assert (distributed.size(), distributed.rank(), distributed.leads()) == (1, 0, True)
    with distributed.joined("cpu") as device:
        assert device.type == "cpu" and distributed.size() == 1


def test_processes_that_cannot_be_joined_are_told_why(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in distributed.NEEDED:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match="RANK, LOCAL_RANK, .* is not: start the processes with torchrun"):
        distributed.joined("cpu").__enter__()
    for name in distributed.NEEDED:
        monkeypatch.setenv(name, "1")
    with pytest.raises(UserError, match="share device 'mps': take 'cuda' or 'cpu'"):
        distributed.joined("mps").__enter__()
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UserError, match="no GPU for process 1, this machine has 1: give torchrun a smaller"):
        distributed.joined("cuda").__enter__()


def small(folder, name="small.pt", **options):
    options = {"epochs": 2, "steps": 2, "batch_size": 2, "seconds": 0.2, "device": "cpu", **options}
    options["arguments"] = {"hidden": 4, "layers": 1} | options.get("arguments", {})
    return recipes.train("source-lstm", folder / "songs", folder / name, **options)


def test_a_stopped_run_is_resumed_and_one_of_other_settings_is_not(folder):
    def stop(line):
        if line.startswith("epoch   1"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        small(folder, show=stop)
    assert not (folder / "small.pt").exists()
    with pytest.raises(UserError, match="to resume: give the settings of that run, or leave out --resume"):
        small(folder, resume=True, batch_size=4)
    lines = []
    small(folder, resume=True, show=lines.append)
    assert [line[:11] for line in lines if line.startswith("epoch")] == ["epoch   1/2", "epoch   2/2"]
    small(folder, "whole.pt", show=lines.append)
    resumed, whole = (load_checkpoint(folder / name)[0].state_dict() for name in ("small.pt", "whole.pt"))
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)


def test_errors_are_one_sentence_and_status_1(folder, capsys):
    cases = {
        "there is no model 'nosuch' to train: take one of music-vae": ["nosuch", str(folder / "songs")],
        "'source-lstm' has no argument 'nosuch': set some of sample_rate": [
            "source-lstm", str(folder / "songs"), "--set", "nosuch=1"
        ],
        "'source-lstm' cannot be made with {'layers': 9}": ["source-lstm", str(folder / "songs"), "--set", "layers=9"],
        "unknown corpus": ["source-lstm", str(folder / "nosuch")],
    }  # fmt: skip
    for message, (model, data, *more) in cases.items():
        arguments = ["train", model, "--data", data, "--epochs", "1", "--steps", "1", "--batch-size", "1"]
        assert main([*arguments, "-o", str(folder / "none.pt"), "--device", "cpu", *more]) == 1
        captured = capsys.readouterr()
        assert captured.err.startswith(f"python -m helpers: error: {message}") and captured.err.count("\n") == 1
    assert not list(folder.glob("none.pt*"))


@pytest.mark.parametrize("sources", [(), ("vocals", "accompaniment"), ("vocals", "drums", "bass", "other")])
def test_a_corpus_must_have_the_sources_of_the_model(monkeypatch, sources):
    model, _ = recipes.make_model("source-lstm", {"hidden": 4, "sources": ["a", "b"]})
    corpus = make(names=sources or ("vocals",))
    corpus = corpus if sources else corpus.regroup({})
    monkeypatch.setattr(recipes, "load_corpus", lambda *given, **options: corpus)
    with pytest.raises(UserError, match=": take another corpus"):
        recipes.load_split("toy", "train", model)


SMALL = {
    "music-vae": {"width": 4, "latent": 2}, "feedforward": {"width": 8, "code": 4, "n_fft": 512, "hop_length": 256},
    "lstm": {"width": 8, "code": 4, "hidden": 4, "n_fft": 512, "hop_length": 256},
    "mir1k-lstm": {"width": 8, "code": 4, "hidden": 4}, "source-lstm": {"hidden": 4},
    "unet": {"width": 2}, "mask-unet": {"width": 2}, "wave-unet": {"width": 2, "levels": 4},
    "band-split": {"features": 8, "blocks": 1},
    "deep-unet": {"width": 4, "n_fft": 128, "hop_length": 32},
}  # fmt: skip


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_the_loss_of_every_recipe_reaches_every_weight(name):
    """Several processes wait for each other's gradients: none may be missing."""
    model, recipe = recipes.make_model(name, SMALL[name])
    mixture = torch.randn(2, 1, 8000, generator=torch.Generator().manual_seed(0)) / 10
    sources = torch.stack((mixture * 0.3, mixture.flip(-1) * 0.5), dim=1)
    recipe.loss(model.train(), (sources.sum(1), sources), 0.5)["loss"].backward()
    assert [parameter for parameter, value in model.named_parameters() if value.grad is None] == []


def test_only_the_voice_gets_other_formants(tmp_path):
    held = {"train": hold(make((12_000,), ("vocals", "accompaniment"), channels=1))}
    found = {}
    for spread in (0.0, 0.2):
        recipe = recipes.Recipe(nn.Identity, None, seconds=5.0, spread=spread)
        generator = torch.Generator().manual_seed(1)
        found[spread] = next(iter(recipes.segments(held, recipe, 2, "cpu", "train", generator, steps=1)))[1]
    voice = held["train"].sources.index("vocals")
    assert found[0.0][:, 1 - voice].equal(found[0.2][:, 1 - voice])
    assert not found[0.0][:, voice].allclose(found[0.2][:, voice], atol=1e-5)


def test_the_help_names_every_recipe(monkeypatch):
    monkeypatch.setenv("COLUMNS", "500")  # lines break at hyphens, too
    text = next(action for action in parser()._actions if action.choices).choices["train"].format_help()
    assert all(re.search(rf"\b{name}\b", text) for name in recipes.RECIPES)


if __name__ == "__main__":
    work(Path(sys.argv[1]))
