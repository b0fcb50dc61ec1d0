"""`python -m helpers train`: training by name from end to end, in one process and in two."""

import functools
import hashlib
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

from helpers import recipes, training
from helpers.__main__ import main
from helpers.checkpoints import load_checkpoint, save_checkpoint
from helpers.data.audio import write_audio
from helpers.data.batches import load_samples
from helpers.runtime import ROOT, UserError
from helpers.separation.networks import ModelSeparator
from helpers.training import fit

torch.set_num_threads(1)

RATE = 16_000
TINY = {"width": 8, "code": 4, "dropout": 0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with `songs` in it: two to train on, one to validate on."""
    folder = tmp_path_factory.mktemp("train")
    for number, split in enumerate(("train", "train", "validation")):
        song = folder / "songs" / split / f"song {number}"
        write_song(song, 12_000, number, ("vocals", "accompaniment"), channels=1, rate=RATE)
    return folder


def small(folder, name="small.safetensors", **options):
    options = {"epochs": 2, "steps": 2, "batch_size": 2, "seconds": 0.2, "device": "cpu", **options}
    options["arguments"] = options.get("arguments", TINY | {"hidden": 4})
    return recipes.train("mir1k-lstm", folder / "songs", folder / name, **options)


def command(folder, *more, model="mir1k-lstm", data="songs", name="none.safetensors"):
    length = ["--epochs", "2", "--steps", "3", "--batch-size", "4", "--seconds", "0.25"]
    where = ["--data", str(folder / data), "-o", str(folder / name), "--device", "cpu", "--seed", "2"]
    return ["train", model, *length, *where, *more]


# ---- two processes take the steps that one takes -----------------------------------------------------------------


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
    x, target = batch
    error = (model.describe(x) - target).square().mean()
    return {"loss": error, "size": model.last.weight.square().mean()}


def points(split, generator, batch_size=8):
    """Batches ever larger within, so that their slices have different means; the last one cannot be shared by two."""
    if split == "validation":
        generator, batch_size = torch.Generator().manual_seed(1), 3
    for _ in range(2 if split == "train" else 1):
        x = torch.randn(batch_size, 6, generator=generator).double() * torch.arange(1, batch_size + 1)[:, None]
        yield x, x[:, :2].sin()


def run_of_points(batches=points, **options):
    model = Doubtful()
    options = {"epochs": 6, "steps": 2, "learning_rate": 1e-2, "seed": 4, "mixed_precision": "no", **options}
    history = fit(model, squared, batches, **options)
    return model.state_dict(), history


def work(folder):
    """What each of two processes does; what comes out goes to a file of its own."""
    training.precision = lambda device: "no"
    rank, epochs, refusal = os.environ["RANK"], [], ""
    weights, history = run_of_points(state_path=folder / "state.pt", on_epoch=lambda epoch, _: epochs.append(epoch))
    try:
        run_of_points(functools.partial(points, batch_size=7))
    except UserError as error:
        refusal = str(error)
    status = main(command(folder, "--set", "hidden=6", "width=8", "code=4", "dropout=0", name="two.safetensors"))
    outcome = {"weights": weights, "history": history, "epochs": epochs, "refusal": refusal, "status": status}
    torch.save(outcome, folder / f"rank{rank}.pt")
    sys.stdout.flush()
    os._exit(0)  # all is done: torch's own threads, still running, now and then abort an interpreter that ends


@pytest.fixture(scope="module")
def two(folder):
    """What both processes found, which accelerate started on this very file, and what they printed."""

    def stop(epoch, history):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):  # they go on with what one process began
        run_of_points(state_path=folder / "state.pt", on_epoch=stop)
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes=2"]  # on CPUs, too
    launch += ["--main_process_port=0"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    done = subprocess.run([*launch, __file__, folder], env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(2)], done.stdout


def test_two_processes_train_as_one_does_step_for_step(two):
    weights, history = run_of_points()
    for other in two[0]:
        for split in ("train", "validation"):
            for term, values in history[split].items():
                assert other["history"][split][term] == pytest.approx(values, rel=1e-9)
        for name, value in weights.items():
            torch.testing.assert_close(other["weights"][name], value, rtol=1e-9, atol=1e-12)
    half, _ = run_of_points(functools.partial(points, batch_size=4))  # half a batch would lead elsewhere
    assert (half["first.weight"] - weights["first.weight"]).abs().max() > 1e-3


def test_the_first_process_leads_and_slices_are_equal(two):
    first, second = two[0]
    assert first["epochs"] == [1, 2, 3, 4, 5, 6] and second["epochs"] == []
    for other in two[0]:
        assert other["refusal"] == "2 processes cannot share a batch of 7: choose a multiple of 2"


def test_the_command_trains_alike_in_one_process_and_in_two(two, folder, monkeypatch, capsys):
    monkeypatch.setattr(training, "precision", lambda device: "no")
    assert main(command(folder, "--set", "hidden=6", "width=8", "code=4", "dropout=0", name="one.safetensors")) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len([line for line in lines if line.startswith("epoch 2/2  train")]) == 1
    assert len(re.findall(r"^epoch \d/2 ", two[1], re.M)) == 2  # from one process alone
    assert [other["status"] for other in two[0]] == [0, 0] and "processes: 2" in two[1]
    (one, facts), (other, other_facts) = (load_checkpoint(folder / f"{name}.safetensors") for name in ("one", "two"))
    assert (facts["processes"], other_facts["processes"]) == (1, 2)
    assert facts["validation_loss"] == pytest.approx(other_facts["validation_loss"], rel=1e-4)
    for name, value in one.state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], value, atol=3e-4, rtol=0)
    assert facts["data"] == "songs (2 songs)" and facts["batch_size"] == 4 and facts["learning_rate"] == 2e-3
    assert one.mean.abs().max() > 0.1  # the features' statistics were measured
    estimates = ModelSeparator(one, "cpu")(torch.randn(1, 9000) / 10, RATE)
    assert list(estimates) == ["vocals", "accompaniment"] and estimates["vocals"].shape == (1, 9000)


# ---- one process -------------------------------------------------------------------------------------------------


def test_a_stopped_run_is_resumed_whatever_its_output_is_called(folder):
    def stop(line):
        if line.startswith("epoch 1"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        small(folder, show=stop)
    assert not (folder / "small.safetensors").exists()
    with pytest.raises(UserError, match="to resume: give the settings of that run, or leave out --resume"):
        small(folder, resume=True, batch_size=4)
    lines = []
    small(folder, "other.safetensors", resume=True, show=lines.append)
    assert [line[:9] for line in lines if line.startswith("epoch")] == ["epoch 1/2", "epoch 2/2"]
    small(folder, "whole.safetensors", show=lines.append)
    resumed, whole = (load_checkpoint(folder / f"{name}.safetensors")[0].state_dict() for name in ("other", "whole"))
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)


def test_training_starts_from_a_checkpoint(folder):
    start = small(folder, "start.safetensors", epochs=1)
    more = {"start": start, "arguments": {}, "epochs": 1, "steps": 1, "learning_rate": 1e-9}
    model, facts = load_checkpoint(small(folder, "goes on.safetensors", **more))
    first, _ = load_checkpoint(start)
    assert model.arguments == first.arguments and facts["start"] == "start.safetensors"
    assert facts["start_sha256"] == hashlib.sha256(start.read_bytes()).hexdigest()
    (folder / "moved").mkdir()
    moved = start.rename(folder / "moved" / start.name)
    small(folder, "moved.safetensors", **more | {"start": moved, "resume": True})  # the same content: the same run
    save_checkpoint(start, model)
    with pytest.raises(UserError, match=r"there is no .*\.state to resume"):
        small(folder, "other.safetensors", **more | {"start": start, "resume": True})
    for name, value in first.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], value, atol=1e-6, rtol=0)
    with pytest.raises(UserError, match="start.safetensors brings the arguments of its model: leave out --set"):
        small(folder, start=start)
    with pytest.raises(UserError, match="start.safetensors holds a LSTMNet, not the DeepUNet asked for"):
        recipes.make_model("deep-unet", {}, start)


def test_what_cannot_be_trained_is_refused_in_one_sentence(folder, capsys):
    (folder / "taken.safetensors").mkdir()
    (folder / "a file").write_text("")
    for split in ("train", "validation"):
        song = folder / "silent" / split / "song"
        write_song(song, 8000, 0, ("vocals", "accompaniment"), channels=1, rate=RATE)
    write_audio(folder / "silent" / "train" / "song" / "vocals.wav", torch.zeros(1, 8000), RATE)
    missing = command(folder, "--data-dir", str(folder / "nowhere"))
    missing[missing.index("--data") + 1] = "mir1k"
    cases = {
        "there is no model 'nosuch' to train: take one of feedforward": command(folder, model="nosuch"),
        "'mir1k-lstm' cannot be made with {'nosuch': 1} (": command(folder, "--set", "nosuch=1"),
        "'mir1k-lstm' cannot be made with {'n_fft': 3}": command(folder, "--set", "n_fft=3"),
        "unknown corpus": command(folder, data="nosuch"),
        "MIR-1K is not in": missing,
        f"{folder}/taken.safetensors cannot be written (Is a direc": command(folder, name="taken.safetensors"),
        f"{folder}/a file/x.safetensors cannot be written": command(folder, name="a file/x.safetensors"),
        "'deep-unet' cannot be made with {'width': 0}": command(folder, "--set", "width=0", model="deep-unet"),
        "'mir1k-lstm' cannot be made with {'sample_rate': 0}": command(folder, "--set", "sample_rate=0"),
        "'vocals' is silent in every training track of silent": command(folder, data="silent"),
        "training needs more memory": command(folder, "--seconds", "90000000"),
    }  # fmt: skip
    for message, arguments in cases.items():
        assert main(arguments) == 1
        captured = capsys.readouterr()
        assert captured.err.startswith(f"python -m helpers: error: {message}") and captured.err.count("\n") == 1
        assert not captured.out
    assert not list(folder.glob("none.safetensors*"))


@pytest.mark.parametrize("seed", ["-1", str(2**32), "one"])
def test_a_seed_that_numpy_does_not_take_is_a_usage_error(folder, seed, capsys):
    with pytest.raises(SystemExit) as caught:
        main([*command(folder), "--seed", seed])
    assert caught.value.code == 2 and "argument --seed" in capsys.readouterr().err


@pytest.mark.parametrize("sources", [(), ("vocals", "accompaniment"), ("vocals", "drums", "bass", "other")])
def test_a_corpus_must_have_the_sources_of_the_model(monkeypatch, sources):
    model, _ = recipes.make_model("mir1k-lstm", TINY | {"sources": ["a", "b"]})
    corpus = make(names=sources or ("vocals",))
    corpus = corpus if sources else corpus.regroup({})
    monkeypatch.setattr(recipes, "load_corpus", lambda *given, **options: corpus)
    with pytest.raises(UserError, match=": take another corpus"):
        recipes.load_split("toy", "train", model)


DEEP = {"width": 4, "n_fft": 128, "hop_length": 32}
SMALL = {
    "music-vae": {"width": 4, "latent": 2}, "feedforward": {"width": 8, "code": 4, "n_fft": 512, "hop_length": 256},
    "lstm": {"width": 8, "code": 4, "hidden": 4, "n_fft": 512, "hop_length": 256},
    "mir1k-lstm": TINY, "mir1k-single-frame": {"width": 8, "code": 4},
    "deep-unet": DEEP, "deep-unet-songs": DEEP, "deep-unet-stems": DEEP,
}  # fmt: skip


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_the_loss_of_every_recipe_reaches_every_weight(name):
    """Several processes wait for each other's gradients: none may be missing."""
    model, recipe = recipes.make_model(name, SMALL[name.removesuffix("-2")])
    mixture = torch.randn(2, 1, 8000, generator=torch.Generator().manual_seed(0)) / 10
    sources = torch.stack((mixture * 0.3, mixture.flip(-1) * 0.5) * (len(model.sources) // 2), dim=1)
    recipe.loss(model.train(), (sources.sum(1), sources), 0.5)["loss"].backward()
    assert [parameter for parameter, value in model.named_parameters() if value.grad is None] == []


def test_only_the_voice_gets_other_formants():
    samples = {"train": load_samples(make((12_000,), ("vocals", "accompaniment"), channels=1))}
    drawn = {}
    for spread in (0.0, 0.2):
        recipe = recipes.Recipe(nn.Identity, None, seconds=5.0, batch_size=2, spread=spread)
        generator = torch.Generator().manual_seed(1)
        drawn[spread] = next(iter(recipes.segments(samples, recipe, "cpu", "train", generator, steps=1)))[1]
    voice = samples["train"].sources.index("vocals")
    assert drawn[0.0][:, 1 - voice].equal(drawn[0.2][:, 1 - voice])
    assert not drawn[0.0][:, voice].allclose(drawn[0.2][:, voice], atol=1e-5)


def test_nothing_beside_the_checkpoint_is_touched(folder):
    (folder / "kept.test").write_text("of the user")
    small(folder, "kept.safetensors", epochs=1, steps=1)
    assert (folder / "kept.test").read_text() == "of the user"


@pytest.mark.parametrize("setting", ["sources=[vocals,piano]", "width"])
def test_a_setting_that_lost_its_quotes_is_a_usage_error(folder, setting, capsys):
    with pytest.raises(SystemExit):
        main(command(folder, "--set", setting))
    assert f"argument --set: {setting} is no" in capsys.readouterr().err


def test_a_recipe_is_trained_as_it_is_written(folder, monkeypatch):
    """All songs at all speeds, remixed, equalised, averaged; validation as it is."""
    seen = {}

    class Sampler(recipes.SegmentSampler):
        def __init__(self, *given, remix, **options):
            seen["remix"] = remix
            super().__init__(*given, remix=remix, **options)

    def equalised(batches, generator, rate, decibels):
        seen["equalise"] = decibels
        return batches

    def fit(model, loss, batches, **options):
        (samples, *_), generator = batches.args, torch.Generator().manual_seed(0)
        seen["tracks"] = {split: len(part.lengths) for split, part in samples.items()}
        assert len(list(batches("train", generator))) == 2 and list(batches("validation", generator))
        seen.update(options, loss=loss)
        raise KeyboardInterrupt

    for name, stand_in in (("SegmentSampler", Sampler), ("equalised", equalised), ("fit", fit)):
        monkeypatch.setattr(recipes, name, stand_in)
    with pytest.raises(KeyboardInterrupt):
        recipes.train(
            "deep-unet-songs",
            folder / "songs",
            folder / "m.safetensors",
            epochs=3,
            steps=2,
            batch_size=2,
            seed=7,
            seconds=0.2,
            device="cpu",
            arguments={"width": 4, "n_fft": 128, "hop_length": 32},
        )
    assert seen["tracks"] == {"train": 2 * 5, "validation": 1}
    assert (seen["remix"], seen["equalise"], seen["average"], seen["learning_rate"]) == (0.7, 3.0, 0.999, 2e-3)
    assert (seen["epochs"], seen["steps"], seen["seed"], seen["resume"]) == (3, 2, 7, False)
    assert seen["loss"] is recipes.RECIPES["deep-unet-songs"].loss


if __name__ == "__main__":
    work(Path(sys.argv[1]))
