"""Notebook to executed copy, to PDF, and results to tables: on a sample that has everything in it."""

import io
import json
import re
import sys
from datetime import UTC, datetime

import nbformat
import pytest
import torch
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image
from pypdf import PdfReader
from sample_notebook import picture, sample_notebook

from helpers import runtime
from helpers.runtime import UserError
from helpers.show.players import listen
from report import markup
from report import notebooks as report
from report import pdf as typeset


def write(folder, *cells, name="sample.ipynb"):
    nbformat.write(new_notebook(cells=list(cells)), folder / name)
    return folder / name


def picture_size(png):
    return Image.open(io.BytesIO(png)).size


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# ---- PDF -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The pages of the sample, as pypdf reads them."""
    folder = tmp_path_factory.mktemp("sample")
    nbformat.write(sample_notebook(), folder / "sample.ipynb")
    pdf = typeset.notebook_to_pdf(folder / "sample.ipynb", folder / "pages")
    assert pdf == folder / "pages" / "sample.pdf" and names(pdf.parent) == ["sample.pdf"]
    return PdfReader(pdf).pages


@pytest.fixture(scope="module")
def text(pages):
    return "\n".join(page.extract_text() for page in pages)


def test_the_sample_fills_a4_pages_that_are_numbered(pages):
    assert len(pages) == 4
    width, height = pages[0].mediabox.width, pages[0].mediabox.height
    assert (float(width), float(height)) == pytest.approx((595.28, 841.89), abs=0.1)
    for number, page in enumerate(pages, 1):
        assert f"{number} / 4" in page.extract_text() and "sample.ipynb" in page.extract_text()


@pytest.mark.parametrize(
    "words",
    [
        "01 · Two pictures in one",  # the title
        "The evidence lower bound",  # a heading straight after a list
        "a numbered item: β = 0.5",
        "in a Markdown cell",
        "A docstring with β, μ, σ², × and →.",
        "a remark that ends just at column 120, here",
        "UserWarning: something was not as it should",
        "100 % of the file",
        "Chosen: 𝛽=0.5, warm-up of 5 epochs.",
        "tensor([0.1000, 0.2000])",
        "ValueError: no",
        "12.1 [12.0, 12.3]",
        "Table 1: what each step gains",
        "0.63696",  # of the table that is wider than the page
        "A caption: the residual is shared",
        "Solution",
        "listen in the notebook",
        "Interactive control",
    ],
)
def test_words_of_every_kind_of_cell_and_output_are_on_the_pages(text, words):
    assert words in text


def test_formulas_are_set_and_not_shown_as_tex(text):
    words = ("reconstruction", "regularisation", "otherwise", "KL", "diag", "argmin", "𝑞𝜙(𝑧∣𝑥)", "ℒ1=‖𝑥")
    assert [word for word in (*words, *"𝔼𝒩∑𝜇𝜎⊙ℝ⏟∥≥") if word not in text] == []
    assert "$" not in text and not re.search(r"\\[a-zA-Z]+|_\{|\^\{", text)


def test_nothing_that_only_a_browser_understands_is_left(text):
    assert not re.search(r"QUJD|base64|WidgetView|0123abcd|IPython\.|<\w+|\x1b|\[3[12]m|colab-badge|attachment:", text)


def test_the_pictures_are_there_and_the_badge_is_not(pages):
    shown = {image.image.size for page in pages for image in page.images}
    assert shown == {picture_size(picture()), picture_size(picture(1.2, 0.6))}


def test_no_code_or_printed_line_passes_the_right_edge(pages):
    ends = []

    def note(string, outer, matrix, font, size):
        if font and "DejaVu" in str(font["/BaseFont"]) and string.strip():
            left = matrix[4] * outer[0] + outer[4]
            ends.append(left + typeset.CHARACTER * size * matrix[0] * outer[0] * len(string.strip("\n")))

    for page in pages:
        page.extract_text(visitor_text=note)
    edge = 595.28 - 16 / 25.4 * 72
    assert len(ends) > 70 and edge - 20 < max(ends) < edge  # the longest line has 120 columns: it fills the page


def test_a_wide_line_is_wrapped_at_120_columns_and_nothing_of_it_is_lost():
    line = "    " + "word " * 40 + "y" * 300
    wrapped = json.loads(markup.literal(line)).split("\n")
    assert len(wrapped) > 3 and all(len(part) <= 120 for part in wrapped)
    assert "".join("".join(wrapped).split()) == "".join(line.split())
    assert json.loads(markup.literal("x" * 120)) == "x" * 120


def test_a_terminal_s_signs_are_carried_out():
    assert json.loads(markup.literal("\x1b[1mbold\x1b[0m\r\n10 %\r20 %\n\tx\x08")) == "bold\n20 %\n    x"


@pytest.mark.parametrize(
    ("tex", "typst"),
    [
        (r"a \; b \! c", "a med b c"),
        (r"\bigl( x \bigr)", r"\( x \)"),
        (r"\|x\|_1", "lr(bar.v.double x bar.v.double)_1"),
        (r"p \,\|\, q", "p thin parallel thin q"),
        (r"\operatorname*{arg\,min}_\theta f", "arg min_theta f"),
        (r"\begin{align*} a &= b \label{eq:a} \end{align*}", "a & = b"),
    ],
)
def test_formulas_that_pandoc_alone_sets_badly(tex, typst):
    assert markup.to_typst([("markdown", f"${tex}$")], None, "here").strip().strip("$").strip() == typst


def test_a_formula_of_several_lines_may_hold_a_line_that_looks_like_a_list():
    source = markup.to_typst([("markdown", "text\n$$\na\n- b\n= c\n$$\n```\n$$\n- code\n```")], None, "here")
    assert "$ a - b = c $" in source and "- code" in source


def test_only_the_text_of_links_within_the_notebook_is_kept():
    source = markup.to_typst([("markdown", "[a](#b) [c](helpers/d.py) [e](https://f.org)")], None, "here")
    assert source.strip() == 'a c #link("https://f.org")[e]'


def test_a_picture_file_is_found_beside_the_notebook_and_a_missing_one_is_named(tmp_path):
    data = typeset.base64.b64decode(sample_notebook().cells[-1].attachments["dot.png"]["image/png"])
    (tmp_path / "dot.png").write_bytes(data)
    path = write(tmp_path, new_markdown_cell("![seen](dot.png)"))
    assert len(PdfReader(typeset.notebook_to_pdf(path, tmp_path / "out")).pages[0].images) == 1
    (tmp_path / "dot.png").unlink()
    with pytest.raises(UserError, match=r"sample\.ipynb: its picture dot\.png does not exist"):
        typeset.notebook_to_pdf(path, tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_more_players_than_a_page_holds_go_on_on_the_next(tmp_path):
    sounds = {f"voice {number}": torch.zeros(1, 8000) for number in range(12)}
    shown = new_output("display_data", {"text/html": listen(sounds, 8000, seconds=1.0).data})
    path = write(tmp_path, new_code_cell("listen(sounds, 8000)", outputs=[shown]))
    pdf = PdfReader(report.notebook_to_pdf(path, tmp_path))
    on_pages = [re.findall(r"voice \d+", page.extract_text()) for page in pdf.pages]
    assert sum(on_pages, []) == list(sounds) and max(len(found) for found in on_pages) < 8


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        (new_markdown_cell(r"$\nosuchcommand{x}$"), "cannot be typeset"),
        (new_markdown_cell("```\nopen"), "leaves a code fence"),
        (new_code_cell("1", outputs=[new_output("display_data", data={"image/png": "not base64!"})]), "is damaged"),
        (new_code_cell("1", outputs=[new_output("display_data", data={"image/png": "QUJD"})]), "cannot be typeset"),
    ],
)
def test_what_cannot_be_typeset_is_an_error_that_leaves_the_old_pdf(tmp_path, cell, message):
    path, old = write(tmp_path, cell, new_markdown_cell("after")), tmp_path / "sample.pdf"
    old.write_bytes(b"old")
    with pytest.raises(UserError, match=message) as error:
        typeset.notebook_to_pdf(path, tmp_path)
    assert "\n" not in str(error.value) and str(path) in str(error.value)
    assert old.read_bytes() == b"old" and names(tmp_path) == ["sample.ipynb", "sample.pdf"]


BAD = [None, b"", b"{", b'{"cells": 3}', b"[]", b"\xff\xfe", b'{"nbformat": 4, "cells": [{}]}']


@pytest.mark.parametrize("content", BAD)
def test_a_missing_or_damaged_notebook_is_one_sentence(tmp_path, content):
    path = tmp_path / "bad.ipynb"
    if content is not None:
        path.write_bytes(content)
    for work in (typeset.notebook_to_pdf, report.execute_notebook):
        with pytest.raises(UserError, match=r"bad\.ipynb") as error:
            work(path, tmp_path / "out")
        assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("module", ["pypandoc", "typst"])
def test_a_missing_tool_is_named_with_the_command_that_installs_it(tmp_path, monkeypatch, module):
    path = write(tmp_path, new_markdown_cell("text"))
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=r"not installed: pip install -r requirements-dev\.txt"):
        typeset.notebook_to_pdf(path, tmp_path)
    assert names(tmp_path) == ["sample.ipynb"]


def test_a_write_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
    target = tmp_path / "file"
    target.write_bytes(b"old")

    def full(source, destination):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(runtime.os, "replace", full)
    with pytest.raises(UserError, match="No space left on device"):
        runtime.write_atomically(target, b"new")
    assert names(tmp_path) == ["file"] and target.read_bytes() == b"old"
    with pytest.raises(UserError, match="cannot be written"):
        runtime.write_atomically(target / "below", b"new")


# ---- executing -------------------------------------------------------------------------------------------------------

SETTINGS = "import os, sys; print(os.environ['BSS_PROFILE'], os.getcwd(), sys.executable, sep='\\n')"
FIGURE = "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()"
WIDGETS = "import ipywidgets, helpers\ndisplay(ipywidgets.IntSlider())"
PRINTS = "for n in range(20): print('line', n, flush=True)\nimport sys; print('oh', file=sys.stderr)"


def test_a_notebook_runs_in_the_project_on_this_python_in_the_profile(tmp_path, bare_environment, capfd):
    bare_environment.setenv("BSS_PROFILE", "full")
    path = write(tmp_path, new_markdown_cell("# title"), *map(new_code_cell, (SETTINGS, FIGURE, WIDGETS, PRINTS)))
    before = path.read_bytes()
    done = report.execute_notebook(path, tmp_path / "out", profile="smoke")
    assert names(tmp_path / "out") == ["sample.ipynb"] and path.read_bytes() == before
    copy = nbformat.read(done, as_version=4)
    settings, figure, widget, prints = (cell.outputs for cell in copy.cells[1:])
    assert [cell.execution_count for cell in copy.cells[1:]] == [1, 2, 3, 4]
    assert settings[0].text.split("\n")[:3] == ["smoke", str(runtime.ROOT), sys.executable]
    assert report.os.environ["BSS_PROFILE"] == "full"
    assert any("image/png" in output.get("data", {}) for output in figure)
    assert typeset.WIDGET in widget[0].data and "widgets" not in copy.metadata
    assert [(output.name, len(output.text)) for output in prints] == [("stdout", 150), ("stderr", 3)]
    shown = capfd.readouterr().out
    assert "[sample.ipynb 3/5] import matplotlib.pyplot as plt" in shown and "line 19" in shown


def test_a_failing_cell_is_named_and_the_cells_up_to_it_are_kept(tmp_path):
    path = write(tmp_path, *map(new_code_cell, ("x = 41\nprint(x)", "x / 0", "print('never')")))
    with pytest.raises(UserError, match=r"^sample\.ipynb, cell 2: ZeroDivisionError: division by zero \(see ") as error:
        report.execute_notebook(path, tmp_path / "out")
    kept = tmp_path / "out" / "sample.failed.ipynb"
    assert str(kept) in str(error.value) and names(tmp_path / "out") == [kept.name]
    first, second, third = nbformat.read(kept, as_version=4).cells
    assert first.outputs[0].text == "41\n" and second.outputs[0].ename == "ZeroDivisionError" and not third.outputs
    report.execute_notebook(write(tmp_path, new_code_cell("x = 1")), tmp_path / "out")
    assert names(tmp_path / "out") == ["sample.ipynb"]


@pytest.mark.parametrize(
    ("code", "message"), [("import os; os._exit(3)", "died"), ("import time; time.sleep(9)", "timed out")]
)
def test_a_kernel_that_dies_or_hangs_is_an_error(tmp_path, code, message):
    with pytest.raises(UserError, match=rf"cell 1: .*{message}"):
        report.execute_notebook(write(tmp_path, new_code_cell(code)), tmp_path, timeout=2)


# ---- results ---------------------------------------------------------------------------------------------------------


def results(**changed):
    vae = {"model": "dense VAE", "PSNR": 19.17, "PSNR low": 19.1, "PSNR high": 19.24}
    record = {
        "title": "What each step gains", "notebook": "01", "name": "steps", "data": "MNIST", "embedded": False,
        "split": "test", "items": 10000, "metric": "PSNR in dB", "protocol": "mean", "profile": "long", "seed": 0,
        "device": "2 CPU cores", "seconds": 61.4, "versions": {}, "revision": "abc",
        "created": datetime.now(UTC).date().isoformat(), "rows": [vae, {"model": "U-Net", "PSNR": 35.2}], "extra": {},
    }  # fmt: skip
    return json.dumps(record | changed)


def test_results_are_printed_as_aligned_tables_under_their_provenance(tmp_path):
    (tmp_path / "01_steps.json").write_text(results())
    (tmp_path / "01_zoo.json").write_text(results(title="Another"))
    title, facts, head, dense, unet, gap, other = report.results_table(tmp_path).split("\n")[:7]
    assert (title, gap, other) == ("What each step gains", "", "Another")
    for fact in ("MNIST", "test", "10000", "PSNR in dB", "long", "seed 0", "2 CPU cores", "61 s"):
        assert fact in facts
    assert head.split() == ["model", "PSNR"] and len(head) == len(dense) == len(unet)
    assert dense.split() == ["dense", "VAE", "19.17", "[19.10,", "19.24]"] and unet.split() == ["U-Net", "35.20"]


def test_only_results_written_since_a_time_are_printed(tmp_path):
    for name, age in (("old", 1000), ("new", 2000)):
        (tmp_path / f"{name}.json").write_text(results(title=name))
        report.os.utime(tmp_path / f"{name}.json", (age, age))
    assert report.results_table(tmp_path, since=1500).startswith("new\n")
    assert "old" not in report.results_table(tmp_path, since=1500)


def test_no_results_or_damaged_ones_are_an_error(tmp_path):
    with pytest.raises(UserError, match="no results are there yet"):
        report.results_table(tmp_path)
    (tmp_path / "01_bad.json").write_text("{")
    with pytest.raises(UserError, match=r"01_bad\.json"):
        report.results_table(tmp_path)


def test_run_executes_exports_and_prints_the_results_of_this_run(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(report, "RESULTS", (tmp_path / "results", tmp_path / "none"))
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "00_old.json").write_text(results(title="Old news"))
    report.os.utime(tmp_path / "results" / "00_old.json", (1000, 1000))
    code = f"from pathlib import Path\nPath({str(tmp_path / 'results' / '01.json')!r}).write_text({results()!r})"
    path = write(tmp_path, new_markdown_cell("# title"), new_code_cell(code))
    assert report.run_notebooks([path], "smoke", tmp_path / "out") == [tmp_path / "out" / "sample.ipynb"]
    assert names(tmp_path / "out") == ["sample.ipynb", "sample.pdf"]
    shown = capfd.readouterr().out
    assert "What each step gains" in shown and "Old news" not in shown
    report.run_notebooks([path], "smoke", tmp_path / "bare", pdf=False)
    assert names(tmp_path / "bare") == ["sample.ipynb"]


def test_run_tells_a_damaged_notebook_before_it_executes_any(tmp_path):
    marker = tmp_path / "ran"
    good = write(tmp_path, new_code_cell(f"open({str(marker)!r}, 'w')"))
    with pytest.raises(UserError, match="absent"):
        report.run_notebooks([good, tmp_path / "absent.ipynb"], "smoke", tmp_path / "out")
    assert not marker.exists()
