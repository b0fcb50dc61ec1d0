"""The README promises nothing that does not run, and every import is of a package that is installed."""

import ast
import re
import shlex
import subprocess
import sys

import pytest
from packaging.requirements import Requirement

import helpers.__main__
import report.__main__
from helpers.runtime import ROOT

README, DATA, TESTED = ((ROOT / name).read_text(encoding="utf-8") for name in (
    "README.md", "helpers/data/README.md", "tests/README.md"))  # fmt: skip
PARSERS = {"helpers": helpers.__main__.parser(), "report": report.__main__.parser()}
MODULES = {"sklearn": "scikit-learn", "skimage": "scikit-image", "pypandoc": "pypandoc-binary", "PIL": "matplotlib"}
OPTIONAL = {"google"}  # google.colab, which is on Colab alone
# modules of what is declared by another name, or of what a declared package cannot be without
VIA = {"jupyter_client": "nbclient", "packaging": "pytest", "xdist": "pytest-xdist"}


def commands():
    """Every line of the READMEs' shell blocks, without its comment, as words."""
    blocks = re.findall(r"^```sh\n(.*?)^```", README + DATA, re.DOTALL | re.MULTILINE)
    return [words for block in blocks for line in block.splitlines() if (words := shlex.split(line, comments=True))]


def requirements(name):
    lines = (line.split("#")[0].strip() for line in (ROOT / name).read_text().splitlines())
    return {canonical(found.name): found for line in lines if line[:1] not in "-" for found in [Requirement(line)]}


def canonical(name):
    return re.sub(r"[-_.]+", "-", name).lower()


DECLARED = requirements("requirements.txt") | requirements("requirements-dev.txt")


def test_every_command_of_the_readme_is_one_that_exists():
    assert [" ".join(words) for words in commands()][:2] == ["make run", "make test"]
    for words in commands():
        words = [word for word in words if not word.startswith("BSS_DATA_DIR=")]
        if words[:2] == ["python", "-m"] and "--help" not in words:
            PARSERS[words[2]].parse_args(words[3:])
        elif words[0] == "make":
            done = subprocess.run([*words, "--dry-run"], cwd=ROOT, capture_output=True, text=True)
            assert done.returncode == 0 and done.stdout.strip(), done.stderr


def test_every_notebook_has_a_badge_that_opens_it_where_its_own_set_up_cell_looks():
    link = r"^\[colab-\d+\]: https://colab\.research\.google\.com/github/(.+)/blob/main/(.+)$"
    opened = re.findall(link, README, re.M)
    assert [name for _, name in opened] == sorted(path.name for path in ROOT.glob("0*.ipynb"))
    for owner, name in opened:
        assert rf"REPOSITORY = \"https://github.com/{owner}\"" in (ROOT / name).read_text(encoding="utf-8"), name


def test_files_that_the_readme_names_exist():
    made = {".venv", ".venv-colab", "build/", "build/states/", "data/"}
    named = set(re.findall(r"`([\w./-]+(?:/|\.ipynb|\.txt|\.json))`|\]\((\w+/[^)]+)\)", README))
    named = {name or picture for name, picture in named} - made
    assert len(named) > 5 and [name for name in named if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("folder", ["helpers", "report", "tests"])
def test_every_import_is_declared(folder):
    own = {"helpers", "report", "benchmarks", *(path.stem for path in (ROOT / "tests").glob("*.py"))}
    found = set()
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found.add(node.module.split(".")[0])
    foreign = found - set(sys.stdlib_module_names) - own - OPTIONAL
    assert [name for name in foreign if canonical(VIA.get(name) or MODULES.get(name, name)) not in DECLARED] == []


@pytest.mark.parametrize("file", ["constraints.txt", "constraints-colab.txt"])
def test_the_pinned_versions_satisfy_the_lower_bounds_and_are_those_said_to_be_tested(file):
    pins = {name: str(pin.specifier).removeprefix("==") for name, pin in requirements(file).items()}
    for name, requirement in DECLARED.items():
        assert requirement.specifier.contains(pins[name]), f"{requirement} and {pins[name]}"
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in TESTED.splitlines() if line[:1] == "|"]
    headings = next(row for row in rows if row[:2] == ["set", "Python"])[2:]
    said = next(row for row in rows if row[0].startswith(f"`{file}`"))[2:]
    assert said == [pins[canonical(heading)] for heading in headings]
