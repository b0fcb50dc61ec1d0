"""Notebook to executed copy, to PDF, and results to tables: on a sample that has everything in it."""

import io
import json
import os
import re
import sys

import nbformat
import pytest
import torch
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image
from pypdf import PdfReader
from sample_notebook import picture, sample_notebook

from helpers.runtime import ROOT, UserError
from helpers.show import listen
from report import notebooks
from report.__main__ import main
from report.pdf import notebook_to_pdf


def write(folder, *cells, name="sample.ipynb"):
    nbformat.write(new_notebook(cells=list(cells)), folder / name)
    return folder / name


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def text_of(path):
    return "\n".join(page.extract_text() for page in PdfReader(path).pages)


# ---- PDF -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The pages of the sample, as pypdf reads them."""
    folder = tmp_path_factory.mktemp("sample")
    nbformat.write(sample_notebook(), folder / "sample.ipynb")
    pdf = notebook_to_pdf(folder / "sample.ipynb", folder / "pages")
    assert pdf == folder / "pages" / "sample.pdf" and names(pdf.parent) == ["sample.pdf"]
    return PdfReader(pdf).pages


@pytest.fixture(scope="module")
def text(pages):
    return "\n".join(page.extract_text() for page in pages)


def test_the_sample_fills_a4_pages_that_are_numbered(pages):
    assert 3 <= len(pages) <= 5
    for number, page in enumerate(pages, 1):
        assert (float(page.mediabox.width), float(page.mediabox.height)) == pytest.approx((595.28, 841.89), abs=0.1)
        assert f"{number} / {len(pages)}" in page.extract_text() and "sample.ipynb" in page.extract_text()


def test_words_of_every_kind_of_cell_and_output_are_on_the_pages(text):
    for words in (
        "01 · Two pictures in one", "The evidence lower bound", "a numbered item: β = 0.5", "in a Markdown cell",
        "A docstring with β, μ, σ², × and →.", "a remark that ends just at column 120, here", "Solution",
        "UserWarning: something was not as it should", "100 % of the file", "Chosen: 𝛽 = 0.5, warm-up of 5 epochs.",
        "tensor([0.1000, 0.2000])", "ValueError: no", "12.1 [12.0, 12.3]", "Table 1: what each step gains", "0.63696",
        "A caption: the residual is shared", "listen in the notebook", "Interactive control",
    ):  # fmt: skip
        assert words.replace(" ", "") in "".join(text.split()), words


def test_formulas_are_set_and_nothing_is_left_that_only_a_browser_or_tex_understands(text):
    for words in ("reconstruction", "regularisation", "otherwise", "KL", "diag", "argmin", *"𝔼𝒩∑𝜇𝜎⊙ℝℒ⏟∥≥"):
        assert words in "".join(text.split()), words
    assert not re.search(r"\$|\\[a-zA-Z]+|_\{|\^\{|QUJD|base64|0123abcd|IPython\.|<\w+|\x1b|\[3[12]m|badge", text)


def test_the_pictures_are_there_and_the_badge_is_not(pages):
    shown = {image.image.size for page in pages for image in page.images}
    assert shown == {Image.open(io.BytesIO(png)).size for png in (picture(), picture(1.2, 0.6))}


def test_no_code_or_printed_line_passes_the_right_edge(pages):
    ends = []

    def note(string, outer, matrix, font, size):
        if font and "DejaVu" in str(font["/BaseFont"]) and string.strip():
            left = matrix[4] * outer[0] + outer[4]
            ends.append(left + 0.6021 * size * matrix[0] * outer[0] * len(string.strip("\n\u200b")))

    for page in pages:
        page.extract_text(visitor_text=note)
    edge = 595.28 - 15 / 25.4 * 72
    assert len(ends) > 70 and edge - 30 < max(ends) < edge


def test_what_cannot_be_shown_is_warned_of_and_does_not_stop_the_export(tmp_path, capsys):
    cells = new_markdown_cell("$\\nosuchcommand{x}$, ![lost](lost.png), \U000f1234"), new_markdown_cell("the end")
    shown = text_of(notebook_to_pdf(write(tmp_path, *cells), tmp_path))
    assert "nosuchcommand" in shown and "the end" in shown
    warnings = capsys.readouterr().err
    assert warnings.count("sample.ipynb: ") == 3
    for words in ("TeX math \\nosuchcommand", "lost.png", "no font here has \U000f1234"):
        assert words in warnings


def test_a_formula_of_several_lines_may_hold_a_line_that_looks_like_a_list(tmp_path):
    shown = text_of(notebook_to_pdf(write(tmp_path, new_markdown_cell("text\n$$\na\n- b\n= c\n$$\nafter")), tmp_path))
    assert "𝑎−𝑏=𝑐" in "".join(shown.split())


def test_only_the_text_of_links_within_the_notebook_is_kept(tmp_path):
    path = write(tmp_path, new_markdown_cell("[a](#b) [c](helpers/d.py) [e](https://f.org)"))
    page = PdfReader(notebook_to_pdf(path, tmp_path)).pages[0]
    assert [link.get_object()["/A"]["/URI"] for link in page["/Annots"]] == ["https://f.org"]
    assert "a c e" in page.extract_text()


def test_a_picture_file_is_found_beside_the_notebook_and_in_the_project(tmp_path):
    (tmp_path / "dot.png").write_bytes(picture(1.2, 0.6))
    path = write(tmp_path, new_markdown_cell("![seen](dot.png)\n\n![too](figures/01_steps.png)"))
    assert len(PdfReader(notebook_to_pdf(path, tmp_path)).pages[0].images) == 2


def test_a_player_stays_beside_its_picture_and_the_rest_goes_on_on_the_next_page(tmp_path):
    sounds = {f"voice {number}": torch.zeros(1, 8000) for number in range(6)}
    shown = new_output("display_data", {"text/html": listen(sounds, 8000, seconds=1.0).data})
    pdf = PdfReader(notebook_to_pdf(write(tmp_path, new_code_cell("listen(sounds)", outputs=[shown])), tmp_path))
    on_pages = [re.findall(r"voice \d+", page.extract_text()) for page in pdf.pages]
    assert sum(on_pages, []) == list(sounds) and len(on_pages) > 1
    # equal pictures are stored once, so that they are counted as they are drawn
    drawn = [len(re.findall(rb"/\w+ Do\b", page.get_contents().get_data())) for page in pdf.pages]
    assert drawn == [len(found) for found in on_pages]


def test_what_cannot_be_typeset_is_an_error_that_leaves_the_old_pdf(tmp_path):
    damaged = new_output("display_data", data={"image/png": "QUJD"})
    path, old = write(tmp_path, new_code_cell("1", outputs=[damaged])), tmp_path / "sample.pdf"
    old.write_bytes(b"old")
    with pytest.raises(UserError, match=r"sample\.ipynb: cannot be typeset") as error:
        notebook_to_pdf(path, tmp_path)
    assert "\n" not in str(error.value)
    assert old.read_bytes() == b"old" and names(tmp_path) == ["sample.ipynb", "sample.pdf"]


def test_a_missing_or_damaged_notebook_is_one_sentence(tmp_path):
    path = tmp_path / "bad.ipynb"
    for content in (None, b"", b"{", b'{"cells": 3}', b"\xff\xfe", b'{"nbformat": 4, "cells": [{}]}'):
        if content is not None:
            path.write_bytes(content)
        for work in (notebook_to_pdf, notebooks.execute_notebook):
            with pytest.raises(UserError, match=r"bad\.ipynb") as error:
                work(path, tmp_path / "out")
            assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("module", ["pypandoc", "typst"])
def test_a_missing_tool_is_named_with_the_command_that_installs_it(tmp_path, monkeypatch, module):
    path = write(tmp_path, new_markdown_cell("text"))
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=r"not installed: pip install -r requirements-dev\.txt"):
        notebook_to_pdf(path, tmp_path)


# ---- executing -------------------------------------------------------------------------------------------------------

SETTINGS = "import os, sys; print(os.environ['BSS_PROFILE'], os.getcwd(), sys.executable, sep='\\n')"
FIGURE = "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()"
PRINTS = "for n in range(20): print('line', n, flush=True)\nimport sys; print('oh', file=sys.stderr)"


def test_a_notebook_runs_in_the_project_on_this_python_in_the_profile(tmp_path, bare_environment, capfd):
    bare_environment.setenv("BSS_PROFILE", "full")
    path = write(tmp_path, new_markdown_cell("# title"), *map(new_code_cell, (SETTINGS, FIGURE, "", PRINTS)))
    before = path.read_bytes()
    assert main(["run", str(path), "--profile", "smoke", "--output", str(tmp_path / "out")]) == 0
    assert names(tmp_path / "out") == ["sample.ipynb", "sample.pdf"] and path.read_bytes() == before
    settings, figure, _, prints = (
        cell.outputs for cell in nbformat.read(tmp_path / "out" / "sample.ipynb", as_version=4).cells[1:]
    )
    assert settings[0].text.split("\n")[:3] == ["smoke", str(ROOT), sys.executable]
    assert os.environ["BSS_PROFILE"] == "full"
    assert any("image/png" in output.get("data", {}) for output in figure)
    assert [(output.name, len(output.text)) for output in prints] == [("stdout", 150), ("stderr", 3)]
    shown = capfd.readouterr().out
    assert "[3/5] import matplotlib.pyplot as plt" in shown and "line 19" in shown


def test_a_failing_cell_is_named_and_the_cells_up_to_it_are_kept(tmp_path):
    path = write(tmp_path, *map(new_code_cell, ("x = 41\nprint(x)", "x / 0", "print('never')")))
    with pytest.raises(UserError, match=r"^sample\.ipynb, cell 2: ZeroDivisionError: division by zero \(see ") as error:
        notebooks.execute_notebook(path, tmp_path / "out")
    kept = tmp_path / "out" / "failed-sample.ipynb"
    assert str(kept) in str(error.value) and names(tmp_path / "out") == [kept.name]
    first, second, third = nbformat.read(kept, as_version=4).cells
    assert first.outputs[0].text == "41\n" and second.outputs[0].ename == "ZeroDivisionError" and not third.outputs


@pytest.mark.parametrize(
    ("code", "message"), [("import os; os._exit(3)", "died"), ("import time; time.sleep(9)", "timed out")]
)
def test_a_kernel_that_dies_or_hangs_is_an_error(tmp_path, code, message):
    with pytest.raises(UserError, match=rf"cell 1: .*{message}"):
        notebooks.execute_notebook(write(tmp_path, new_code_cell(code)), tmp_path, timeout=2)


def test_run_tells_a_damaged_notebook_before_it_executes_any(tmp_path):
    marker = tmp_path / "ran"
    good = write(tmp_path, new_code_cell(f"open({str(marker)!r}, 'w')"))
    with pytest.raises(UserError, match="absent"):
        notebooks.run_notebooks([good, tmp_path / "absent.ipynb"], "smoke", tmp_path / "out")
    assert not marker.exists()


# ---- results ---------------------------------------------------------------------------------------------------------


def write_results(path, **changed):
    vae = {"model": "dense VAE", "PSNR": 19.17, "PSNR low": 19.1, "PSNR high": 19.24}
    record = {
        "title": "What each step gains", "notebook": "01", "name": "steps", "data": "MNIST", "embedded": False,
        "split": "test", "items": 10000, "metric": "PSNR in dB", "protocol": "mean", "profile": "full", "seed": 0,
        "device": "2 CPU cores", "seconds": 61.4, "versions": {}, "revision": "abc", "created": "2024-02-29",
        "rows": [vae, {"model": "U-Net", "PSNR": 35.2}], "extra": {},
    }  # fmt: skip
    path.write_text(json.dumps(record | changed))


def test_results_are_printed_as_aligned_tables_under_their_provenance(tmp_path):
    write_results(tmp_path / "01_steps.json")
    write_results(tmp_path / "01_zoo.json", title="Another")
    title, facts, head, dense, unet, gap, other = notebooks.results_table(tmp_path).split("\n")[:7]
    assert (title, gap, other) == ("What each step gains", "", "Another")
    for fact in ("MNIST", "test", "10000", "PSNR in dB", "full", "seed 0", "2 CPU cores"):
        assert fact in facts
    assert head.split() == ["model", "PSNR"] and len(head) == len(dense) == len(unet)
    assert dense.split() == ["dense", "VAE", "19.17", "[19.10,", "19.24]"] and unet.split() == ["U-Net", "35.20"]


def test_only_results_written_since_a_time_are_printed_and_damaged_ones_are_named(tmp_path):
    for name, age in (("old", 1000), ("new", 2000)):
        write_results(tmp_path / f"{name}.json", title=name)
        os.utime(tmp_path / f"{name}.json", (age, age))
    shown = notebooks.results_table(tmp_path, since=1500)
    assert shown.startswith("new\n") and "old" not in shown
    (tmp_path / "01_bad.json").write_text("{")
    with pytest.raises(UserError, match=r"01_bad\.json"):
        notebooks.results_table(tmp_path)
