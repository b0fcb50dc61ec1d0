"""A checkpoint gives back the model it was made from, or one clear sentence; never somebody else's code."""

import errno
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from refusals import refused

from helpers import checkpoints, runtime
from helpers.checkpoints import load_checkpoint, read_safely, save_checkpoint
from helpers.models import ImageUNet, ImageVAE
from helpers.runtime import UserError, write_atomically

torch.set_num_threads(1)

MODELS = {
    "U-Net": lambda: ImageUNet(channels=(3, 4, 6), blocks=(1, 2, 1)),
    "plain U-Net": lambda: ImageUNet(channels=(3, 4), blocks=(1, 1), feasible=False),
    "dense VAE": lambda: ImageVAE("dense", latent=3, width=8),
    "convolutional VAE": lambda: ImageVAE("conv", latent=2, width=3),
}
MIXTURES = torch.rand(4, 1, 28, 28, generator=torch.Generator().manual_seed(0))


def build(name="convolutional VAE"):
    """A model whose batch normalisation has seen something, so that its buffers matter."""
    torch.manual_seed(3)
    model = MODELS[name]().train()
    for _ in range(3):
        model(torch.rand(4, 1, 28, 28))
    return model.eval()


@torch.no_grad()
def sources_of(model):
    out = model(MIXTURES)
    return out if isinstance(out, torch.Tensor) else torch.cat((out.means, out.log_variances))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.pt"


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """The bytes of a good file."""
    path = tmp_path_factory.mktemp("good") / "model.pt"
    save_checkpoint(path, build())
    return path.read_bytes()


@pytest.fixture
def content(path, good):
    """What a good file holds, for the tests to spoil; the file itself is at `path`."""
    path.write_bytes(good)
    return read_safely(path)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_comes_back_from_its_file_alone(path, name):
    model = build(name)
    save_checkpoint(str(path), model)
    torch.manual_seed(99)
    again, _ = load_checkpoint(str(path), expect=type(model).__name__)
    assert type(again) is type(model) and again.arguments == model.arguments and not again.training
    assert again.state_dict().keys() == model.state_dict().keys()
    torch.testing.assert_close(sources_of(again), sources_of(model), rtol=0, atol=0)


@pytest.mark.parametrize("name", MODELS)
def test_half_precision(tmp_path, name):
    model = build(name)
    save_checkpoint(tmp_path / "whole.pt", model)
    save_checkpoint(tmp_path / "half.pt", model, half=True)
    again, _ = load_checkpoint(tmp_path / "half.pt")
    assert all(value.dtype != torch.float16 for value in again.state_dict().values())
    for label, value in model.state_dict().items():
        expected = value.half().float() if value.is_floating_point() else value
        torch.testing.assert_close(again.state_dict()[label], expected, rtol=0, atol=0)
    torch.testing.assert_close(sources_of(again), sources_of(model), rtol=0.01, atol=0.02)
    assert model.state_dict().keys() == again.state_dict().keys()
    assert next(model.parameters()).dtype == torch.float32  # the model itself is left alone


def test_half_precision_is_half_the_size(tmp_path):
    torch.manual_seed(0)
    model = ImageVAE("dense", latent=4, width=64)
    for half in (False, True):
        save_checkpoint(tmp_path / f"{half}.pt", model, half=half)
    weights = sum(value.numel() for value in model.state_dict().values())
    assert 4 * weights < (tmp_path / "False.pt").stat().st_size < 4 * weights + 12_000
    assert 2 * weights < (tmp_path / "True.pt").stat().st_size < 2 * weights + 12_000


def test_facts_are_kept(path, monkeypatch):
    monkeypatch.setattr(checkpoints, "git_revision", lambda: "abc1234-dirty")
    given = {"profile": "long", "loss": 1.5e-4, "pairs": 60_000, "seeds": [1, 2], "data": {"a": None, "b": True}}
    save_checkpoint(path, build(), **given)
    _, facts = load_checkpoint(path)
    assert facts == {"git": "abc1234-dirty", "versions": runtime.versions(), **given}
    assert facts["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]


def test_numbers_of_other_kinds_do_not_spoil_the_file(path):
    numbers = {"a": np.float32(0.5), "b": np.float64(0.25), "c": np.int64(7), "d": torch.tensor(2.0)}
    save_checkpoint(path, build(), **numbers)
    _, facts = load_checkpoint(path)
    found = [facts[name] for name in numbers]
    assert found == [0.5, 0.25, 7, 2.0] and [type(value) for value in found] == [float, float, int, float]


def test_no_fact_that_could_not_be_read_again(path):
    with pytest.raises(AttributeError):
        save_checkpoint(path, build(), data=Path("somewhere"))
    assert not path.exists()


def test_missing_file_and_folder(tmp_path):
    with refused(tmp_path / "none.pt", "there is no"):
        load_checkpoint(tmp_path / "none.pt")
    with refused(tmp_path, "is a folder"):
        load_checkpoint(tmp_path)


def test_unreadable_file(path, content, monkeypatch):
    def forbidden(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(zipfile, "ZipFile", forbidden)
    with refused(path, "cannot be read (Permission denied)"):
        load_checkpoint(path)


@pytest.mark.parametrize("kept", [0, 1, 3, 4, 100, 0.5, 0.99, -1])
def test_truncated_file(path, content, kept):
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole)) if isinstance(kept, float) else kept])
    with refused(path, "is damaged"):
        load_checkpoint(path)


@pytest.mark.parametrize("start", [b"", b"PK\x03\x04", b"\x80\x02", b"\x80\x04}("], ids=repr)
def test_random_bytes(path, start):
    rng = np.random.default_rng(0)
    for size in (0, 10, 5000):
        path.write_bytes(start + rng.bytes(size))
        with refused(path, "is damaged"):
            load_checkpoint(path)


def test_changed_bytes_never_become_other_weights(path, content):
    """Most places hold weights; the few that do not matter (names in headers, padding) may be read over."""
    whole, expected = path.read_bytes(), {name: value.clone() for name, value in content["weights"].items()}
    rng, noticed = np.random.default_rng(0), 0
    for place in rng.integers(len(whole), size=60):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << rng.integers(8)]) + whole[place + 1 :])
        try:
            model, _ = load_checkpoint(path)
        except UserError:
            noticed += 1
        else:
            assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())
    assert noticed > 20


def test_another_architecture(path, content):
    with refused(path, "holds a ImageVAE, not the ImageUNet"):
        load_checkpoint(path, expect="ImageUNet")
    for name in ("Tacotron", "load_checkpoint", ""):
        torch.save({**content, "architecture": name}, path)
        with refused(path, f"holds a {name}, unknown"):
            load_checkpoint(path)


@pytest.mark.parametrize("number", [0, 2, 1000])
def test_another_format(path, content, number):
    torch.save({**content, "format": number}, path)
    with refused(path, f"format {number}, this version reads 1"):
        load_checkpoint(path)


WRONG = {"format": [None, "1", torch.zeros(2)], "architecture": [None, 5, ["ImageVAE"]]}
WRONG |= {"arguments": [None, [1], "conv"], "weights": [None, [1], torch.zeros(3)]}


@pytest.mark.parametrize("field", WRONG)
def test_fields_missing_or_of_another_kind(path, content, field):
    torch.save({name: value for name, value in content.items() if name != field}, path)
    with refused(path, "holds no model of this project"):
        load_checkpoint(path)
    for wrong in WRONG[field]:
        torch.save({**content, field: wrong}, path)
        with refused(path, "holds no model of this project"):
            load_checkpoint(path)


@pytest.mark.parametrize("value", [torch.zeros(3), [1, 2], {}, "text", {"other": 1}], ids=str)
def test_plain_data_that_is_no_checkpoint(path, value):
    torch.save(value, path)
    with refused(path, "holds no model of this project"):
        load_checkpoint(path)


def spoil(weights, how):
    name = "encoder.heads.0.weight"
    if how == "one missing":
        return {key: value for key, value in weights.items() if key != name}
    if how == "one too many":
        return {**weights, "encoder.extra": torch.zeros(2)}
    if how == "number for a name":
        return {**weights, 5: torch.zeros(2)}
    return {**weights, name: {"another shape": torch.zeros(2, 2), "no tensor": "zeros"}[how]}


@pytest.mark.parametrize("how", ["one missing", "one too many", "another shape", "no tensor", "number for a name"])
def test_weights_that_do_not_fit(path, content, how):
    torch.save({**content, "weights": spoil(content["weights"], how)}, path)
    with refused(path, "do not fit this version's ImageVAE"):
        load_checkpoint(path)


ODD_ARGUMENTS = [
    ("ImageVAE", {"kind": "recurrent"}),
    ("ImageVAE", {"kind": ["conv"]}),
    ("ImageVAE", {"depth": 3}),
    ("ImageVAE", {5: 3}),
    ("ImageVAE", {"latent": -1}),
    ("ImageVAE", {"width": 2.5}),
    ("ImageVAE", {"width": "wide"}),
    ("ImageVAE", {"width": None}),
    ("ImageVAE", {"width": 10**30}),
    ("ImageUNet", {"channels": 5}),
    ("ImageUNet", {"channels": [], "blocks": []}),
    ("ImageUNet", {"blocks": [1]}),
]


@pytest.mark.parametrize(("architecture", "arguments"), ODD_ARGUMENTS, ids=str)
def test_arguments_that_make_no_model(path, content, architecture, arguments):
    torch.save({**content, "architecture": architecture, "arguments": arguments}, path)
    with refused(path, f"do not fit this version's {architecture}"):
        load_checkpoint(path)


def failing(error):
    def write(file):
        file.write(b"half of")
        file.flush()
        raise error

    return write


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "free some disk space"),
        (PermissionError(errno.EACCES, "Permission denied"), "choose a folder you may write to"),
        (OSError(errno.EROFS, "Read-only file system"), "choose a folder you may write to"),
    ],
    ids=["full", "forbidden", "read-only"],
)
def test_a_failed_write_leaves_the_old_file(path, error, remedy):
    path.write_bytes(b"old")
    with refused(path, error.strerror, remedy):
        write_atomically(path, failing(error))
    assert path.read_bytes() == b"old" and list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_an_interrupted_write_leaves_the_old_file(path, error):
    path.write_bytes(b"old")
    with pytest.raises(error):
        write_atomically(path, failing(error))
    assert path.read_bytes() == b"old" and list(path.parent.iterdir()) == [path]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux alone has a device that is always full")
@pytest.mark.parametrize("name", ["convolutional VAE", "dense VAE"])
def test_full_disk(path, name):
    save_checkpoint(path, build(), note="old")
    old = path.read_bytes()
    path.with_name("model.pt.part").symlink_to("/dev/full")
    with refused(path, "No space left on device", "free some disk space"):
        save_checkpoint(path, build(name))
    assert path.read_bytes() == old and list(path.parent.iterdir()) == [path]


def test_a_place_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    path = tmp_path / "file" / "model.pt"
    with refused(path, "choose a folder you may write to"):
        save_checkpoint(path, build())
    assert (tmp_path / "file").read_text() == "no folder"
    (tmp_path / "model.pt").mkdir()
    with refused(tmp_path / "model.pt", "choose a folder you may write to"):
        save_checkpoint(tmp_path / "model.pt", build())
    assert sorted(place.name for place in tmp_path.iterdir()) == ["file", "model.pt"]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(tmp_path):
    tmp_path.chmod(0o500)
    with refused(tmp_path / "model.pt", "choose a folder you may write to"):
        save_checkpoint(tmp_path / "model.pt", build())


def test_write_atomically_makes_folders_and_replaces(tmp_path):
    path = tmp_path / "a" / "b" / "file"
    path.with_name("file.part").parent.mkdir(parents=True)
    path.with_name("file.part").write_bytes(b"a long leftover of a killed process")
    for data in (b"first", b"2nd"):
        write_atomically(path, lambda file, data=data: file.write(data))
        assert path.read_bytes() == data and list(path.parent.iterdir()) == [path]
