"""A notebook opened on its own, as on Colab: its first cell gets the project from a clone or from an uploaded ZIP."""

import os
import subprocess
import zipfile

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from helpers.runtime import ROOT

NOTEBOOKS = sorted(ROOT.glob("0*.ipynb"))
ASK = "import helpers\nprint(os.getcwd(), helpers.VERSION)"


def first_cell(path):
    return next(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code")


def run_first_cell(folder, repository):
    """Execute the set-up cell in `folder`, nothing of the project in reach; return what it and ASK printed."""
    source = first_cell(NOTEBOOKS[0]).replace("https://github.com/bss-notebooks/bss-notebooks", str(repository))
    source = source.replace("%pip install", "%pip --disable-pip-version-check install --no-index")  # no network here
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in (source, ASK)])
    NotebookClient(notebook, timeout=120, coalesce_streams=True, resources={"metadata": {"path": folder}}).execute()
    return ["".join(output.get("text", "") for output in cell.outputs) for cell in notebook.cells]


def project_files(version, requirements=""):
    return {"helpers/__init__.py": f"VERSION = {version!r}\n", "requirements.txt": requirements}


def upload(path, files, time):
    """Write a ZIP as GitHub makes them, all in one folder, uploaded at a time."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(f"bss-notebooks-main/{name}", content)
    os.utime(path, (time, time))


@pytest.fixture
def content(tmp_path, bare_environment):
    """An empty folder, such as /content on Colab."""
    bare_environment.delenv("PYTHONPATH", raising=False)
    (tmp_path / "content").mkdir()
    return tmp_path / "content"


def test_the_notebooks_share_their_first_cell():
    assert len({first_cell(path) for path in NOTEBOOKS}) == 1


def test_it_clones_the_project_also_over_a_half_finished_clone(content, tmp_path):
    work = tmp_path / "work"
    for name, text in project_files("cloned").items():
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).write_text(text)
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    for command in (["init", "--quiet"], ["add", "--all"], [*identity, "commit", "--quiet", "-m", "all"]):
        subprocess.run(["git", *command], cwd=work, check=True)
    (content / "bss-notebooks" / ".git").mkdir(parents=True)
    assert run_first_cell(content, f"file://{work}")[1].split() == [str(content / "bss-notebooks"), "cloned"]
    again = run_first_cell(content, "https://127.0.0.1:9/nowhere")[1]  # a new runtime, no network: the clone is kept
    assert again.split() == [str(content / "bss-notebooks"), "cloned"]


def test_it_takes_the_newest_of_several_uploads(content):
    upload(content / "bss-notebooks.zip", project_files("old"), time=1_000)
    upload(content / "bss-notebooks (1).zip", project_files("new"), time=2_000)
    assert run_first_cell(content, "https://127.0.0.1:9/nowhere")[1].split()[1] == "new"
    upload(content / "bss-notebooks.zip", project_files("newest"), time=3_000)
    assert run_first_cell(content, "https://127.0.0.1:9/nowhere")[1].split()[1] == "newest"


def test_without_a_network_it_says_in_a_sentence_what_to_do(content):
    with pytest.raises(CellExecutionError) as error:
        run_first_cell(content, "https://127.0.0.1:9/nowhere")
    assert error.value.ename == "RuntimeError"
    assert error.value.evalue.endswith("cannot be reached: upload bss-notebooks.zip here and run this cell again.")


def test_what_pip_says_is_shown(content):
    upload(content / "bss-notebooks.zip", project_files("any", "no-such-package-as-this==1.0\n"), time=1_000)
    said, _ = run_first_cell(content, "https://127.0.0.1:9/nowhere")
    assert "no-such-package-as-this" in said and "ERROR" in said
