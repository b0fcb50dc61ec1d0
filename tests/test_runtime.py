"""Seed, device, precision, profile, paths and versions."""

import importlib.metadata
import os
import platform
import random
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers import runtime
from helpers.runtime import UserError

PROFILES = {"smoke": 1, "quick": 2, "long": 3, "full": 4}


def draw():
    return random.random(), np.random.rand(3).tolist(), torch.rand(3).tolist()


def test_seed_rules_all_three_generators():
    runtime.seed_everything(7)
    first, later = draw(), draw()
    runtime.seed_everything(7)
    assert first == draw()
    runtime.seed_everything(8)
    other = draw()
    assert all(first[k] != later[k] and first[k] != other[k] for k in range(3))


# ---- device and precision ----------------------------------------------------------------------------------------


def test_pick_device(monkeypatch):
    assert runtime.pick_device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert runtime.pick_device() == torch.device("cpu")


@pytest.mark.parametrize("name", ["abacus", "", "cuda:99"])
def test_a_device_that_is_not_there(name):
    with pytest.raises(UserError, match=f"device '{name}' cannot be used here.*take 'cpu' or 'auto'") as caught:
        runtime.pick_device(name)
    assert caught.value.__cause__ is not None


def test_describe_device(monkeypatch):
    words = runtime.describe_device(torch.device("cpu"))
    assert words == f"{torch.get_num_threads()} CPU cores ({platform.machine()})"
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"Abacus {device.index}")
    assert runtime.describe_device(torch.device("cuda", 3)) == "Abacus 3"


@pytest.mark.parametrize(("capability", "expected"), [((6, 0), "fp16"), ((7, 5), "fp16"), ((8, 0), "bf16")])
def test_precision_of_a_gpu(monkeypatch, capability, expected):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert runtime.precision(torch.device("cuda")) == expected


@pytest.mark.parametrize(("flags", "expected"), [("avx512f avx512_bf16", "bf16"), ("avx512f", "no"), (None, "no")])
def test_precision_of_a_cpu(tmp_path, monkeypatch, flags, expected):
    cpuinfo = tmp_path / "cpuinfo"
    if flags:
        cpuinfo.write_text(f"model name : any\nflags : {flags}\n")
    monkeypatch.setattr(runtime, "Path", lambda name: cpuinfo if name == "/proc/cpuinfo" else Path(name))
    assert runtime.precision(torch.device("cpu")) == expected
    assert runtime.precision(torch.device("mps")) == "no"


class Layer(torch.nn.Linear):
    @runtime.in_float32
    def forward(self, x, others=(), scale=None):
        self.seen = [value.dtype for value in (x, *others)]
        return super().forward(x)


def test_in_float32_under_autocast():
    layer, x = Layer(3, 2), torch.randn(4, 3)
    exact = torch.nn.functional.linear(x, layer.weight, layer.bias)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.nn.functional.linear(x, layer.weight).dtype == torch.bfloat16
        assert torch.equal(layer(x), exact)
        others = (x.half(), x.double(), x.to(torch.complex64), torch.arange(2))
        layer(x.bfloat16(), others=others, scale=None)
        assert torch.nn.functional.linear(x, layer.weight).dtype == torch.bfloat16  # afterwards as before
    assert layer.seen == [torch.float32, torch.float32, torch.float64, torch.complex64, torch.int64]
    assert layer.to("meta")(x.to("meta")).shape == (4, 2)  # a device without autocast


# ---- profiles and folders ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("gpu", "expected"), [(False, ("quick", 2)), (True, ("full", 4))])
def test_automatic_profile(bare_environment, gpu, expected):
    bare_environment.setattr(torch.cuda, "is_available", lambda: gpu)
    assert runtime.pick_profile(PROFILES) == runtime.pick_profile(PROFILES, "auto") == expected
    for name in ("auto", ""):
        bare_environment.setenv("BSS_PROFILE", name)
        assert runtime.pick_profile(PROFILES) == expected


def test_profile_from_argument_and_environment(bare_environment):
    bare_environment.setenv("BSS_PROFILE", "smoke")
    assert runtime.pick_profile(PROFILES) == ("smoke", 1)
    assert runtime.pick_profile(PROFILES, "long") == ("long", 3)  # the argument counts more
    bare_environment.setenv("BSS_PROFILE", "huge")
    with pytest.raises(UserError, match="unknown profile 'huge': set BSS_PROFILE to auto or one of smoke, quick"):
        runtime.pick_profile(PROFILES)


def test_data_dir(bare_environment):
    assert runtime.data_dir() == runtime.ROOT / "data"
    bare_environment.setenv("BSS_DATA_DIR", "~/sets")
    assert runtime.data_dir() == Path.home() / "sets"
    bare_environment.setenv("BSS_DATA_DIR", "")
    assert runtime.data_dir() == runtime.ROOT / "data"


@pytest.fixture
def unwritable(tmp_path, monkeypatch):
    """A project and a home that cannot be written, whoever runs the tests."""
    runtime.cache_dir.cache_clear()
    monkeypatch.setattr(runtime, "BUILD", tmp_path / "locked" / "build")
    monkeypatch.setattr(runtime.os, "access", lambda path, mode: False)
    yield monkeypatch
    runtime.cache_dir.cache_clear()


def test_the_cache_is_in_the_project_where_it_can_be_written(tmp_path, monkeypatch):
    runtime.cache_dir.cache_clear()
    monkeypatch.setattr(runtime, "BUILD", tmp_path / "build")
    assert runtime.cache_dir() == tmp_path / "build" / "cache"
    runtime.cache_dir.cache_clear()


def test_the_cache_is_a_temporary_folder_elsewhere(unwritable, tmp_path):
    folder = runtime.cache_dir()
    assert folder.is_dir() and folder == runtime.cache_dir() and tmp_path not in folder.parents
    assert not (tmp_path / "locked").exists()


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new" / "file"
    assert runtime.write_atomically(path, b"one") == path and path.read_bytes() == b"one"
    runtime.write_atomically(path, lambda file: file.write(b"two"))

    def fail(file):
        file.write(b"thr")
        raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match=r"file cannot be written \(No space left on device\): free some disk space"):
        runtime.write_atomically(path, fail)
    assert path.read_bytes() == b"two" and list(path.parent.iterdir()) == [path]


# ---- versions ----------------------------------------------------------------------------------------------------


def test_versions(monkeypatch):
    monkeypatch.setattr(runtime, "PACKAGES", ("torch",))
    expected = {"python": platform.python_version(), "torch": importlib.metadata.version("torch")}
    assert runtime.versions() == expected


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A git repository with one commit in it, as the project's folder."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(runtime, "ROOT", tmp_path)
    (tmp_path / "file").write_text("one")
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.invalid", "-c", "commit.gpgsign=false"]
    for command in (["init", "--quiet"], ["add", "file"], ["commit", "--quiet", "-m", "one"]):
        subprocess.run([*git, *command], cwd=tmp_path, check=True)
    return tmp_path


def test_git_revision(repository, monkeypatch):
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=repository, capture_output=True, text=True, check=True)
    revision = runtime.git_revision()
    assert len(revision) >= 7 and done.stdout.startswith(revision)
    (repository / "file").write_text("two")
    assert runtime.git_revision() == f"{revision}-dirty"
    monkeypatch.setenv("PATH", str(repository))
    assert runtime.git_revision() == "unknown"  # no git


def test_git_revision_outside_a_checkout(tmp_path, monkeypatch):
    monkeypatch.setattr(runtime, "ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert runtime.git_revision() == "unknown"


def test_what_runs_write_does_not_make_a_revision_dirty_but_a_changed_source_does(tmp_path, monkeypatch):
    monkeypatch.setattr(runtime, "ROOT", tmp_path)
    assert runtime.git_revision() == "unknown"
    for file in ("code.py", "figures/a.png", "report/results/a.json"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text("1")
    for command in ("init", "add .", "-c user.name=a -c user.email=a@b commit -m one"):
        subprocess.run(["git", *command.split()], cwd=tmp_path, check=True, capture_output=True)
    clean = runtime.git_revision()
    (tmp_path / "figures/a.png").write_text("2")
    (tmp_path / "report/results/a.json").write_text("2")
    (tmp_path / "untracked.txt").write_text("2")
    assert len(clean) >= 7 and runtime.git_revision() == clean
    (tmp_path / "code.py").write_text("2")
    assert runtime.git_revision() == f"{clean}-dirty"
