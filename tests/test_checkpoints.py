"""A checkpoint gives back the model it was made from, or one clear sentence; a hostile one costs no memory or time."""

import json
import resource
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from refusals import refused
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from helpers import checkpoints, models, runtime
from helpers.checkpoints import load_checkpoint, save_checkpoint

SMALL = {
    "ImageUNet": {"channels": (3, 4, 6), "blocks": (1, 2, 1)},
    "ImageVAE": {"kind": "conv", "latent": 2, "width": 3},
    "LSTMNet": {"n_fft": 64, "hop_length": 16, "width": 8, "code": 6, "hidden": 5, "sample_rate": 8000},
    "BandSplitModel": {"features": 8, "blocks": 1, "n_fft": 256, "hop_length": 64},
    "Ensemble": {
        "members": [
            ["DeepUNet", {"width": 3, "n_fft": 512, "hop_length": 128}],
            ["SingleFrameNet", {"width": 5, "code": 3, "sample_rate": 16_000}],
        ],
        "weights": [0.75, 0.25],
    },
}


def build(name="ImageVAE"):
    """A small model in which all that is stored, batch normalisation's statistics too, is random."""
    torch.manual_seed(3)
    model = models.ARCHITECTURES[name](**SMALL[name])
    for value in model.state_dict().values():
        if value.is_floating_point():
            value.uniform_(0.1, 0.5)
    return model.eval()


@torch.no_grad()
def estimates_of(model):
    shape = (2, 1, 4000) if hasattr(model, "sample_rate") else (4, 1, 28, 28)
    estimates = model(torch.rand(shape, generator=torch.Generator().manual_seed(0)))
    return getattr(estimates, "means", estimates)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


@pytest.fixture
def content(path):
    """Write a good file to `path`; return its tensors and its metadata, for the tests to spoil."""
    save_checkpoint(path, build())
    with safe_open(path, "pt") as file:
        return load_file(path), file.metadata()


@pytest.mark.parametrize("name", SMALL)
def test_a_model_comes_back_from_its_file_alone(path, name):
    model = build(name)
    save_checkpoint(str(path), model)
    state = torch.get_rng_state()
    again, _ = load_checkpoint(str(path), expect=name)
    assert torch.equal(torch.get_rng_state(), state)
    assert type(again) is type(model) and not again.training
    assert json.dumps(again.arguments) == json.dumps(model.arguments)
    assert {value.device.type for value in (*again.parameters(), *again.buffers())} == {"cpu"}
    assert all(value.requires_grad for value in again.parameters())
    torch.testing.assert_close(again.state_dict(), model.state_dict(), rtol=0, atol=0)
    torch.testing.assert_close(estimates_of(again), estimates_of(model), rtol=0, atol=0)


def test_half_precision(path):
    model = build()
    save_checkpoint(path, model)
    whole = path.stat().st_size
    save_checkpoint(path, model, half=True)
    numbers = sum(value.numel() for value in model.state_dict().values() if value.is_floating_point())
    assert whole - path.stat().st_size == pytest.approx(2 * numbers, abs=200)
    again, _ = load_checkpoint(path)
    for label, value in model.state_dict().items():
        expected = value.half().float() if value.is_floating_point() else value
        torch.testing.assert_close(again.state_dict()[label], expected, rtol=0, atol=0)
    assert next(model.parameters()).dtype == torch.float32  # the model itself is left alone


def test_facts_are_kept(path, monkeypatch):
    monkeypatch.setattr(checkpoints, "git_revision", lambda: "abc1234-dirty")
    facts = {"profile": "full", "loss": 1.5e-4, "pairs": 60_000, "seeds": [1, 2], "data": {"a": None, "b": True}}
    numbers = {"c": np.float32(0.5), "d": np.int64(7), "e": torch.tensor(2.0)}
    save_checkpoint(path, build(), **facts, **numbers)
    expected = {"git": "abc1234-dirty", "versions": runtime.versions(), **facts, "c": 0.5, "d": 7, "e": 2.0}
    assert load_checkpoint(path)[1] == expected
    with pytest.raises(AttributeError):
        save_checkpoint(path, build(), data=Path("somewhere"))
    assert load_checkpoint(path)[1] == expected


def test_missing_file_folder_and_place_that_cannot_be_written(path):
    with refused(path, "there is no checkpoint"):
        load_checkpoint(path)
    path.mkdir()
    with refused(path, "is damaged or no checkpoint"):
        load_checkpoint(path)
    with refused(path, "cannot be written"):
        save_checkpoint(path, build())
    assert [place.name for place in path.parent.iterdir()] == [path.name]


def test_truncated_file(path, content):
    whole = path.read_bytes()
    for kept in (0, 4, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:kept])
        with refused(path, "is damaged"):
            load_checkpoint(path)


def test_safetensors_of_another_project_or_version(path, content):
    for metadata in (None, {"format": "pt"}, {"format": "3", "architecture": "ImageVAE"}):
        save_file(content[0], path, metadata)
        with refused(path, "holds no model of this version"):
            load_checkpoint(path)


def test_another_architecture(path, content):
    tensors, metadata = content
    with refused(path, "holds a ImageVAE, not the ImageUNet"):
        load_checkpoint(path, expect="ImageUNet")
    for name in ("Tacotron", "ImageUNet", ""):
        save_file(tensors, path, metadata | {"architecture": name})
        with refused(path, f"do not fit this version's {name}"):
            load_checkpoint(path)


def test_arguments_that_make_no_model(path, content):
    tensors, metadata = content
    wrong = ["", "[1]", "{", '{"depth": 3}', '{"kind": "recurrent"}', '{"width": 2.5}', '{"width": "wide"}']
    for text in (*wrong, '{"latent": -1}', '{"latent": NaN}', "[" * 5000):
        save_file(tensors, path, metadata | {"arguments": text})
        with refused(path, "do not fit this version's ImageVAE"):
            load_checkpoint(path)


def test_weights_that_do_not_fit(path, content):
    tensors, metadata = content
    name = "encoder.heads.0.weight"
    spoilt = [{key: value for key, value in tensors.items() if key != name}, tensors | {"more": torch.zeros(2)}]
    spoilt += [tensors | {name: torch.zeros(2, 2)}, tensors | {name: tensors[name].long()}]
    for weights in spoilt:
        save_file(weights, path, metadata)
        with refused(path, "do not fit this version's ImageVAE"):
            load_checkpoint(path)


HOSTILE = [
    ("ImageVAE", {"kind": "dense", "width": 300_000}),
    ("ImageVAE", {"kind": "conv", "width": 10**9}),
    ("ImageUNet", {"channels": [1, 1], "blocks": [400_000, 1]}),
    ("ImageUNet", {"channels": [1] * 100_000, "blocks": [1] * 100_000}),
    ("WaveUNet", {"levels": 10**9}),
    ("WaveUNet", {"levels": 100_000}),
    ("LSTMNet", {"n_fft": 2**31, "hop_length": 512}),
    ("DeepUNet", {"n_fft": 300_000, "hop_length": 512}),
    ("BandSplitModel", {"bands": [[22_050, 1e-5]]}),
    ("Ensemble", {"members": [["DeepUNet", {"n_fft": 2**31, "hop_length": 512}]], "weights": [1.0]}),
]


@pytest.mark.parametrize(("architecture", "arguments"), HOSTILE, ids=lambda value: str(value)[:40])
def test_huge_arguments_cost_no_memory_and_no_time(path, content, architecture, arguments):
    tensors, metadata = content
    save_file(tensors, path, metadata | {"architecture": architecture, "arguments": json.dumps(arguments)})
    unit = 1 if sys.platform == "darwin" else 1024
    memory, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit, time.process_time()
    with refused(path, f"do not fit this version's {architecture}"):
        load_checkpoint(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit - memory < 100e6
    assert time.process_time() - started < 2


def test_small_numbers_are_no_sizes(path):
    model = models.LSTMNet(**SMALL["LSTMNet"], dropout=0.005, layers=2)
    save_checkpoint(path, model)
    assert load_checkpoint(path)[0].arguments["dropout"] == 0.005


def test_models_built_in_another_thread_meanwhile_are_left_alone(path, content, monkeypatch):
    built = []

    class Slow(models.ImageVAE):
        def __init__(self, **arguments):
            thread = threading.Thread(target=lambda: built.append(torch.nn.Linear(1000, 1000)))
            thread.start()
            thread.join()
            super().__init__(**arguments)

    monkeypatch.setitem(models.ARCHITECTURES, "ImageVAE", Slow)
    load_checkpoint(path)
    assert built[0].weight.device.type == "cpu"


@pytest.mark.parametrize("arguments", [{"width": 400_001}, {"sources": ["a source"] * 200}, {"bands": [[8000, 1e-3]]}])
def test_what_would_not_be_loaded_is_not_saved(path, arguments):
    model = build()
    model.arguments |= arguments
    with refused(path, "could not be loaded again"):
        save_checkpoint(path, model)
    assert not path.exists()
