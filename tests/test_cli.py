"""The command lines as a user calls them: exit status, one line of error, no traceback."""

import os
import signal
import subprocess
import sys
import time

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

import helpers.__main__
import report.__main__
from helpers.data.corpora import KINDS
from helpers.runtime import ROOT

MAINS = {"helpers": helpers.__main__.main, "report": report.__main__.main}


@pytest.mark.parametrize(
    ("module", "commands"),
    [
        ("helpers", ["separate", "evaluate", "train", "models", "fetch"]),
        ("report", ["run", "pdf", "report", "table", "submission"]),
    ],
)
def test_help_names_every_command_and_each_has_its_own(module, commands, capsys):
    for arguments in ([], *([command] for command in commands)):
        with pytest.raises(SystemExit) as ended:
            MAINS[module]([*arguments, "--help"])
        shown = capsys.readouterr().out
        assert ended.value.code == 0 and " ".join(["usage: python -m", module, *arguments]) in shown
        assert arguments or all(f"\n    {command}" in shown for command in commands)


def test_help_on_corpora_names_them_all_and_says_how_to_join_them(capsys):
    for command, words in (
        ("evaluate", [*KINDS, "multitrack", "embedded", "A+B+C"]),
        ("train", ["mir1k+voices-and-bands"]),
    ):
        with pytest.raises(SystemExit):
            helpers.__main__.main([command, "--help"])
        shown = "".join(capsys.readouterr().out.split())  # however the lines were broken
        assert [word for word in words if word not in shown] == []


@pytest.mark.parametrize(
    "wrong",
    ["helpers", "helpers separat", "report", "report pdf", "report run --profile fast", "report table --nosuch"],
)
def test_a_usage_error_is_status_2_and_says_how_to_use_it(wrong, capsys):
    module, *arguments = wrong.split()
    with pytest.raises(SystemExit) as ended:
        MAINS[module](arguments)
    shown = capsys.readouterr()
    assert ended.value.code == 2 and shown.err.startswith(f"usage: python -m {module}") and not shown.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["pdf", "absent.ipynb"], "absent.ipynb: there is no such notebook"),
        (["run", "absent.ipynb"], "absent.ipynb: there is no such notebook"),
        (["table", "absent"], "absent: no results there"),
    ],
)
def test_what_the_user_can_mend_is_status_1_and_one_line(arguments, words, capsys):
    assert report.__main__.main(arguments) == 1
    shown = capsys.readouterr()
    assert shown.err.startswith("python -m report: error: ") and words in shown.err
    assert shown.err.count("\n") == 1 and not shown.out


def test_fetch_without_a_network_says_so_and_leaves_no_file(tmp_path, bare_environment, capsys):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        bare_environment.setenv(name, "http://127.0.0.1:9")
    assert helpers.__main__.main(["fetch", "--data-dir", str(tmp_path / "data")]) == 1
    assert "python -m helpers: error: " in capsys.readouterr().err
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_an_interrupted_run_is_status_130_and_ends_its_kernel(tmp_path):
    """In a process of its own, as a user's Ctrl-C meets it."""
    pid = tmp_path / "pid"
    code = f"import os, time\nopen({str(pid)!r}, 'w').write(str(os.getpid()))\ntime.sleep(900)"
    nbformat.write(new_notebook(cells=[new_code_cell(code)]), tmp_path / "tiny.ipynb")
    command = [sys.executable, "-m", "report", "run", tmp_path / "tiny.ipynb", "--output", tmp_path / "out"]
    run = subprocess.Popen(
        list(map(str, command)), cwd=ROOT, stderr=subprocess.PIPE, text=True,
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
