"""Rows of a results file as Markdown, for helpers/paper.py: which rows, and how a cell is written."""

import re
from datetime import date

from helpers.results import load_results, to_table
from helpers.runtime import COMMITTED_PROFILES, UserError

MARKUP = re.compile(r"[\\`*_{}\[\]<>$|~#&]")  # what Markdown would take as its own


def load_publishable(path):
    """Return the results file at `path`. Raises UserError also where it is of a trial profile or of embedded data."""
    record = load_results(path)
    remedy = f"run notebook {record['notebook']} on the real data in its long or full profile"
    if record["profile"] not in COMMITTED_PROFILES:
        raise UserError(f"{path} is of the trial profile '{record['profile']}': {remedy}")
    if record["embedded"]:
        raise UserError(f"{path} was measured on embedded data: {remedy}")
    try:
        date.fromisoformat(record["created"])
    except ValueError as error:
        raise UserError(f"{path} has no date, but '{record['created']}': {remedy}") from error
    return record


def written(cell, digits=2, sign=False):
    """Return a cell as Markdown that shows it: a number that is not whole with `digits` decimals."""
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, int | float):
        return number(cell, digits if isinstance(cell, float) else 0, sign)
    return MARKUP.sub(r"\\\g<0>", " ".join(str(cell).split()))


def number(value, digits=2, sign=False):
    """Return a number with `digits` decimals, a minus sign that is no hyphen, and commas between thousands."""
    return f"{value:{'+' if sign else ''}z,.{digits}f}".replace("-", "−")


def one_cell(rows, column, where, path):
    """Return the cell of the one row that has the cells `where`. Raises UserError unless there is just one."""
    found = _rows_with(rows, where, path)
    if len(found) > 1:
        raise UserError(f"{path} has {len(found)} rows with {where}: name another cell of the one that is meant")
    return _cells(found, column, path)[0]


def markdown_table(record, path, columns, where=None, rows=None, sort=None, digits=2, published=()):
    """Return a table of the results file `record`, read from `path`.

    columns: names, or {name: heading}; the first names the rows. where: {column: cell} that a row must have. rows:
    cells of the first column, in the order wanted, or {cell: what to show}; default: all. sort: a column, 'NSDR' from
    its lowest cell or '-NSDR' from its highest. digits: see results.to_table. published: rows of others, typed in, each
    with its source and protocol under 'from'. Raises UserError where a row or column wanted is not there.
    """
    headings = columns if isinstance(columns, dict) else {column: written(column) for column in columns}
    first, *_ = headings
    chosen = _rows_with(record["rows"], where or {}, path)
    if rows:
        chosen = [row for name in rows for row in _rows_with(chosen, {first: name}, path)]
    for column in headings:
        _cells(chosen, column, path)
    shown = rows if isinstance(rows, dict) else {}
    chosen = [_escaped(row) | {first: shown.get(row[first], written(row[first]))} for row in chosen]
    if published:
        chosen = _with_published(chosen, published, headings)
        headings = headings | {"from": "from"}
    return _pipe_table(_sorted(chosen, sort, path) if sort else chosen, headings, digits)


def measured(record):
    """Return what the numbers of a results file are: of which data, by which metric and protocol, computed on what."""
    words = "Data: {data}; split: {split}, {items} items. Metric: {metric}. Protocol: {protocol}. "
    words += "Profile {profile}, {device}."
    return words.format(**{name: written(cell) for name, cell in record.items()})


def _rows_with(rows, where, path):
    found = [row for row in rows if where.items() <= row.items()]
    if not found:
        raise UserError(f"{path} has no row with {where}: see what it has by 'python -m helpers table'")
    return found


def _cells(rows, column, path):
    """Return the cells of a column that are not empty, at least one."""
    cells = [row[column] for row in rows if row.get(column) not in (None, "")]
    if not cells:
        present = ", ".join(dict.fromkeys(name for row in rows for name in row))
        raise UserError(f"{path} has nothing in column '{column}' there: take one of {present}")
    return cells


def _escaped(row):
    return {column: written(cell) if isinstance(cell, str) else cell for column, cell in row.items()}


def _with_published(rows, published, headings):
    for row in published:
        if "from" not in row or not row.keys() <= headings.keys() | {"from"}:
            raise UserError(f"published row {row}: give it a 'from', and no cells but of {', '.join(headings)}")
    return [row | {"from": "here"} for row in rows] + list(published)


def _sorted(rows, order, path):
    column = order.removeprefix("-")
    _cells(rows, column, path)
    known = [row for row in rows if row.get(column) is not None]
    known.sort(key=lambda row: row[column], reverse=order.startswith("-"))
    return known + [row for row in rows if row.get(column) is None]


def _pipe_table(rows, headings, digits):
    """Return rows as Markdown, numbers to the right, with minus signs that are no hyphens."""
    table = to_table(rows, headings, digits)
    numeric = [any(isinstance(row.get(column), int | float) for row in rows) for column in headings]
    numeric[0] = False  # it names the rows
    lines = [[table.columns.name, *table.columns], ["--:" if right else ":--" for right in numeric]]
    for cells in table.itertuples(name=None):  # the two bounds of an interval stay in one line
        tidy = [cell.replace("-", "−").replace(", ", ",\u00a0") for cell in cells]
        lines.append([new if right else old for new, old, right in zip(tidy, cells, numeric, strict=True)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
