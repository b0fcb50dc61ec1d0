"""The archive to hand in: what goes in, and what is refused."""

import subprocess
import zipfile

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output, writes

from helpers.runtime import ROOT, UserError
from report import submission
from report.__main__ import main
from report.submission import archive_name, notebook_problem, write_submission


def notebook(*counts, outputs=(), **changes):
    """Return a notebook as bytes, with an empty cell that is never executed."""
    cells = [new_code_cell("1 + 1", execution_count=count, outputs=list(outputs)) for count in counts]
    return writes(new_notebook(cells=[new_markdown_cell("# Title"), *cells, new_code_cell("\n")], **changes)).encode()


@pytest.fixture
def project(tmp_path):
    """A small project in version control, with a file that is not."""
    root = tmp_path / "project"
    files = {
        "README.md": b"# A project\n", "Makefile": b"run:\n", "helpers/__init__.py": b"", "01_a.ipynb": notebook(1, 2),
        "report/report.pdf": b"%PDF", "checkpoints/big.safetensors": b"b" * 3000,
        "checkpoints/small.safetensors": b"s" * 1000, ".ci/run": b"#!/bin/sh\n",
    }  # fmt: skip
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    (root / ".ci" / "run").chmod(0o755)
    git(root, "init", "--quiet")
    git(root, "add", ".")
    (root / "song.wav").write_bytes(b"RIFF")
    return root


def git(root, *arguments):
    subprocess.run(["git", *arguments], cwd=root, check=True)


def write(project, **options):
    return write_submission("First Family", "123", project / "build", root=project, **options)


def test_it_holds_what_is_in_version_control_and_nothing_else(project):
    git(project, "rm", "--quiet", "--cached", "report/report.pdf")  # belongs to it all the same
    path, left_out = write(project)
    assert path == project / "build" / "FirstFamily-123.zip" and left_out == []
    tracked = subprocess.run(["git", "ls-files"], cwd=project, capture_output=True, text=True, check=True)
    with zipfile.ZipFile(path) as archive:
        expected = {*tracked.stdout.split(), "report/report.pdf"}
        assert set(archive.namelist()) == {f"FirstFamily-123/{name}" for name in expected} and not archive.testzip()
        for entry in archive.infolist():
            file = project / entry.filename.removeprefix("FirstFamily-123/")
            assert archive.read(entry) == file.read_bytes()
            assert bool(entry.external_attr >> 16 & 0o100) == (file.name == "run")
    assert [file.name for file in (project / "build").iterdir()] == ["FirstFamily-123.zip"]


def test_checkpoints_beyond_the_limit_are_left_out_the_largest_first(project):
    for limit, expected in ((0.004, []), (0.0039, ["big"]), (0.0005, ["big", "small"])):
        path, left_out = write(project, limit_mb=limit)
        assert left_out == [f"checkpoints/{name}.safetensors" for name in expected]
        with zipfile.ZipFile(path) as archive:
            assert sum(name.endswith(".safetensors") for name in archive.namelist()) == 2 - len(expected)


def test_the_name_is_first_and_family_name_and_number():
    assert archive_name("First Family", "123") == "FirstFamily-123"
    assert archive_name("  ana maría  de la cruz ", "s42") == "AnaMaríaDeLaCruz-s42"
    assert archive_name("Anna-Lena O'Neil", "1") == "AnnaLenaONeil-1"
    for name in ("", "First", "../First Family", "First Family 2"):
        with pytest.raises(UserError, match="is not a first and a family name: give them as in"):
            archive_name(name, "123")
    for number in ("", "12 3", "../1"):
        with pytest.raises(UserError, match="is not a student number: give letters and digits"):
            archive_name("First Family", number)


def test_a_notebook_must_be_executed_in_order_without_an_error_and_light(monkeypatch):
    error = new_output("error", ename="ValueError", evalue="no", traceback=[])
    assert notebook_problem(notebook(1, 2)) is None
    for counts in ((), (1, None), (2, 1), (7, 8)):
        assert notebook_problem(notebook(*counts)) == "was not executed from top to bottom"
    assert notebook_problem(notebook(1, outputs=[error])) == "has a cell that ended in an error"
    assert notebook_problem(notebook(1, metadata={"widgets": {}})) == "holds the state of widgets"
    for content in (notebook(1)[:-9], b"[]"):
        assert notebook_problem(content) == "is not a readable notebook"
    monkeypatch.setattr(submission, "NOTEBOOK_BYTES", 100)
    assert notebook_problem(notebook(1)).startswith("takes more than")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda root: (root / "report/report.pdf").unlink(), "report/report.pdf is missing: restore it, make it again"),
        (lambda root: (root / "01_a.ipynb").write_bytes(notebook(2)), "01_a.ipynb was not executed from top to bottom"),
        (lambda root: git(root, "rm", "-qf", "01_a.ipynb"), "a notebook is not in version control"),
        (lambda root: (root / "02_b.ipynb").write_bytes(notebook(1)), "02_b.ipynb is not in version control"),
        (lambda root: git(root, "add", "song.wav"), "song.wav is neither code nor a result: take it out"),
        (lambda root: (root / ".git").rename(root / "elsewhere"), "is not in version control, or git is not installed"),
    ],
)
def test_what_is_missing_or_does_not_belong_is_named(project, monkeypatch, change, message):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(project.parent))
    change(project)
    with pytest.raises(UserError, match=message):
        write(project)
    assert not (project / "build").exists()


def test_the_command_names_the_archive_and_what_is_not_in_it(project, monkeypatch, capsys):
    monkeypatch.setattr(submission.write_submission, "__defaults__", (None, 60.0, project))
    arguments = ["submission", "--name", "First Family", "--id", "123", "--output", str(project / "out")]
    assert main([*arguments, "--limit-mb", "0.0035"]) == 0
    left_out, path = capsys.readouterr().out.splitlines()
    assert left_out == "left out, the checkpoints would take more than 0.0035 MB: checkpoints/big.safetensors"
    assert path == str(project / "out" / "FirstFamily-123.zip")


def test_every_tracked_file_of_this_project_has_its_place():
    paths = [path for path in submission.tracked_files(ROOT) if (ROOT / path).exists()]
    assert [path for path in paths if not path.endswith(submission.SUFFIXES)] == [
        path for path in paths if path.split("/")[-1] in submission.NAMES
    ]
