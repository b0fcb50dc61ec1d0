"""Seed, device, profile, paths and versions."""

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
    again = draw()
    runtime.seed_everything(8)
    other = draw()
    assert first == again
    for k in range(3):
        assert first[k] != later[k] and first[k] != other[k]


def test_pick_device(monkeypatch):
    assert runtime.pick_device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert runtime.pick_device() == runtime.pick_device("auto") == torch.device("cpu")


@pytest.mark.parametrize("name", ["abacus", "", "hpu", "cuda:99", "cuda:-5"])
def test_a_device_that_is_not_there(name):
    with pytest.raises(UserError, match=f"device '{name}' cannot be used here.*take 'cpu' or 'auto'") as caught:
        runtime.pick_device(name)
    assert caught.value.__cause__ is not None


def test_describe_device(monkeypatch):
    found = runtime.describe_device(torch.device("cpu"))
    assert found == f"{torch.get_num_threads()} CPU cores ({platform.machine()})"
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"Abacus {device.index}")
    assert runtime.describe_device(torch.device("cuda", 3)) == "Abacus 3"


@pytest.mark.parametrize(("gpu", "expected"), [(False, ("quick", 2)), (True, ("full", 4))])
def test_automatic_profile(bare_environment, gpu, expected):
    bare_environment.setattr(torch.cuda, "is_available", lambda: gpu)
    assert runtime.pick_profile(PROFILES) == expected
    assert runtime.pick_profile(PROFILES, "auto") == expected
    bare_environment.setenv("BSS_PROFILE", "auto")
    assert runtime.pick_profile(PROFILES) == expected
    bare_environment.setenv("BSS_PROFILE", "")
    assert runtime.pick_profile(PROFILES) == expected


def test_profile_from_argument_and_environment(bare_environment):
    bare_environment.setenv("BSS_PROFILE", "smoke")
    assert runtime.pick_profile(PROFILES) == ("smoke", 1)
    assert runtime.pick_profile(PROFILES, "long") == ("long", 3)  # what is said outright counts more


@pytest.mark.parametrize("in_environment", [False, True])
def test_unknown_profile(bare_environment, in_environment):
    if in_environment:
        bare_environment.setenv("BSS_PROFILE", "huge")
    with pytest.raises(UserError, match="unknown profile 'huge': set BSS_PROFILE to auto or one of smoke, quick"):
        runtime.pick_profile(PROFILES, None if in_environment else "huge")


def test_data_dir(bare_environment, tmp_path):
    assert runtime.data_dir() == runtime.ROOT / "data"
    bare_environment.setenv("BSS_DATA_DIR", str(tmp_path))
    assert runtime.data_dir() == tmp_path
    bare_environment.setenv("BSS_DATA_DIR", "~/sets")
    assert runtime.data_dir() == Path.home() / "sets"
    bare_environment.setenv("BSS_DATA_DIR", "")
    assert runtime.data_dir() == runtime.ROOT / "data"


COMMITTED = {"results": "report/results", "figures": "figures", "checkpoints": "checkpoints"}


@pytest.mark.parametrize("kind", COMMITTED)
@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("embedded", [False, True])
def test_only_long_runs_on_real_data_write_to_the_committed_folders(tmp_path, monkeypatch, kind, profile, embedded):
    monkeypatch.setattr(runtime, "ROOT", tmp_path)
    monkeypatch.setattr(runtime, "BUILD", tmp_path / "build")
    found = runtime.output_dir(kind, profile, embedded=embedded)
    keep = profile in ("long", "full") and not embedded
    assert found == tmp_path / (COMMITTED[kind] if keep else f"build/{kind}")
    assert [path for path in tmp_path.rglob("*") if path.is_dir() and not any(path.iterdir())] == [found]
    assert runtime.output_dir(kind, profile, embedded=embedded) == found  # there already: no harm


def test_output_dir_of_another_kind(tmp_path, monkeypatch):
    monkeypatch.setattr(runtime, "ROOT", tmp_path)
    with pytest.raises(KeyError):
        runtime.output_dir("songs", "long")
    assert not list(tmp_path.iterdir())


def test_root_is_the_project():
    assert (runtime.ROOT / "helpers" / "runtime.py").samefile(runtime.__file__)
    assert runtime.BUILD.parent == runtime.ROOT


def test_on_colab(monkeypatch):
    monkeypatch.delenv("COLAB_RELEASE_TAG", raising=False)
    assert runtime.on_colab() is False
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release-colab_20250101")
    assert runtime.on_colab() is True


def test_versions(monkeypatch):
    monkeypatch.setattr(runtime, "PACKAGES", ("numpy", "torch", "no-such-package-here"))
    found = runtime.versions()
    assert found == {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": importlib.metadata.version("torch"),
        "no-such-package-here": "absent",
    }


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


def test_git_revision(repository):
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=repository, capture_output=True, text=True, check=True)
    revision = runtime.git_revision()
    assert len(revision) >= 7 and done.stdout.startswith(revision)
    (repository / "file").write_text("two")
    assert runtime.git_revision() == f"{revision}-dirty"


def test_git_revision_outside_a_checkout(tmp_path, monkeypatch):
    monkeypatch.setattr(runtime, "ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert runtime.git_revision() == "unknown"


def test_git_revision_without_git(repository, monkeypatch):
    monkeypatch.setenv("PATH", str(repository))
    assert runtime.git_revision() == "unknown"


@pytest.mark.parametrize(("flags", "fast"), [("fpu avx512f avx512_bf16", True), ("fpu avx512f", False), (None, False)])
def test_bfloat16_on_a_cpu_that_says_so(tmp_path, monkeypatch, flags, fast):
    cpuinfo = tmp_path / "cpuinfo"
    if flags:
        cpuinfo.write_text(f"model name : any\nflags : {flags}\n")
    monkeypatch.setattr(runtime, "Path", lambda name: cpuinfo if name == "/proc/cpuinfo" else Path(name))
    assert runtime.fast_bfloat16(torch.device("cpu")) is fast
    assert runtime.fast_bfloat16(torch.device("mps")) is False


@pytest.mark.parametrize(("capability", "fast"), [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_bfloat16_on_a_gpu_that_has_it(monkeypatch, capability, fast):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert runtime.fast_bfloat16(torch.device("cuda")) is fast


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new" / "file"
    assert runtime.write_atomically(path, b"one") == path and path.read_bytes() == b"one"
    runtime.write_atomically(path, lambda file: file.write(b"two"))
    assert path.read_bytes() == b"two" and list(path.parent.iterdir()) == [path]
