"""`make run` and `make test` on a fresh machine: with a stand-in for Python that notes what it is asked for."""

import os
import shutil
import subprocess

import pytest

from helpers.runtime import ROOT

FAKE = """#!/bin/sh
echo "$*" >> {log}
case "$*" in
  *version_info*) exit ${{TOO_OLD:-0}} ;;
  --version) echo "Python 3.9.6" ;;
  "-m venv --clear "*) rm -rf "$4"; mkdir -p "$4/bin"; cp "$0" "$4/bin/python" ;;
  "-m pip install --quiet -r "*) exit ${{NO_NETWORK:-0}} ;;
esac
"""


@pytest.fixture
def project(tmp_path):
    """A copy of what `make` needs, and the fake Python beside it."""
    for name in ("Makefile", "requirements.txt", "requirements-dev.txt", "constraints.txt", "constraints-colab.txt"):
        shutil.copy(ROOT / name, tmp_path)
        os.utime(tmp_path / name, (1000, 1000))
    fake = tmp_path / "fake-python"
    fake.write_text(FAKE.format(log=tmp_path / "log"))
    fake.chmod(0o755)
    return tmp_path


def make(project, *arguments, **settings):
    """Call make; return what it did and what Python was asked for meanwhile."""
    (project / "log").write_text("")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("BSS_", "MAKE", "PYTEST"))}
    command = ["make", f"PYTHON={project / 'fake-python'}", *arguments]
    done = subprocess.run(command, cwd=project, env=kept | settings, capture_output=True, text=True, timeout=300)
    return done, (project / "log").read_text().splitlines()


def test_the_environment_is_made_once_from_the_pinned_versions(project):
    asked = make(project, "test")[1]
    assert asked[1:4] == [
        "-m venv --clear .venv",
        "-m pip install --quiet --upgrade pip>=24",
        "-m pip install --quiet -r requirements-dev.txt -c constraints.txt",
    ]
    checks = ["-m ruff check --quiet .", "-m pytest -n 2 --dist loadfile --no-loadscope-reorder"]
    assert asked[4:] == checks and make(project, "test")[1] == checks
    assert make(project, "run")[1] == ["-m report run --profile auto"]
    chosen = make(project, "run", "PROFILE=smoke", "NOTEBOOKS=01_a.ipynb")[1]
    assert chosen == ["-m report run --profile smoke 01_a.ipynb"]


def test_a_half_finished_environment_is_made_anew_and_an_old_one_brought_up_to_date(project):
    done, _ = make(project, "run", NO_NETWORK="1")
    assert done.returncode != 0 and not (project / ".venv" / ".installed").exists()
    asked = make(project, "run")[1]
    assert "-m venv --clear .venv" in asked and asked[-1].startswith("-m report run")
    os.utime(project / "constraints.txt")
    os.utime(project / ".venv" / ".installed", (2000, 2000))
    asked = make(project, "run")[1]
    assert [line for line in asked if "pip install" in line] and not [line for line in asked if "venv" in line]


def test_a_python_that_is_too_old_is_told_in_a_sentence(project):
    done, _ = make(project, "run", TOO_OLD="1")
    assert done.returncode != 0 and not (project / ".venv").exists()
    assert "Python 3.11 or newer is needed" in done.stderr and "Python 3.9.6" in done.stderr


def test_the_colab_leg_has_an_environment_of_its_own_and_runs_no_notebooks(project):
    asked = make(project, "test-colab")[1]
    assert "-m venv --clear .venv-colab" in asked and not (project / ".venv").exists()
    assert "-m pip install --quiet -r requirements-dev.txt -c constraints-colab.txt" in asked
    assert asked[-1].startswith("-m pytest") and "--ignore=tests/test_notebooks.py" in asked[-1]


def test_clean_removes_what_was_made_and_nothing_else(project):
    make(project, "run")
    (project / "build").mkdir()
    before = {path.name for path in project.iterdir()} - {".venv", "build"}
    make(project, "clean")
    assert {path.name for path in project.iterdir()} == before
