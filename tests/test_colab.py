"""A notebook opened on its own, as on Colab: its first cell gets the project from a clone or from an uploaded ZIP."""

import subprocess
import zipfile

import nbformat
import pytest
from nbclient import NotebookClient

from helpers.runtime import ROOT

NOTEBOOKS = sorted(ROOT.glob("0*.ipynb"))
ASK = "import os, helpers\nprint(os.path.dirname(helpers.__file__), os.path.isfile('requirements.txt'))"


def project_files():
    """What a clone would hold if everything were committed now."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    return [name for name in names if name and (ROOT / name).is_file() and not name.startswith(("figures", "checkp"))]


def run_first_cell(path, folder, repository):
    """Execute a notebook's set-up cell in `folder`, nothing of the project in reach; return what it printed."""
    cell = next(cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code")
    source = cell.source.replace("https://github.com/bss-notebooks/bss-notebooks", str(repository))
    assert source != cell.source, "the repository's URL stands in one constant"
    source = source.replace("%pip install", "%pip --disable-pip-version-check install --no-index")  # no network here
    cells = [nbformat.v4.new_code_cell(source), nbformat.v4.new_code_cell(ASK)]
    notebook = nbformat.v4.new_notebook(cells=cells)
    NotebookClient(notebook, timeout=120, coalesce_streams=True, resources={"metadata": {"path": folder}}).execute()
    return ["".join(output.get("text", "") for output in cell.outputs) for cell in notebook.cells]


@pytest.fixture
def empty_folder(tmp_path, bare_environment):
    bare_environment.delenv("PYTHONPATH", raising=False)
    folder = tmp_path / "content"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("path", NOTEBOOKS[:1], ids=lambda path: path.stem)
def test_it_clones_the_project(path, empty_folder, tmp_path):
    bare = tmp_path / "project.git"
    work = tmp_path / "work"
    for name in project_files():
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).write_bytes((ROOT / name).read_bytes())
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    for command in (["init", "--quiet"], ["add", "--all"], [*identity, "commit", "--quiet", "-m", "all"]):
        subprocess.run(["git", *command], cwd=work, check=True)
    subprocess.run(["git", "clone", "--quiet", "--bare", work, bare], check=True)
    first, second = run_first_cell(path, empty_folder, f"file://{bare}")
    assert second.split() == [str(empty_folder / "bss-notebooks" / "helpers"), "True"]
    assert "rror" not in first


@pytest.mark.parametrize("path", NOTEBOOKS[:1], ids=lambda path: path.stem)
def test_it_takes_an_uploaded_zip_first(path, empty_folder):
    with zipfile.ZipFile(empty_folder / "bss-notebooks-main.zip", "w") as archive:
        for name in project_files():
            archive.write(ROOT / name, f"bss-notebooks-main/{name}")
    _, second = run_first_cell(path, empty_folder, "https://127.0.0.1:9/nowhere")
    assert second.split() == [str(empty_folder / "bss-notebooks" / "bss-notebooks-main" / "helpers"), "True"]


@pytest.mark.parametrize("path", NOTEBOOKS[:1], ids=lambda path: path.stem)
def test_what_pip_says_is_shown(path, empty_folder, tmp_path):
    with zipfile.ZipFile(empty_folder / "bss-notebooks.zip", "w") as archive:
        archive.writestr("helpers/__init__.py", "")
        archive.writestr("requirements.txt", "no-such-package-as-this==1.0\n")
    first, _ = run_first_cell(path, empty_folder, tmp_path)
    assert "no-such-package-as-this" in first and "ERROR" in first


def test_the_notebooks_share_their_first_cell():
    firsts = {
        next(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code")
        for path in NOTEBOOKS
    }
    assert len(firsts) == 1
