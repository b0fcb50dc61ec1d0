"""The report: report/report.md, filled with what report/results/*.json holds, to report/report.pdf.

report.md is Markdown with Jinja's {{ ... }}, in which the functions of `Paper` may be called.
"""

import io
import re
import tempfile
import traceback
from collections import Counter
from datetime import date
from pathlib import Path

from helpers.runtime import BUILD, ROOT, UserError, write_atomically
from report.markup import literal, to_typst
from report.paper_tables import load_publishable, markdown_table, measured, number, one_cell, written
from report.pdf import Work, compile_pdf

TEMPLATE = ROOT / "report" / "report.md"
RESULTS = ROOT / "report" / "results"
FIGURES = ROOT / "figures"
MARKDOWN = BUILD / "report.md"  # the report with its numbers, as it is typeset
STYLE = Path(__file__).with_name("paper.typ")
TITLE = re.compile(r"\s*(# (.+)\n\n(?:[^#\n].*\n)+)")  # the title, and below it the subtitle
BLOCK = re.compile(  # a table and the caption below it, or a picture and its width
    r"^(?P<table>(?:\|.*\n)+)\n(?P<caption>\*\*Table\s\d+\.\*\* .+)$|"
    r"^(?P<picture>!\[.+\]\(.+\))\{width=(?P<width>\d+%)\}$",
    re.MULTILINE,
)


def write_report():
    """Typeset the report into report.pdf beside report.md; return its path and its number of pages.

    The same template, results and pictures give the same bytes: the report's date is that of its newest results.
    Raises UserError, and keeps the old PDF, where something that the report asks for is missing or cannot be set.
    """
    from pypdf import PdfReader

    paper = Paper()
    text = paper.render()
    title = TITLE.match(text)
    if not title:
        raise UserError(f"{TEMPLATE} has no title: begin it with '# TITLE', an empty line and a subtitle")
    write_atomically(MARKDOWN, text.encode())
    pieces = [("typst", "#front["), ("markdown", title[1]), ("typst", "]"), *_pieces(text[title.end() :])]
    with tempfile.TemporaryDirectory() as folder:
        work = Work(TEMPLATE, Path(folder))
        body = to_typst(pieces, work.linked, TEMPLATE)
        head = f"#let title = {literal(title[2])}\n#let newest = {paper.newest()}\n"
        source = work.folder / "report.typ"
        source.write_text(head + STYLE.read_text(encoding="utf-8") + body, encoding="utf-8")
        pdf = compile_pdf(source, TEMPLATE)
    return write_atomically(TEMPLATE.with_suffix(".pdf"), pdf), len(PdfReader(io.BytesIO(pdf)).pages)


def _pieces(text):
    """Yield Markdown in pieces for to_typst: tables with captions, pictures with widths, and what is between."""
    end = 0
    for block in BLOCK.finditer(text):
        yield "markdown", text[end : block.start()]
        if block["table"]:
            yield from [("typst", "#tabled["), ("markdown", block["table"]), ("typst", "][")]
            yield from [("markdown", block["caption"]), ("typst", "]")]
        else:
            yield from [("typst", f"#pictured({block['width']})["), ("markdown", block["picture"]), ("typst", "]")]
        end = block.end()
    yield "markdown", text[end:]


class Paper:
    """What report.md may call. What comes back is Markdown, or a UserError is raised.

    file: a results file without its ending, '02_results'. where: the cells that single out one row, as in
    source="vocals"; a column whose name is no word goes in as **{"STFT bins": 513}. digits: decimals. sign: a plus
    before what is not negative. label: a word for `ref`.
    """

    FUNCTIONS = ("value", "raw", "interval", "number", "fact", "table", "caption", "figure", "ref")
    number = staticmethod(number)

    def __init__(self):
        self.records, self.counts, self.labels, self.again = {}, Counter(), {}, False

    def render(self):
        """Return report.md with what its calls return in their place. Errors name the line."""
        from jinja2 import Environment, StrictUndefined, TemplateError

        if not TEMPLATE.is_file():
            raise UserError(f"{TEMPLATE} does not exist: restore it, e.g. by 'git checkout'")
        environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True)
        try:
            template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
            for self.again in (False, True):  # the second time every label is known
                self.counts.clear()
                text = template.render({name: getattr(self, name) for name in self.FUNCTIONS})
        except (UserError, TemplateError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            frames = traceback.extract_tb(error.__traceback__)
            lines = [frame.lineno for frame in frames if frame.filename == "<template>"]
            line = getattr(error, "lineno", lines[-1] if lines else "?")
            raise UserError(f"{TEMPLATE}, line {line}: {' '.join(str(error).split())}") from error
        return text

    def newest(self):
        """Return the date of the newest results that were used, in Typst's words."""
        days = [date.fromisoformat(record["created"]) for record in self.records.values()]
        return "datetime(year: {0.year}, month: {0.month}, day: {0.day})".format(max(days)) if days else "none"

    def value(self, file, column, /, digits=2, sign=False, **where):
        """Return a cell: a number that is not whole with `digits` decimals, words as they are."""
        return written(self.raw(file, column, **where), digits, sign)

    def raw(self, file, column, /, **where):
        """Return a cell as the file holds it, to compute with."""
        return one_cell(self._record(file)["rows"], column, where, _path(file))

    def interval(self, file, column, /, digits=2, sign=False, **where):
        """Return a mean with its interval, 'mean [low, high]'."""
        mean, low, high = (self.value(file, column + part, digits, sign, **where) for part in ("", " low", " high"))
        return f"{mean} [{low},\u00a0{high}]"

    def fact(self, file, *names, digits=2):
        """Return a field of the file ('data', 'items', ...) or of its `extra`; more names lead into nested ones."""
        record = self._record(file)
        found = record["extra"] | record
        for name in names:
            found = found.get(name) if isinstance(found, dict) else None
        if found is None or isinstance(found, dict | list):
            raise UserError(f"{_path(file)} has no single value under {' / '.join(names)}: look into it, and name one")
        return written(found, digits)

    def table(self, file, columns, caption=None, label=None, **choice):
        """Return a table, and below it its caption, which says what was measured on what, how, and computed on what.

        columns, and in `choice` where, rows, sort, digits and published: see paper_tables.markdown_table. caption: what
        there is to see (default: the file's title).
        """
        record = self._record(file)
        table = markdown_table(record, _path(file), columns, **choice)
        text = (caption or written(record["title"])).rstrip(". ")
        return f"{table}\n\n{self.caption(f'{text}. {measured(record)}', label)}"

    def caption(self, text, label=None):
        """Return the caption of a table that was typed in, to stand below it after an empty line."""
        return self._numbered("Table", text, label)

    def figure(self, name, caption, width="100%", label=None):
        """Return a picture of figures/ with its caption. width: of the text's, as in '80%'."""
        path = FIGURES / name
        if path.parent != FIGURES or not path.is_file():
            raise UserError(f"{path} does not exist: run the notebook that saves it, in its long or full profile")
        if not any(RESULTS.glob(f"{name[:2]}_*.json")):
            raise UserError(f"{path} has no results beside it in {RESULTS}: run notebook {name[:2]} anew")
        if not re.fullmatch(r"\d+%", width):
            raise UserError(f"{path} cannot be '{width}' wide: give a share of the text's width, such as '80%'")
        return f"![{self._numbered('Figure', caption, label)}](../figures/{name}){{width={width}}}"

    def ref(self, label):
        """Return 'Table 2' or 'Figure 3': what the table or figure with this label is called."""
        if self.again and label not in self.labels:
            raise UserError(f"no table or figure has the label '{label}': give it to one")
        return self.labels.get(label, "")

    def _numbered(self, kind, text, label):
        self.counts[kind] += 1
        name = f"{kind}\u00a0{self.counts[kind]}"
        if label and self.labels.setdefault(label, name) != name:
            raise UserError(f"'{label}' labels {self.labels[label]} and {name}: choose another label for one of them")
        return f"**{name}.** {' '.join(text.split())}"

    def _record(self, file):
        if file not in self.records:
            self.records[file] = load_publishable(_path(file))
        return self.records[file]


def _path(file):
    path = RESULTS / f"{file}.json"
    if path.parent != RESULTS:
        raise UserError(f"{path} is outside {RESULTS}: name a file that is in it")
    return path
