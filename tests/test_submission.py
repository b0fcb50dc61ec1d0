"""The archive to hand in: what goes in, what is refused, and that it is read again once it is written."""

import subprocess
import zipfile

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output, writes

from helpers.__main__ import main
from helpers.runtime import ROOT, UserError
from report import submission
from report.submission import archive_name, check_archive, pack, write_submission

PDF = b"%PDF-1.7\n" + b"x" * 2000 + b"\n%%EOF\n"


def notebook(counts=(1, 2), **changes):
    """Return a notebook as bytes, with an empty cell that is never executed."""
    cells = [new_code_cell("1 + 1", execution_count=count) for count in counts]
    return writes(new_notebook(cells=[new_markdown_cell("# Title"), *cells, new_code_cell("\n")], **changes)).encode()


def failed():
    error = new_output("error", ename="ValueError", evalue="no", traceback=[])
    return writes(new_notebook(cells=[new_code_cell("1 / 0", execution_count=1, outputs=[error])])).encode()


@pytest.fixture
def project(tmp_path):
    """A small project in version control, with a file that is not."""
    root = tmp_path / "project"
    files = {
        "README.md": b"# A project\n", "requirements.txt": b"torch\n", "Makefile": b"run:\n", ".gitignore": b"build/\n",
        "helpers/__init__.py": b"", "01_a.ipynb": notebook(), "report/results/01_a.json": b"{}",
        "report/report.pdf": PDF, "checkpoints/big.pt": b"b" * 3000, "checkpoints/small.pt": b"s" * 1000,
        ".ci/run": b"#!/bin/sh\n",
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
    path, left_out = write(project)
    assert path == project / "build" / "FirstFamily-123.zip" and left_out == []
    tracked = subprocess.run(["git", "ls-files"], cwd=project, capture_output=True, text=True, check=True)
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == sorted(f"FirstFamily-123/{name}" for name in tracked.stdout.split())
        for entry in archive.infolist():
            file = project / entry.filename.removeprefix("FirstFamily-123/")
            assert archive.read(entry) == file.read_bytes()
            assert bool(entry.external_attr >> 16 & 0o100) == (file.name == "run")
    assert [file.name for file in (project / "build").iterdir()] == ["FirstFamily-123.zip"]


def test_the_report_belongs_to_it_also_outside_version_control(project):
    git(project, "rm", "--quiet", "--cached", "report/report.pdf")
    with zipfile.ZipFile(write(project)[0]) as archive:
        assert archive.read("FirstFamily-123/report/report.pdf") == PDF


def test_the_same_files_make_the_same_archive(project):
    first = write(project)[0].read_bytes()
    (project / "README.md").touch()
    assert write(project)[0].read_bytes() == first


@pytest.mark.parametrize(("limit", "expected"), [(0.004, []), (0.0039, ["big"]), (0.0005, ["big", "small"])])
def test_checkpoints_beyond_the_limit_are_left_out_and_named(project, limit, expected):
    path, left_out = write(project, limit_mb=limit)
    assert left_out == [f"checkpoints/{name}.pt" for name in expected]
    with zipfile.ZipFile(path) as archive:
        kept = {name for name in archive.namelist() if name.endswith(".pt")}
    assert kept == {f"FirstFamily-123/checkpoints/{name}.pt" for name in {"big", "small"} - set(expected)}


@pytest.mark.parametrize(
    ("name", "number", "expected"),
    [
        ("First Family", "123", "FirstFamily-123"),
        ("  ana maría  de la cruz ", "s42", "AnaMaríaDeLaCruz-s42"),
        ("Anna-Lena O'Neil", "1", "AnnaLenaONeil-1"),
    ],
)
def test_the_name_is_first_and_family_name_and_number(name, number, expected):
    assert archive_name(name, number) == expected


@pytest.mark.parametrize(
    "name", ["", "First", "First  ", "O'Neil", "../First Family", "First Family 2", "- -", "a_b c"]
)
def test_another_name_is_refused(name):
    with pytest.raises(UserError, match="is not a first and a family name: give them as in"):
        archive_name(name, "123")


@pytest.mark.parametrize("number", ["", "12 3", "12/3", "../1", "12.3", "-1"])
def test_another_number_is_refused(number):
    with pytest.raises(UserError, match="is not a student number: give letters and digits"):
        archive_name("First Family", number)


BROKEN = {
    "not executed": (notebook((1, None)), "01_a.ipynb has cells that were not executed: execute it again with"),
    "no code": (notebook(()), "01_a.ipynb has cells that were not executed"),
    "out of order": (notebook((2, 1)), "01_a.ipynb was not executed from top to bottom"),
    "from the middle": (notebook((7, 8)), "01_a.ipynb was not executed from top to bottom"),
    "error": (failed(), r"01_a.ipynb has a cell that ended in an error \(In \[1\]\)"),
    "widgets": (notebook(metadata={"widgets": {}}), "01_a.ipynb holds the state of widgets"),
    "cut off": (notebook()[:-9], "01_a.ipynb is not a readable notebook"),
    "no notebook": (b"[]", "01_a.ipynb is not a readable notebook"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_notebook_that_is_not_ready_is_refused(project, case):
    content, message = BROKEN[case]
    (project / "01_a.ipynb").write_bytes(content)
    with pytest.raises(UserError, match=message):
        write(project)
    assert not (project / "build").exists()


def test_a_notebook_of_many_players_is_refused(project, monkeypatch):
    monkeypatch.setattr(submission, "NOTEBOOK_BYTES", 100)
    with pytest.raises(UserError, match="01_a.ipynb takes .* MB, more than"):
        write(project)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda root: (root / "report/report.pdf").unlink(), "report/report.pdf is missing: make the report first"),
        (lambda root: (root / "report/report.pdf").write_bytes(PDF[:-6]), "report.pdf is not a whole PDF"),
        (lambda root: (root / "README.md").unlink(), "README.md is in version control but not there: restore it"),
        (lambda root: git(root, "rm", "-q", "--cached", "README.md"), "README.md is missing: a submission holds it"),
        (lambda root: git(root, "rm", "-qf", "01_a.ipynb"), "a notebook 0.* is missing"),
        (lambda root: (root / "02_b.ipynb").write_bytes(notebook()), "add it with 'git add 02_b.ipynb'"),
        (lambda root: git(root, "add", "song.wav"), "song.wav is neither code nor a result: take it out"),
    ],
)  # fmt: skip
def test_what_is_missing_or_does_not_belong_is_named(project, change, message):
    change(project)
    with pytest.raises(UserError, match=message):
        write(project)
    assert not (project / "build").exists()


def test_a_folder_outside_version_control_is_refused(project, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(project.parent))
    (project / ".git").rename(project / "elsewhere")
    with pytest.raises(UserError, match="is not in version control, which says what is code"):
        write(project)


def test_the_archive_is_read_again(project):
    """Whatever is wrong with the file on the disk is found, and names it."""
    files, _ = submission.gather(project)
    path = project / "FirstFamily-123.zip"
    whole = pack("FirstFamily-123", files)
    path.write_bytes(whole)
    check_archive(path, files)
    spoilt = bytearray(whole)
    spoilt[whole.index(b"checkpoints/big.pt") + 20] ^= 0xFF
    cases = {
        "cannot be read": whole[:-30],
        "FirstFamily-123.zip cannot be read": bytes(spoilt),
        "is not one folder 'FirstFamily-123'": pack("Other-1", files),
        "differs from the project in song.wav": pack("FirstFamily-123", files | {"song.wav": b"RIFF"}),
        "differs from the project in README.md": pack("FirstFamily-123", files | {"README.md": b""}),
        "differs from the project in requirements.txt": pack(
            "FirstFamily-123", {name: content for name, content in files.items() if name != "requirements.txt"}
        ),
    }
    for message, content in cases.items():
        path.write_bytes(content)
        with pytest.raises(UserError, match=message):
            check_archive(path, files)


def test_an_archive_that_fails_its_check_does_not_stay(project, monkeypatch):
    monkeypatch.setattr(submission, "pack", lambda title, files, executable: pack(title, {**files, "x.md": b""}))
    with pytest.raises(UserError, match="differs from the project in x.md"):
        write(project)
    assert list((project / "build").iterdir()) == []


def test_the_command_and_make(project, monkeypatch, capsys):
    monkeypatch.setattr(submission.write_submission, "__defaults__", (None, 60.0, project))
    arguments = ["submission", "--name", "First Family", "--id", "123", "--output", str(project / "out")]
    assert main([*arguments, "--limit-mb", "0.0035"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out == [
        "left out, the checkpoints would take more than 0.0035 MB: checkpoints/big.pt",
        str(project / "out" / "FirstFamily-123.zip"),
    ]
    assert main(["submission", "--name", "", "--id", "123"]) == 1
    error = "python -m helpers: error: '' is not a first and a family name: give them as in NAME=\"First Family\"\n"
    assert capsys.readouterr().err == error
    called = ["make", "--no-print-directory", "--dry-run", "submission", "NAME=First Family", "ID=123", "LIMIT_MB=20"]
    done = subprocess.run(called, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1].endswith(
        '-m helpers submission --name "First Family" --id "123" --limit-mb "20"'
    )


def test_every_tracked_file_of_this_project_has_its_place():
    strange = [
        path
        for path in submission.tracked_files(ROOT)
        if not path.endswith(submission.SUFFIXES) and path.split("/")[-1] not in submission.NAMES
    ]
    assert strange == []
