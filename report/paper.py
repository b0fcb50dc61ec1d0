"""The report: report/report.md, filled with what report/results/*.json holds, to report/report.pdf.

report.md is Markdown with Jinja's {{ ... }}, in which the functions of `Paper` may be called. pandoc and Typst set it
in the style of paper.typ.
"""

import io
import math
import re
import traceback

from helpers.results import load_results, to_table
from helpers.runtime import BUILD, COMMITTED_PROFILES, ROOT, UserError, write_atomically
from report.pdf import HERE, typeset

TEMPLATE = ROOT / "report" / "report.md"
RESULTS = ROOT / "report" / "results"
FIGURES = ROOT / "figures"
MISTAKES = (TypeError, ValueError, AttributeError, LookupError, ArithmeticError, OSError)  # of a call in report.md
MARKUP = re.compile(r"[\\`*_{}\[\]<>$|~#&^@]")  # what Markdown would take as its own


def write_report(draft=False):
    """Typeset the report into report.pdf beside report.md; return its path and its number of pages.

    The same template, results and pictures give the same bytes: the report's date is that of its newest results.
    draft: take results that may not be published, too, and write build/report.pdf instead.
    Raises UserError, and keeps the old PDF, where something that the report asks for is missing or cannot be set.
    """
    from pypdf import PdfReader

    paper = Paper(draft)
    text = paper.render()
    days = [record["created"] for record in paper.records.values()]
    options = [f"--variable=date:{max(days, default='')}", f"--variable=draft:{'Draft ·' if draft else ''}"]
    options += ["--from=markdown", "--shift-heading-level-by=-1"]
    pdf = typeset(text, HERE / "paper.typ", TEMPLATE, *options)
    path = BUILD / "report.pdf" if draft else TEMPLATE.with_suffix(".pdf")
    return write_atomically(path, pdf), len(PdfReader(io.BytesIO(pdf)).pages)


class Paper:
    """What report.md may call. What comes back is Markdown, or a UserError is raised.

    file: a results file without its ending, '02_results'. where: the cells that single out one row, as in
    source="vocals"; a column whose name is no word goes in as **{"STFT bins": 513}. digits: decimals. sign: a plus
    before what is not negative.
    """

    FUNCTIONS = ("value", "raw", "interval", "number", "fact", "table", "figure")

    def __init__(self, draft=False):
        self.draft, self.records = draft, {}

    def render(self):
        """Return report.md with what its calls return in their place. Errors name the line."""
        from jinja2 import Environment, StrictUndefined, TemplateError

        environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True)
        try:
            template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
            return template.render({name: getattr(self, name) for name in self.FUNCTIONS})
        except (UserError, TemplateError, *MISTAKES) as error:
            frames = traceback.extract_tb(error.__traceback__)
            lines = [frame.lineno for frame in frames if frame.filename == "<template>"]
            line = getattr(error, "lineno", lines[-1] if lines else "?")
            raise UserError(f"{TEMPLATE}, line {line}: {' '.join(str(error).split())}") from error

    def value(self, file, column, /, digits=2, sign=False, **where):
        """Return a cell: a number that is not whole with `digits` decimals, words as they are."""
        return written(self.raw(file, column, **where), digits, sign)

    def raw(self, file, column, /, **where):
        """Return a cell as the file holds it, to compute with."""
        rows = _rows_with(self._record(file), where, file)
        if len(rows) > 1:
            raise UserError(f"{file} has {len(rows)} rows with {where}: name another cell of the one that is meant")
        return _cells(rows, column, file)[0]

    def interval(self, file, column, /, digits=2, sign=False, **where):
        """Return a mean with its interval, 'mean [low, high]'."""
        parts = (self.value(file, column + part, digits, sign, **where) for part in ("", " low", " high"))
        return "{} [{},\u00a0{}]".format(*parts)

    @staticmethod
    def number(value, digits=2, sign=False):
        """Return a number with `digits` decimals, a minus sign that is no hyphen, and commas between thousands."""
        return f"{value:{'+' if sign else ''}z,.{digits}f}".replace("-", "−")

    def fact(self, file, name, digits=2):
        """Return a field of the file ('data', 'items', ...) or of its `extra`."""
        record = self._record(file)
        value = (record["extra"] | record).get(name)
        if value is None or isinstance(value, dict | list):
            raise UserError(f"{file} has no single value under {name}: look into it, and name one")
        return written(value, digits)

    def table(self, file, columns, where=None, rows=None, sort=None, digits=2):
        """Return a table, and below it its caption, which says what was measured on what, how, and computed on what.

        columns: {name: heading}; the first names the rows. where: {column: cell} that a row must have. rows: cells of
        the first column, in the order wanted; default: all. sort: a column, 'NSDR' from its lowest cell or '-NSDR'
        from its highest. digits: see results.to_table.
        """
        record, first = self._record(file), next(iter(columns))
        chosen = _rows_with(record, where or {}, file)
        if rows:
            chosen = [row for name in rows for row in _rows_with({"rows": chosen}, {first: name}, file)]
        for column in columns:
            _cells(chosen, column, file)
        if sort:
            column, sign = sort.removeprefix("-"), -1 if sort.startswith("-") else 1
            chosen.sort(key=lambda row: math.inf if row.get(column) is None else sign * row[column])
        caption = "{title}. Data: {data}; split: {split}, {items} items. Metric: {metric}. Protocol: {protocol}. "
        caption += "Profile {profile}, {device}."
        caption = caption.format(**{name: written(cell) for name, cell in record.items()})
        return f"{pipe_table(chosen, columns, digits)}\n\n: {caption}\n"

    def figure(self, name, caption, width="100%"):
        """Return a picture of figures/ with its caption. width: of the text's, as in '80%'."""
        path = FIGURES / name
        if not path.is_file():
            raise UserError(f"{path} does not exist: run the notebook that saves it, in its full profile")
        return f"![{' '.join(caption.split())}]({path}){{width={width}}}"

    def _record(self, file):
        if file not in self.records:
            self.records[file] = load_publishable(RESULTS / f"{file}.json", self.draft)
        return self.records[file]


def load_publishable(path, draft=False):
    """Return the results file at `path`; UserError where it may not be published (unless `draft`), see below."""
    record = load_results(path)
    problems = {
        f"is of the trial profile '{record['profile']}'": record["profile"] not in COMMITTED_PROFILES,
        "was measured on embedded data": record["embedded"],
        f"is of code that was not committed ({record['revision']})": record["revision"].endswith("-dirty"),
    }
    for problem, found in problems.items():
        if found and not draft:
            raise UserError(f"{path} {problem}: run notebook {record['notebook']}, as committed, on real data, in full")
    return record


def written(cell, digits=2, sign=False):
    """Return a cell as Markdown that shows it: a number that is not whole with `digits` decimals."""
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, int | float):
        return Paper.number(cell, digits if isinstance(cell, float) else 0, sign)
    return MARKUP.sub(r"\\\g<0>", " ".join(str(cell).split()))


def pipe_table(rows, columns, digits):
    """Return rows as a Markdown table, all but their names to the right, with minus signs that are no hyphens."""
    rows = [{name: written(cell) if isinstance(cell, str) else cell for name, cell in row.items()} for row in rows]
    table = to_table(rows, columns, digits)
    lines = [[table.columns.name, *table.columns], [":--", *["--:"] * table.shape[1]]]
    for name, *cells in table.itertuples(name=None):  # the two bounds of an interval stay in one line
        lines.append([name, *(re.sub(r"(?<![\w)])-(?=\d)", "−", cell).replace(", ", ",\u00a0") for cell in cells)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _rows_with(record, where, file):
    found = [row for row in record["rows"] if where.items() <= row.items()]
    if not found:
        raise UserError(f"{file} has no row with {where}: see what it has by 'python -m report table'")
    return found


def _cells(rows, column, file):
    """Return the cells of a column that are not empty, at least one."""
    cells = [row[column] for row in rows if row.get(column) not in (None, "")]
    if not cells:
        present = ", ".join(dict.fromkeys(name for row in rows for name in row))
        raise UserError(f"{file} has nothing in column '{column}' there: take one of {present}")
    return cells
