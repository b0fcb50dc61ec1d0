"""The README promises nothing that does not run, and names every dependency; the pinned sets fit the lower bounds."""

import ast
import re
import shlex
import subprocess
import sys

import pytest
from packaging.requirements import Requirement

from helpers.__main__ import parser
from helpers.runtime import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
MODULES = {"sklearn": "scikit-learn", "skimage": "scikit-image", "pypandoc": "pypandoc_binary", "PIL": "matplotlib"}
OPTIONAL = {"museval"}  # used where it is there; where it is not, an error names it
VIA = {"jupyter_client": "nbclient", "packaging": "pytest"}  # what a declared package cannot be without


def commands():
    """Every line of the README's shell blocks, without its comment, as words."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    assert blocks and all(language == "sh" for language, _ in blocks)
    return [words for _, block in blocks for line in block.splitlines() if (words := shlex.split(line, comments=True))]


def requirements(name):
    lines = (line.split("#")[0].strip() for line in (ROOT / name).read_text().splitlines())
    return [Requirement(line) for line in lines if line and not line.startswith("-")]


def canonical(name):
    return re.sub(r"[-_.]+", "-", name).lower()


DECLARED = [*requirements("requirements.txt"), *requirements("requirements-dev.txt")]


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_command_of_the_readme_is_one_that_exists(words):
    words = [word for word in words if not word.startswith("BSS_DATA_DIR=")]
    if words[:3] == ["python", "-m", "helpers"]:
        if words[3:] == ["--help"]:
            return
        assert callable(parser().parse_args(words[3:]).handler)
    else:
        assert words[0] == "make"
        done = subprocess.run([*words, "--dry-run"], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0 and done.stdout.strip(), done.stderr


def test_two_commands_do_the_set_up():
    assert [" ".join(words) for words in commands()][:2] == ["make run", "make test"]
    first = README.split("```")[1]
    assert first.startswith("sh\nmake run ") and len(first.strip().splitlines()) == 3


def test_the_readme_opens_with_five_lines_and_a_picture():
    title, about, picture = README.split("\n\n")[:3]
    assert title.startswith("# ") and len(about.splitlines()) == 5
    path = re.fullmatch(r"!\[.+\]\((.+)\)", picture)[1]
    assert path.startswith("figures/") and (ROOT / path).is_file(), path


def test_every_notebook_has_a_badge_that_opens_it_where_its_own_set_up_cell_looks():
    notebooks = sorted(path.name for path in ROOT.glob("0*.ipynb"))
    link = r"^\[colab-\d+\]: https://colab\.research\.google\.com/github/(.+)/blob/main/(.+)$"
    opened = re.findall(link, README, re.M)
    assert [name for _, name in opened] == notebooks and notebooks
    for owner, name in opened:
        text = (ROOT / name).read_text(encoding="utf-8")
        assert re.search(rf'REPOSITORY = \\"https://github\.com/{owner}\\"', text), name


def test_files_and_folders_that_the_readme_names_exist():
    made = {".venv", ".venv-colab", "build/", "data/"}
    named = set(re.findall(r"`([\w./-]+(?:/|\.ipynb|\.txt|\.json))`", README)) - made
    assert len(named) > 5
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_every_dependency_has_its_reason_in_the_readme_and_no_other_has():
    table = README.split("## What it depends on")[1]
    listed = [name.strip() for row in re.findall(r"^\| (.+?) \| .+ \|$", table, re.M)[1:] for name in row.split(",")]
    assert listed == sorted(set(listed), key=listed.index)
    assert {canonical(name) for name in listed} == {canonical(requirement.name) for requirement in DECLARED}


@pytest.mark.parametrize("folder", ["helpers", "tests"])
def test_every_import_is_declared(folder):
    declared = {canonical(requirement.name) for requirement in DECLARED}
    own = {"helpers", "report", *(path.stem for path in (ROOT / "tests").glob("*.py"))}
    found = set()
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found.add(node.module.split(".")[0])
    foreign = found - set(sys.stdlib_module_names) - own - OPTIONAL
    assert "torch" in foreign
    assert [name for name in foreign if canonical(VIA.get(name) or MODULES.get(name, name)) not in declared] == []


@pytest.mark.parametrize("file", ["constraints.txt", "constraints-colab.txt"])
def test_the_pinned_versions_satisfy_the_lower_bounds(file):
    pins = {canonical(pin.name): next(iter(pin.specifier)) for pin in requirements(file)}
    assert all(pin.operator == "==" for pin in pins.values())
    for requirement in DECLARED:
        pin = pins[canonical(requirement.name)]
        assert requirement.specifier.contains(pin.version), f"{requirement} and {pin}"
    assert [pins[name].version for name in ("torch", "torchvision", "torchaudio")] == ["2.11.0", "0.26.0", "2.11.0"]


def test_colab_s_own_versions_are_the_older_ones():
    colab = {canonical(pin.name): next(iter(pin.specifier)).version for pin in requirements("constraints-colab.txt")}
    for name, version in {"numpy": "2.1", "scipy": "1.16", "matplotlib": "3.10", "ipython": "7.34"}.items():
        assert colab[name].startswith(version + ".")
    assert (colab["ipywidgets"], colab["librosa"], colab["soundfile"]) == ("7.7.1", "0.11.0", "0.14.0")


@pytest.mark.parametrize("name", ("constraints.txt", "constraints-colab.txt"))
def test_the_versions_said_to_be_tested_are_the_pinned_ones(name):
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in README.splitlines() if line[:1] == "|"]
    headings = next(row for row in rows if row[:2] == ["set", "Python"])[2:]
    said = next(row for row in rows if row[0].startswith(f"`{name}`"))[2:]
    pinned = {canonical(one.name): str(one.specifier) for one in requirements(name)}
    assert said == [pinned[canonical(heading)].removeprefix("==") for heading in headings]
