"""The report: what a template may call, against values computed here; what is refused; and the PDF's words."""

import json
import re
from datetime import datetime

import pytest
from PIL import Image
from pypdf import PdfReader

from helpers import runtime
from helpers.__main__ import main
from helpers.runtime import UserError
from report import paper

ROWS = [
    {"model": "U_Net*", "source": "voice", "SDR": 7.126, "SDR low": 6.5, "SDR high": 7.75, "clips": 1200, "GPU": True},
    {"model": "a|b <i> $x$", "source": "voice", "SDR": -0.004, "SDR low": -1.25, "SDR high": 1.25, "clips": 1200},
    {"model": "VAE", "source": "voice", "SDR": -4.74, "SDR low": -5.0, "SDR high": -4.5, "clips": 31, "note": ""},
    {"model": "VAE", "source": "band", "SDR": 2.5, "SDR low": 2.0, "SDR high": 3.0, "clips": 31},
]
HEAD = "# The $x$ report\n\nA subtitle\n\n"


def results(**changed):
    return {
        "title": "Voices", "notebook": "02", "name": "voices", "data": "MIR_1K", "embedded": False, "split": "test",
        "items": 1861, "metric": "SDR in dB", "protocol": "BSS Eval 3", "profile": "long", "seed": 0,
        "device": "CPU (x86_64)", "seconds": 61.437, "versions": {}, "revision": "abc", "created": "2024-02-29",
        "rows": ROWS, "extra": {"rate": 16000, "sets": {"songs": {"share": 0.625}}},
    } | changed  # fmt: skip


@pytest.fixture
def project(tmp_path, monkeypatch):
    """An empty project: report/results with one results file, figures with one picture."""
    monkeypatch.setattr(paper, "TEMPLATE", tmp_path / "report" / "report.md")
    monkeypatch.setattr(paper, "RESULTS", tmp_path / "report" / "results")
    monkeypatch.setattr(paper, "FIGURES", tmp_path / "figures")
    monkeypatch.setattr(paper, "MARKDOWN", tmp_path / "build" / "report.md")
    paper.RESULTS.mkdir(parents=True)
    paper.FIGURES.mkdir()
    (paper.RESULTS / "02_voices.json").write_text(json.dumps(results()))
    Image.new("RGB", (40, 20), "red").save(paper.FIGURES / "02_red.png")
    return tmp_path


def filled(template):
    paper.TEMPLATE.write_text(template)
    return paper.Paper().render()


def call(expression):
    return filled("{{ " + expression + " }}")


# ---- the functions ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("value('02_voices', 'SDR', model='U_Net*')", "7.13"),
        ("value('02_voices', 'SDR', digits=1, model='VAE', source='voice')", "−4.7"),
        ("value('02_voices', 'SDR', digits=3, sign=True, model='VAE', source='band')", "+2.500"),
        ("value('02_voices', 'SDR', model='a|b <i> $x$')", "0.00"),  # no minus before a zero
        ("value('02_voices', 'clips', model='U_Net*')", "1,200"),
        ("value('02_voices', 'GPU', model='U_Net*')", "yes"),
        ("value('02_voices', 'source', **{'SDR low': 2.0})", "band"),
        ("value('02_voices', 'model', SDR=7.126)", r"U\_Net\*"),
        ("value('02_voices', 'model', SDR=-0.004)", r"a\|b \<i\> \$x\$"),
        ("interval('02_voices', 'SDR', digits=1, model='VAE', source='voice')", "−4.7 [−5.0,\u00a0−4.5]"),
        ("raw('02_voices', 'SDR', model='U_Net*') * 1000", "7126.0"),
        ("number(raw('02_voices','SDR',model='VAE',source='band') - 7.126, 1, sign=True)", "−4.6"),
        ("number(1234567.891, 1)", "1,234,567.9"),
        ("number(2, 0, sign=True)", "+2"),
        ("fact('02_voices', 'items')", "1,861"),
        ("fact('02_voices', 'data')", r"MIR\_1K"),
        ("fact('02_voices', 'rate')", "16,000"),
        ("fact('02_voices', 'sets', 'songs', 'share', digits=1)", "0.6"),
    ],
)
def test_a_call_gives_the_cell_in_words(project, expression, text):
    assert call(expression) == text


def test_a_table_has_the_rows_columns_and_words_asked_for_and_names_its_protocol(project):
    columns = "{'model': 'who', 'SDR': 'SDR (dB)', 'clips': 'clips'}"
    table = call(f"table('02_voices', {columns}, where={{'source': 'voice'}}, sort='-SDR', digits=1, caption='Best.')")
    assert table.split("\n") == [
        "| who | SDR (dB) | clips |",
        "| :-- | --: | --: |",
        r"| U\_Net\* | 7.1 [6.5,¤7.8] | 1,200 |".replace("¤", "\u00a0"),
        r"| a\|b \<i\> \$x\$ | 0.0 [−1.2,¤1.2] | 1,200 |".replace("¤", "\u00a0"),
        "| VAE | −4.7 [−5.0,\u00a0−4.5] | 31 |",
        "",
        "**Table\u00a01.** Best. Data: MIR\\_1K; split: test, 1,861 items. Metric: SDR in dB. Protocol: BSS Eval 3. "
        "Profile long, CPU (x86\\_64).",
    ]


def first_cells(table):
    return [line.split(" | ")[0].strip("| ") for line in table.split("\n\n")[0].split("\n")[2:]]


@pytest.mark.parametrize(
    ("choice", "names"),
    [
        ("", [r"U\_Net\*", r"a\|b \<i\> \$x\$", "VAE", "VAE"]),
        (", rows=['VAE', 'U_Net*']", ["VAE", "VAE", r"U\_Net\*"]),
        (", rows={'VAE': '*ours*'}, where={'source': 'band'}", ["*ours*"]),
        (", rows=['VAE', 'U_Net*'], where={'source': 'voice'}, sort='-clips'", [r"U\_Net\*", "VAE"]),
        (", where={'source': 'voice'}, sort='SDR'", ["VAE", r"a\|b \<i\> \$x\$", r"U\_Net\*"]),
    ],
)
def test_rows_come_in_the_order_asked_for(project, choice, names):
    assert first_cells(call(f"table('02_voices', ['model', 'SDR']{choice})")) == names


def test_published_figures_stand_beside_ours_with_where_they_are_from(project):
    published = "published=[{'model': 'Huang [3]', 'SDR': 3, 'from': 'all clips'}, {'model': 'x', 'from': 'y'}]"
    table = call(f"table('02_voices', ['model', 'SDR'], where={{'clips': 31}}, digits=1, sort='-SDR', {published})")
    head, _, *rows = table.split("\n\n")[0].split("\n")
    assert head == "| model | SDR | from |"
    assert rows[0] == "| Huang [3] | 3.0 | all clips |" and rows[1].startswith("| VAE | 2.5 [2.0,")
    assert rows[2].endswith("| here |") and rows[3] == "| x | – | y |"


def test_tables_and_figures_are_numbered_and_can_be_referred_to_before_they_come(project):
    table, figure = "{{ table('02_voices', ['model'], label='t') }}", "{{ figure('02_red.png', 'Red', label='f') }}"
    text = filled(f"{{{{ ref('t') }}}}, {{{{ ref('f') }}}}\n{{{{ caption('Typed') }}}}\n{figure}\n{table}")
    assert text.startswith("Table\u00a02, Figure\u00a01\n**Table\u00a01.** Typed\n")
    assert (
        "![**Figure\u00a01.** Red](../figures/02_red.png){width=100%}" in text and "**Table\u00a02.** Voices. " in text
    )


# ---- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("value('02_voices', 'SDR', model='ResNet')", r"02_voices\.json has no row with .*ResNet"),
        ("value('02_voices', 'SDR', modell='VAE')", r"02_voices\.json has no row with .*modell"),
        ("value('02_voices', 'SDR', model='VAE')", r"02_voices\.json has 2 rows with .*VAE"),
        (
            "value('02_voices', 'SIR', model='U_Net*')",
            r"02_voices\.json has nothing in column 'SIR' .*take one of model",
        ),
        ("value('02_voices', 'note', model='VAE', source='voice')", "nothing in column 'note'"),
        ("interval('02_voices', 'clips', model='U_Net*')", "nothing in column 'clips low'"),
        ("fact('02_voices', 'nothing')", r"02_voices\.json has no single value under nothing"),
        ("fact('02_voices', 'sets', 'songs')", "no single value under sets / songs"),
        ("fact('02_voices', 'rate', 'songs')", "no single value under rate / songs"),
        ("table('02_voices', ['model', 'SIR'])", "nothing in column 'SIR'"),
        ("table('02_voices', ['model', 'GPU'], rows=['VAE'])", "nothing in column 'GPU'"),
        ("table('02_voices', ['model', 'SDR'], rows=['VAE', 'ResNet'])", "no row with .*ResNet"),
        ("table('02_voices', ['model', 'SDR'], where={'source': 'drums'})", "no row with .*drums"),
        ("table('02_voices', ['model', 'SDR'], sort='-SIR')", "nothing in column 'SIR'"),
        ("table('02_voices', ['model', 'SDR'], published=[{'model': 'x', 'SDR': 1.0}])", "give it a 'from'"),
        ("table('02_voices', ['model', 'SDR'], published=[{'model': 'x', 'SRD': 1, 'from': 'y'}])", "no cells but"),
        ("table('02_voices', [])", "not enough values"),
        ("table('02_voices', ['model'], wher={})", "unexpected keyword argument 'wher'"),
        ("figure('02_blue.png', 'Blue')", r"02_blue\.png does not exist: run the notebook"),
        ("figure('../figures/02_red.png', 'Red')", "does not exist"),
        ("figure('02_red.png', 'Red', width='8cm')", "02_red.png cannot be '8cm' wide: give a share"),
        ("ref('nosuch')", "no table or figure has the label 'nosuch'"),
        ("caption('a', label='x') + caption('b', label='x')", "'x' labels Table.1 and Table.2"),
        ("valu('02_voices')", "'valu' is undefined"),
        ("number(nosuch, 1)", "line 3"),
        ("value('02_voices'", "line 3: unexpected"),
        ("1 / 0", "line 3: division by zero"),
        ("raw('../../build/results/02_voices', 'SDR')", "is outside"),
        ("value('02_absent', 'SDR')", r"02_absent\.json does not exist: run the notebook that writes it"),
    ],
)
def test_what_is_not_there_is_an_error_with_the_line_of_the_template(project, expression, message):
    with pytest.raises(UserError, match=message) as error:
        filled(f"# Title\n\n{{{{ {expression} }}}}\n\nafter\n")
    assert str(error.value).startswith(f"{paper.TEMPLATE}, line 3: ") and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            json.dumps(results(profile="smoke")),
            "trial profile 'smoke': run notebook 02 on the real data in its long or",
        ),
        (json.dumps(results(profile="quick")), "trial profile 'quick': run notebook 02"),
        (json.dumps(results(embedded=True)), "was measured on embedded data: run notebook 02 on the real data"),
        (json.dumps(results(created="yesterday")), "has no date, but 'yesterday': run notebook 02"),
        (json.dumps(results(rows=[])), "needs rows"),
        ("{", r"is not a results file .*: delete it and run its notebook again"),
    ],
)
def test_results_that_may_not_be_published_are_refused(project, content, message):
    (paper.RESULTS / "02_voices.json").write_text(content)
    with pytest.raises(UserError, match=rf"line 1: .*02_voices\.json .*{message}"):
        call("value('02_voices', 'SDR', model='U_Net*')")


def test_a_figure_needs_results_of_its_notebook(project):
    (paper.FIGURES / "02_red.png").rename(paper.FIGURES / "03_red.png")
    with pytest.raises(UserError, match=r"03_red\.png has no results beside it .*: run notebook 03 anew"):
        call("figure('03_red.png', 'Red')")


def test_a_missing_template_is_named(project):
    with pytest.raises(UserError, match=r"report\.md does not exist: restore it"):
        paper.write_report()


# ---- the PDF ---------------------------------------------------------------------------------------------------------

TABLE = "{{ table('02_voices', ['model', 'SDR', 'clips'], where={'source': 'voice'}, digits=1) }}"
BODY = f"""## First section

The voice: {{{{ value('02_voices', 'SDR', model='U_Net*') }}}} dB by {{{{ value('02_voices', 'model', SDR=7.126) }}}},
{{{{ number(raw('02_voices', 'SDR', model='VAE', source='band') - 7.126, 1) }}}} dB, see {{{{ ref('red') }}}}.[^1]

[^1]: Said below.

{TABLE}

{{{{ figure('02_red.png', 'All *red*.', width='40%', label='red') }}}}

## Second section
"""


def test_the_pdf_shows_the_numbers_the_date_of_the_results_and_what_was_escaped(project):
    newer = results(created="2024-03-01", rows=[{"model": "a", "SDR": 1.5}])
    (paper.RESULTS / "02_newer.json").write_text(json.dumps(newer))
    (paper.RESULTS / "02_unused.json").write_text(json.dumps(results(created="2030-01-01", profile="smoke")))
    paper.TEMPLATE.write_text(HEAD + BODY + "{{ value('02_newer', 'SDR') }} dB\n\n" + "word " * 1000)
    path, pages = paper.write_report()
    assert path == project / "report" / "report.pdf"
    pdf = PdfReader(path)
    assert pages == len(pdf.pages) == 2
    width, height = float(pdf.pages[0].mediabox.width), float(pdf.pages[0].mediabox.height)
    assert (width, height) == pytest.approx((595.28, 841.89), abs=0.1)
    text = " ".join("\n".join(page.extract_text() for page in pdf.pages).replace("\u00a0", " ").split())
    for words in (
        "report A subtitle 1 March 2024", "1 First section", "2 Second section", "voice: 7.13 dB by U_Net*, −4.6 dB",
        "see Figure 1.", "Said below.", "Table 1. Voices. Data: MIR_1K; split: test, 1,861 items.", "BSS Eval 3.",
        "a|b <i> $x$", "7.1 [6.5, 7.8]", "−4.7 [−5.0, −4.5]", "Figure 1. All red.", "1.50 dB", "1 / 2", "2 / 2",
    ):  # fmt: skip
        assert words in text
    assert not re.search(r"\{\{|\{width|\*\*|\\", text)
    assert pdf.metadata.creation_date.date() == datetime(2024, 3, 1).date() and len(pdf.pages[0].images) == 1
    assert paper.MARKDOWN.read_text().startswith(HEAD + "## First section\n\nThe voice: 7.13 dB")


def test_the_command_names_the_report_and_its_pages_or_the_error(project, capsys):
    paper.TEMPLATE.write_text(HEAD + "Words.\n")
    assert main(["report"]) == 0
    assert capsys.readouterr().out == f"{project / 'report' / 'report.pdf'}: 1 page\n"
    paper.TEMPLATE.write_text(HEAD + "{{ nosuch }}\n")
    assert main(["report"]) == 1
    assert "report.md, line 5: 'nosuch' is undefined" in capsys.readouterr().err


def test_the_same_inputs_make_the_same_bytes(project):
    paper.TEMPLATE.write_text(HEAD + BODY)
    first = paper.write_report()[0].read_bytes()
    assert paper.write_report()[0].read_bytes() == first


def test_a_wide_table_stays_within_the_page(project):
    columns = [f"measure {number}" for number in range(7)]
    rows = [{"model": "m"} | {name: -10.5 for name in columns} | {f"{name} low": -20.25 for name in columns}]
    rows[0] |= {f"{name} high": -10.125 for name in columns}
    (paper.RESULTS / "02_voices.json").write_text(json.dumps(results(rows=rows)))
    paper.TEMPLATE.write_text(HEAD + f"{{{{ table('02_voices', {['model', *columns]}) }}}}")
    page, ends = PdfReader(paper.write_report()[0]).pages[0], []

    def note(string, outer, matrix, font, size):
        if "−" in string:
            ends.append((matrix[4] * outer[0] + outer[4], size * matrix[0] * outer[0]))

    page.extract_text(visitor_text=note)
    assert len(ends) >= 7 and max(left for left, _ in ends) < 595.28 - 25 / 25.4 * 72
    assert all(6.5 < abs(size) < 8.5 for _, size in ends)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (HEAD + "{{ value('02_absent', 'SDR') }}", "02_absent"),
        (HEAD + r"$\nosuchcommand{x}$", "cannot be typeset"),
        (HEAD + "![lost](lost.png)", r"its picture lost\.png does not exist"),
        ("Words.\n", "has no title"),
        ("# Title\n\n## Section\n\nwords\n", "has no title: .* and a subtitle"),
    ],
)
def test_what_fails_leaves_the_old_report(project, template, message):
    paper.TEMPLATE.write_text(template)
    old = paper.TEMPLATE.with_suffix(".pdf")
    old.write_bytes(b"old")
    with pytest.raises(UserError, match=message):
        paper.write_report()
    assert old.read_bytes() == b"old"
    assert sorted(file.name for file in old.parent.iterdir()) == ["report.md", "report.pdf", "results"]


def test_a_report_without_results_has_no_date(project):
    paper.TEMPLATE.write_text(HEAD + "Words.\n")
    path, pages = paper.write_report()
    assert pages == 1 and "/CreationDate" not in (PdfReader(path).metadata or {})


@pytest.mark.skipif(not (runtime.ROOT / "report" / "report.md").is_file(), reason="the report is not written yet")
def test_the_report_finds_all_it_asks_for_in_the_committed_results():
    text = paper.Paper().render()
    assert paper.TITLE.match(text) and "{{" not in text and len(re.findall(r"^\*\*Table", text, re.M)) > 0
