"""The command line, called as a user calls it: exit status, one line of error, no traceback."""

import os
import signal
import subprocess
import sys
import time

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from helpers.runtime import ROOT


def environment():
    """The tests' own environment without the user's settings, and without a network."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("BSS_")}
    nowhere = "http://127.0.0.1:9"
    return kept | {"HTTP_PROXY": nowhere, "HTTPS_PROXY": nowhere, "http_proxy": nowhere, "https_proxy": nowhere}


def call(*arguments):
    command = [sys.executable, "-m", "helpers", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=300)


def notebook(folder, code):
    nbformat.write(new_notebook(cells=[new_code_cell(code)]), folder / "tiny.ipynb")
    return folder / "tiny.ipynb"


def test_help_names_every_command():
    done = call("--help")
    assert done.returncode == 0 and not done.stderr
    for command in ("fetch", "run", "pdf", "table"):
        assert f"\n  {command} " in done.stdout or f"\n    {command} " in done.stdout
    assert max(map(len, done.stdout.split("\n"))) <= 100


@pytest.mark.parametrize("command", ["fetch", "run", "pdf", "table"])
def test_each_command_has_help(command):
    done = call(command, "--help")
    assert done.returncode == 0 and f"python -m helpers {command}" in done.stdout


@pytest.mark.parametrize("wrong", [[], ["separat"], ["pdf"], ["run", "--profile", "fast"], ["table", "--nosuch"]])
def test_a_usage_error_is_status_2_and_says_how_to_use_it(wrong):
    done = call(*wrong)
    assert done.returncode == 2 and done.stderr.startswith("usage: python -m helpers") and not done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["pdf", "absent.ipynb"], "absent.ipynb: there is no such notebook"),
        (["run", "absent.ipynb"], "absent.ipynb: there is no such notebook"),
        (["table", "absent"], "absent: no results are there yet"),
    ],
)
def test_what_the_user_can_mend_is_status_1_and_one_line(arguments, words):
    done = call(*arguments)
    assert done.returncode == 1 and not done.stdout
    assert done.stderr.startswith(f"python -m helpers: error: {words}")
    assert done.stderr.count("\n") == 1 and "Traceback" not in done.stderr


def test_fetch_without_a_network_says_so_and_leaves_no_file(tmp_path):
    done = call("fetch", "--data-dir", tmp_path / "data")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.startswith("python -m helpers: error: ") and done.stderr.count("\n") == 1
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_run_writes_the_copy_and_the_pdf_and_pdf_writes_it_again(tmp_path):
    path = notebook(tmp_path, "import os; print('profile', os.environ['BSS_PROFILE'])")
    done = call("run", path, "--profile", "smoke", "--output", tmp_path / "out")
    assert (done.returncode, done.stderr) == (0, "")
    assert "profile smoke" in done.stdout
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["tiny.ipynb", "tiny.pdf"]
    done = call("pdf", tmp_path / "out" / "tiny.ipynb", "-o", tmp_path / "again")
    assert (done.returncode, done.stdout) == (0, f"{tmp_path / 'again' / 'tiny.pdf'}\n")
    assert (tmp_path / "again" / "tiny.pdf").read_bytes().startswith(b"%PDF")


def test_a_failing_notebook_is_status_1_and_keeps_the_cells_that_ran(tmp_path):
    done = call("run", notebook(tmp_path, "1 / 0"), "--no-pdf", "--output", tmp_path / "out")
    assert done.returncode == 1 and "tiny.ipynb, cell 1: ZeroDivisionError" in done.stderr
    assert "Traceback" not in done.stderr and done.stderr.count("\n") == 1
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["tiny.failed.ipynb"]


def test_an_interrupted_run_is_status_130_and_ends_its_kernel(tmp_path):
    pid = tmp_path / "pid"
    path = notebook(tmp_path, f"import os, time\nopen({str(pid)!r}, 'w').write(str(os.getpid()))\ntime.sleep(900)")
    command = [sys.executable, "-m", "helpers", "run", str(path), "--output", str(tmp_path / "out")]
    run = subprocess.Popen(
        command, cwd=ROOT, env=environment(), stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a suite run in the background ignores it
    )  # fmt: skip
    deadline = time.monotonic() + 200
    while not (pid.exists() and pid.read_text()) and time.monotonic() < deadline:
        time.sleep(0.1)
    kernel = int(pid.read_text())
    run.send_signal(signal.SIGINT)
    _, errors = run.communicate(timeout=100)
    assert run.returncode == 130 and "interrupted" in errors and "Traceback" not in errors
    with pytest.raises(ProcessLookupError):
        os.kill(kernel, 0)
    assert not (tmp_path / "out").exists()
