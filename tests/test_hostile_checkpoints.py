"""Checkpoints made to do harm: code in them is not run, and no size in them is believed."""

import contextlib
import io
import os
import pickle
import resource
import sys
import tarfile
import zipfile

import pytest
import torch
from refusals import refused

from helpers.checkpoints import load_checkpoint, read_safely, save_checkpoint
from helpers.models import ImageUNet, ImageVAE

torch.set_num_threads(1)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.pt"


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    """What a good file holds, for the tests to spoil."""
    path = tmp_path_factory.mktemp("good") / "model.pt"
    save_checkpoint(path, ImageVAE("conv", latent=2, width=3))
    return read_safely(path)


class Trap:
    """An object that runs code when it is unpickled."""

    def __init__(self, function, *arguments):
        self.reduced = (function, arguments)

    def __reduce__(self):
        return self.reduced


def traps(target):
    """Some ways to create the file `target`."""
    return {
        "os.system": Trap(os.system, f"touch '{target}'"),
        "exec": Trap(exec, f"open({str(target)!r}, 'w').close()"),
        "eval": Trap(eval, f"open({str(target)!r}, 'w').close()"),
        "open": Trap(open, str(target), "w"),
    }


def legacy_tar(value):
    """torch's oldest format: a tar file with pickles in it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            data = pickle.dumps(value, 2)
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def as_torch_file(value, **options):
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer.getvalue()


PACKINGS = {
    "raw pickle": pickle.dumps,
    "raw pickle of protocol 0": lambda value: pickle.dumps(value, 0),
    "torch.save": as_torch_file,
    "torch.save, old format": lambda value: as_torch_file(value, _use_new_zipfile_serialization=False),
    "tar": legacy_tar,
}
PLACES = {
    "alone": lambda content, trap: trap,
    "in the weights": lambda content, trap: {**content, "weights": {"encoder.heads.0.weight": trap}},
    "in the arguments": lambda content, trap: {**content, "arguments": {"width": trap}},
    "in the facts": lambda content, trap: {**content, "facts": trap},
    "as a key": lambda content, trap: {**content, trap: 1},
}


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("kind", traps(""))
def test_code_in_a_file_is_not_run(path, content, tmp_path, monkeypatch, packing, kind):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")  # a user's setting must not open the door
    target = tmp_path / "sprung"
    words = ["opening it could run code"] if packing == "torch.save" else ["model.pt is"]
    for place, put in PLACES.items():
        path.write_bytes(PACKINGS[packing](put(content, traps(target)[kind])))
        for read in (load_checkpoint, read_safely):
            with refused(path, *words):
                read(path)
            assert not target.exists(), place


@pytest.mark.parametrize("kind", traps(""))
def test_the_traps_work(tmp_path, kind):
    """Otherwise the test above would show nothing."""
    target = tmp_path / "sprung"
    with contextlib.suppress(RuntimeError, TypeError):
        torch.load(io.BytesIO(as_torch_file(traps(target)[kind])), weights_only=False)
    assert target.exists()


def test_a_small_file_cannot_unpack_to_a_large_one(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(20_000_000))
    assert path.stat().st_size < 100_000
    with refused(path, "is damaged or no checkpoint"):
        load_checkpoint(path)


HUGE_ARGUMENTS = [
    ("ImageVAE", {"width": 10**9}),
    ("ImageVAE", {"width": 2000}),
    ("ImageVAE", {"kind": "dense", "width": 10**9}),
    ("ImageVAE", {"kind": "dense", "width": 30_000}),
    ("ImageVAE", {"kind": "dense", "latent": 2 * 10**7, "width": 8}),
    ("ImageUNet", {"channels": [8000, 8000], "blocks": [1, 1]}),
    ("ImageUNet", {"channels": [1, 1], "blocks": [10**9, 1]}),
    ("ImageUNet", {"channels": [1] * 100_000, "blocks": [1] * 100_000}),
]


@pytest.mark.parametrize(("architecture", "arguments"), HUGE_ARGUMENTS, ids=lambda value: str(value)[:60])
def test_huge_arguments_cost_no_memory(path, content, architecture, arguments):
    """Without the limit each of these asks for gigabytes, or for blocks without end."""
    torch.save({**content, "architecture": architecture, "arguments": arguments}, path)
    unit = 1 if sys.platform == "darwin" else 1024
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    with refused(path, f"do not fit this version's {architecture}"):
        load_checkpoint(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit - before < 200e6
    assert ImageVAE("conv", latent=2, width=3)  # the limit ended with the file


def test_the_limit_lets_small_models_through(path):
    """Half precision, and one weight a layer: what a file holds besides the weights is at its largest."""
    for model in (ImageUNet(channels=(1,), blocks=(1,)), ImageUNet((1, 1, 1), (9, 1, 1)), ImageVAE("conv", 1, 1)):
        save_checkpoint(path, model, half=True)
        assert load_checkpoint(path)[0].arguments == model.arguments
