"""The report: what a template may call, against values computed here; what is refused; and the PDF's words."""

import json
import re
from datetime import datetime

import pytest
from PIL import Image
from pypdf import PdfReader

from helpers.runtime import UserError
from report import paper
from report.__main__ import main

ROWS = [
    {"model": "U_Net*", "source": "voice", "SDR": 7.126, "SDR low": 6.5, "SDR high": 7.75, "clips": 1200, "GPU": True},
    {"model": "a|b <i> $x$", "source": "voice", "SDR": -0.004, "SDR low": -1.25, "SDR high": 1.25, "clips": 1200},
    {"model": "VAE", "source": "voice", "SDR": -4.74, "SDR low": -5.0, "SDR high": -4.5, "clips": 31, "note": ""},
    {"model": "VAE", "source": "band", "SDR": 2.5, "SDR low": 2.0, "SDR high": 3.0, "clips": 31},
]
HEAD = "---\ntitle: The $x$ report\nsubtitle: A subtitle\n---\n\n"


def results(**changed):
    return {
        "title": "Voices", "notebook": "02", "name": "voices", "data": "MIR_1K", "embedded": False, "split": "test",
        "items": 1861, "metric": "SDR in dB", "protocol": "BSS Eval 3", "profile": "full", "seed": 0,
        "device": "CPU (x86_64)", "seconds": 61.437, "versions": {}, "revision": "abc", "created": "2024-02-29",
        "rows": ROWS, "extra": {"rate": 16000},
    } | changed  # fmt: skip


def write_results(name="02_voices", **changed):
    (paper.RESULTS / f"{name}.json").write_text(json.dumps(results(**changed)))


@pytest.fixture
def project(tmp_path, monkeypatch):
    """An empty project: report/results with one results file, figures with one picture."""
    monkeypatch.setattr(paper, "TEMPLATE", tmp_path / "report" / "report.md")
    monkeypatch.setattr(paper, "RESULTS", tmp_path / "report" / "results")
    monkeypatch.setattr(paper, "FIGURES", tmp_path / "figures")
    monkeypatch.setattr(paper, "BUILD", tmp_path / "build")
    paper.RESULTS.mkdir(parents=True)
    paper.FIGURES.mkdir()
    write_results()
    Image.new("RGB", (40, 20), "red").save(paper.FIGURES / "02_red.png")
    return tmp_path


def filled(template, draft=False):
    paper.TEMPLATE.write_text(template)
    return paper.Paper(draft).render()


def call(expression):
    return filled("{{ " + expression + " }}")


# ---- the functions ---------------------------------------------------------------------------------------------------

CELLS = {
    "value('02_voices', 'SDR', model='U_Net*')": "7.13",
    "value('02_voices', 'SDR', digits=3, sign=True, model='VAE', source='band')": "+2.500",
    "value('02_voices', 'SDR', model='a|b <i> $x$')": "0.00",  # no minus before a zero
    "value('02_voices', 'clips', model='U_Net*')": "1,200",
    "value('02_voices', 'GPU', model='U_Net*')": "yes",
    "value('02_voices', 'source', **{'SDR low': 2.0})": "band",
    "value('02_voices', 'model', SDR=-0.004)": r"a\|b \<i\> \$x\$",
    "interval('02_voices', 'SDR', digits=1, model='VAE', source='voice')": "−4.7 [−5.0,\u00a0−4.5]",
    "number(raw('02_voices','SDR',model='VAE',source='band') - 7.126, 1, sign=True)": "−4.6",
    "fact('02_voices', 'items')": "1,861",
    "fact('02_voices', 'data')": r"MIR\_1K",
    "fact('02_voices', 'rate')": "16,000",
}


def test_a_call_gives_the_cell_in_words(project):
    assert {expression: call(expression) for expression in CELLS} == CELLS


def test_a_table_has_the_rows_columns_and_words_asked_for_and_names_its_protocol(project):
    columns = "{'model': 'who', 'SDR': 'SDR (dB)', 'clips': 'clips'}"
    table = call(f"table('02_voices', {columns}, where={{'source': 'voice'}}, sort='-SDR', digits=1)")
    assert table.rstrip().split("\n") == [
        "| who | SDR (dB) | clips |",
        "| :-- | --: | --: |",
        "| U\\_Net\\* | 7.1 [6.5,\u00a07.8] | 1,200 |",
        "| a\\|b \\<i\\> \\$x\\$ | 0.0 [−1.2,\u00a01.2] | 1,200 |",
        "| VAE | −4.7 [−5.0,\u00a0−4.5] | 31 |",
        "",
        ": Voices. Data: MIR\\_1K; split: test, 1,861 items. Metric: SDR in dB. Protocol: BSS Eval 3. "
        "Profile full, CPU (x86\\_64).",
    ]


@pytest.mark.parametrize(
    ("choice", "names"),
    [
        ("rows=['VAE', 'U_Net*']", ["VAE", "VAE", r"U\_Net\*"]),
        ("where={'source': 'voice'}, sort='SDR'", ["VAE", r"a\|b \<i\> \$x\$", r"U\_Net\*"]),
        ("sort='-GPU'", [r"U\_Net\*", r"a\|b \<i\> \$x\$", "VAE", "VAE"]),  # rows without a value come last
    ],
)
def test_rows_come_in_the_order_asked_for(project, choice, names):
    table = call(f"table('02_voices', {{'model': 'model', 'SDR': 'SDR'}}, {choice})").split("\n\n")[0]
    assert [line.split(" | ")[0].strip("| ") for line in table.split("\n")[2:]] == names


# ---- what is refused -------------------------------------------------------------------------------------------------

REFUSED = {
    "value('02_voices', 'SDR', model='ResNet')": "02_voices has no row with .*ResNet",
    "value('02_voices', 'SDR', model='VAE')": "02_voices has 2 rows with .*VAE",
    "value('02_voices', 'SIR', model='U_Net*')": "02_voices has nothing in column 'SIR' .*take one of model",
    "value('02_voices', 'note', model='VAE', source='voice')": "nothing in column 'note'",
    "interval('02_voices', 'clips', model='U_Net*')": "nothing in column 'clips low'",
    "fact('02_voices', 'nothing')": "02_voices has no single value under nothing",
    "table('02_voices', {'model': 'm', 'SDR': 's'}, rows=['VAE', 'ResNet'])": "no row with .*ResNet",
    "figure('02_blue.png', 'Blue')": r"02_blue\.png does not exist: run the notebook",
    "valu('02_voices')": "'valu' is undefined",
    "value('02_voices'": "unexpected",
    "1 / 0": "division by zero",
    "value('02_absent', 'SDR')": r"02_absent\.json .*: run the notebook that writes it",
}


def test_what_is_not_there_is_an_error_with_the_line_of_the_template(project):
    for expression, message in REFUSED.items():
        with pytest.raises(UserError, match=message) as error:
            filled(f"# Title\n\n{{{{ {expression} }}}}\n\nafter\n")
        assert str(error.value).startswith(f"{paper.TEMPLATE}, line 3: ") and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"profile": "quick"}, "trial profile 'quick': run notebook 02"),
        ({"embedded": True}, "was measured on embedded data: run notebook 02"),
        ({"revision": "c8e2ffa-dirty"}, r"of code that was not committed \(c8e2ffa-dirty\): run notebook 02"),
    ],
)
def test_results_that_may_not_be_published_are_taken_by_a_draft_alone(project, changed, message):
    write_results(**changed)
    with pytest.raises(UserError, match=rf"line 1: .*02_voices\.json .*{message}"):
        call("fact('02_voices', 'items')")
    assert filled("{{ fact('02_voices', 'items') }}", draft=True) == "1,861"


# ---- the PDF ---------------------------------------------------------------------------------------------------------

BODY = """## First section

| set | used for |
|---|---|
| a | b |

The voice: {{ value('02_voices', 'SDR', model='U_Net*') }} dB by {{ value('02_voices', 'model', SDR=7.126) }}.[^1]

[^1]: Said below.

{{ table('02_voices', {'model': 'model', 'SDR': 'SDR', 'clips': 'clips'}, where={'source': 'voice'}, digits=1) }}

{{ figure('02_red.png', 'All *red*.', width='40%') }}

## Second section
"""


def words_of(path):
    pages = "\n".join(page.extract_text() for page in PdfReader(path).pages)
    return " ".join(pages.replace("\u00a0", " ").split())


def test_the_pdf_shows_the_numbers_the_date_of_the_results_and_what_was_escaped(project, capsys):
    write_results("02_newer", created="2024-03-01", rows=[{"model": "a", "SDR": 1.5}])
    write_results("02_unused", created="2030-01-01", profile="smoke")
    paper.TEMPLATE.write_text(HEAD + BODY + "{{ value('02_newer', 'SDR') }} dB\n\n" + "word " * 1000)
    assert main(["report"]) == 0
    path = project / "report" / "report.pdf"
    assert capsys.readouterr().out == f"{path}: 2 pages\n"
    text, pdf = words_of(path), PdfReader(path)
    for words in (
        "report A subtitle 1 March 2024", "1 First section", "2 Second section", "voice: 7.13 dB by U_Net*.",
        "Said below.", "Table 1. Voices. Data: MIR_1K; split: test, 1,861 items.", "BSS Eval 3.",
        "a|b <i> $x$", "7.1 [6.5, 7.8]", "−4.7 [−5.0, −4.5]", "Figure 1. All red.", "1.50 dB", "1 / 2", "2 / 2",
    ):  # fmt: skip
        assert words in text
    assert not re.search(r"\{\{|\{width|\*\*|\\|Draft", text)
    assert pdf.metadata.creation_date.date() == datetime(2024, 3, 1).date() and len(pdf.pages[0].images) == 1
    first = path.read_bytes()
    assert paper.write_report()[0].read_bytes() == first  # the same inputs, the same bytes


def test_a_draft_says_so_and_leaves_the_report_alone(project, capsys):
    write_results(revision="abc-dirty")
    paper.TEMPLATE.write_text(HEAD + BODY)
    assert main(["report", "--draft"]) == 0
    assert "Draft · 1 / 1" in words_of(project / "build" / "report.pdf")
    assert not (project / "report" / "report.pdf").exists()


def test_a_wide_table_stays_within_the_page(project):
    columns = {f"measure {number}": f"measure {number}" for number in range(7)}
    rows = [{"model": "m"} | {name: -10.5 for name in columns} | {f"{name} low": -20.25 for name in columns}]
    rows[0] |= {f"{name} high": -10.125 for name in columns}
    write_results(rows=rows)
    paper.TEMPLATE.write_text(HEAD + f"{{{{ table('02_voices', { ({'model': 'model'} | columns) }) }}}}")
    page, ends = PdfReader(paper.write_report()[0]).pages[0], []

    def note(string, outer, matrix, font, size):
        if "−" in string:
            ends.append((matrix[4] * outer[0] + outer[4], size * matrix[0] * outer[0]))

    page.extract_text(visitor_text=note)
    assert len(ends) >= 7 and max(left for left, _ in ends) < 595.28 - 25 / 25.4 * 72
    assert all(6.5 < abs(size) < 8.6 for _, size in ends)


def test_what_fails_leaves_the_old_report(project, capsys):
    paper.TEMPLATE.write_text(HEAD + "{{ nosuch }}")
    old = paper.TEMPLATE.with_suffix(".pdf")
    old.write_bytes(b"old")
    assert main(["report"]) == 1
    assert "report.md, line 6: 'nosuch' is undefined" in capsys.readouterr().err
    assert old.read_bytes() == b"old"


def test_the_report_finds_all_it_asks_for_in_the_committed_results():
    text = paper.Paper(draft=True).render()
    assert "{{" not in text and len(re.findall(r"^: .*Protocol:", text, re.M)) >= 5
