"""The notebooks: what is delivered is whole; each runs, offline and on a pretended GPU, and becomes a PDF."""

import json
import re

import nbformat
import pytest

from helpers.runtime import ROOT
from report.notebooks import execute_notebook
from report.pdf import notebook_to_pdf

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


@pytest.fixture
def offline(bare_environment, tmp_path):
    """No data, no network."""
    bare_environment.setenv("BSS_DATA_DIR", str(tmp_path / "empty"))
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        bare_environment.setenv(name, "http://127.0.0.1:9")
    return bare_environment


@pytest.fixture
def gpu_report(offline, tmp_path):
    """Kernels started in this test pretend a T4; the path returned is where they note what would fail there."""
    startup = tmp_path / "ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    noted = tmp_path / "gpu.json"
    code = f"import sys\nsys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'tests')!r}]\n"
    code += f"import pretended_gpu\npretended_gpu.install({str(noted)!r})\nsys.path.remove({str(ROOT / 'tests')!r})\n"
    (startup / "00-gpu.py").write_text(code, encoding="utf-8")
    offline.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    return noted


@each
def test_it_runs_offline_and_on_a_gpu_and_becomes_a_pdf(path, tmp_path, gpu_report, capsys):
    before = committed_files()
    done = execute_notebook(path, tmp_path, profile="smoke", timeout=300)
    outputs = [output for cell in cells(done, "code") for output in cell.outputs]
    assert outputs and all(output.output_type != "error" for output in outputs)
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert done.stat().st_size < LARGEST
    assert committed_files() == before
    noted = json.loads(gpu_report.read_text())
    assert noted["faults"] == []  # CPU and GPU tensors mixed, or an array made of a GPU tensor
    assert noted["waits"]  # so the GPU was in use
    assert notebook_to_pdf(done, tmp_path).stat().st_size > 10_000
    assert "TeX" not in capsys.readouterr().err  # each formula is one that the PDF can set
