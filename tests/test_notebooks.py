"""The notebooks: what is delivered is whole and in order, and each runs from top to bottom on embedded data."""

import re

import nbformat
import pytest

from helpers.runtime import ROOT
from report import markup
from report import notebooks as report
from report import pdf as typeset

NOTEBOOKS = sorted(ROOT.glob("0*.ipynb"))
COMMITTED = [ROOT / "report" / "results", ROOT / "figures", ROOT / "checkpoints"]
LARGEST = 6_000_000  # bytes
LONGEST = 18  # lines of a code cell
HOME = re.compile(r"(?<![\w.:/])/(?:root|home|Users|tmp)/\w")  # a path of somebody's machine

each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def cells(path, kind):
    notebook = nbformat.read(path, as_version=4)
    found = [cell for cell in notebook.cells if cell.cell_type == kind and cell.source.strip()]
    assert len(found) > 3
    return found


def committed_files():
    return {file: file.stat().st_mtime_ns for folder in COMMITTED for file in folder.rglob("*")}


def test_the_notebooks_are_there():
    assert "01_mnist_vae_bss.ipynb" in [path.name for path in NOTEBOOKS]


@each
def test_it_was_executed_from_top_to_bottom_without_an_error(path):
    code = cells(path, "code")
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert [output for cell in code for output in cell.outputs if output.output_type == "error"] == []
    assert any(cell.outputs for cell in code)


@each
def test_it_is_light_and_holds_neither_widget_state_nor_somebody_s_paths(path):
    assert path.stat().st_size < LARGEST
    assert "widgets" not in nbformat.read(path, as_version=4).metadata
    assert HOME.findall(path.read_text(encoding="utf-8")) == []


@each
def test_its_cells_are_short(path):
    lengths = {cell.source.split("\n")[0]: len(cell.source.strip().split("\n")) for cell in cells(path, "code")}
    assert {first: lines for first, lines in lengths.items() if lines > LONGEST} == {}


@each
def test_each_formula_is_one_that_the_pdf_can_set(path):
    pieces = [("markdown", cell.source) for cell in cells(path, "markdown")]
    source = markup.to_typst(pieces, lambda target: None, path)
    assert r"\$" not in source  # a dollar sign that nothing was made of


@each
def test_it_runs_without_data_and_network_and_leaves_published_results_alone(path, tmp_path, bare_environment):
    bare_environment.setenv("BSS_DATA_DIR", str(tmp_path / "empty"))
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        bare_environment.setenv(name, "http://127.0.0.1:9")
    before = committed_files()
    done = report.execute_notebook(path, tmp_path, profile="smoke", timeout=300)
    outputs = [output for cell in cells(done, "code") for output in cell.outputs]
    assert outputs and all(output.output_type != "error" for output in outputs)
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert done.stat().st_size < LARGEST
    assert committed_files() == before
    assert typeset.notebook_to_pdf(done, tmp_path).stat().st_size > 10_000


def test_the_first_one_can_load_its_models_instead_of_training(tmp_path, bare_environment):
    bare_environment.setenv("BSS_DATA_DIR", str(tmp_path / "empty"))
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        bare_environment.setenv(name, "http://127.0.0.1:9")
    notebook = nbformat.read(ROOT / "01_mnist_vae_bss.ipynb", as_version=4)
    for cell in notebook.cells:
        cell.source = cell.source.replace("TRAIN = True", "TRAIN = False")
    nbformat.write(notebook, tmp_path / "loads.ipynb")
    done = report.execute_notebook(tmp_path / "loads.ipynb", tmp_path / "done", profile="smoke", timeout=300)
    outputs = [output for cell in cells(done, "code") for output in cell.outputs]
    said = [output["data"]["text/markdown"] for output in outputs if "text/markdown" in output.get("data", {})]
    steps = {text.split(":")[0]: text for text in said if " dB**" in text}
    after = re.search(r"to (\d+\.\d+)\)", steps["- clipping to the feasible interval"])
    assert float(after[1]) > 20  # what was learnt on real images, far beyond two steps of smoke's training
