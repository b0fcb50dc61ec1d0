"""Results files: every number that is shown is written by Run.save, with its data and protocol, and read from there."""

import json
import math
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import pandas as pd

from helpers import runtime
from helpers.runtime import UserError, write_atomically

ROUNDING = 1e-9  # smaller numbers are rounding errors of zero
PARTS = ("", " low", " high", " std")  # endings of the columns that make one cell of a table
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
FIELDS = {"title", "notebook", "data", "embedded", "split", "items", "metric", "protocol", "profile", "seed", "device"}
FIELDS |= {"revision", "created", "rows", "extra"}
AGAIN = "delete it and run its notebook again"


@dataclass
class Run:
    """One execution of a notebook; make it in the first cells, its clock starts there."""

    notebook: str  # its number, '01'
    profile: str
    seed: int
    data: str  # the data set in words
    embedded: bool  # True where the data is the embedded stand-in for the real one
    device: str  # in words (runtime.describe_device)
    started: float = field(default_factory=time.monotonic, repr=False)

    def save(self, name, title, rows, *, split, items, metric, protocol, **extra):
        """Write `<notebook>_<name>.json` and return its path.

        rows: a list of flat dicts, one per table row; see `interval` for a mean with its interval, `<column> std` for
        one with its standard deviation. split, items: the part of the data and how many items of it were measured;
        metric, protocol: what was measured, and how; extra: anything else. Raises UserError for NaN or infinity.
        """
        record = {
            "title": title, "notebook": self.notebook, "name": name, "data": self.data, "embedded": self.embedded,
            "split": split, "items": items, "metric": metric, "protocol": protocol, "profile": self.profile,
            "seed": self.seed, "device": self.device, "seconds": time.monotonic() - self.started,
            "versions": runtime.versions(), "revision": runtime.git_revision(),
            "created": datetime.now(UTC).date().isoformat(), "rows": rows, "extra": extra,
        }  # fmt: skip
        path = self._path("results", name, "json")
        text = json.dumps(_checked(record, path), indent=1, ensure_ascii=False)
        return write_atomically(path, text.encode() + b"\n")

    def load(self, name):
        """Return what `save` wrote under this name, in this profile's folder (see load_results)."""
        return load_results(self._path("results", name, "json"))

    def save_figure(self, fig, name):
        """Write a figure of helpers.show, as a notebook shows it, to `<notebook>_<name>.png` and return its path."""
        return write_atomically(self._path("figures", name, "png"), fig.png())

    def _path(self, kind, name, suffix):
        """Only COMMITTED_PROFILES on real data get the committed folders: no trial overwrites a published number."""
        keep = self.profile in runtime.COMMITTED_PROFILES and not self.embedded
        parent = runtime.BUILD if not keep else runtime.ROOT / "report" if kind == "results" else runtime.ROOT
        return parent / kind / f"{self.notebook}_{name}.{suffix}"


def load_results(path):
    """Return a results file as a dict, after checking its fields. Raises UserError if it is missing or malformed."""
    try:
        record = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): run the notebook that writes it") from error
    except ValueError as error:  # broken JSON or broken UTF-8
        raise UserError(f"{path} is not a results file ({error}): {AGAIN}") from error
    if missing := FIELDS - set(record if isinstance(record, dict) else ()):
        raise UserError(f"{path} has no {', '.join(sorted(missing))}: {AGAIN}")
    return _checked(record, path)


def _checked(record, path):
    """Return `record` with plain Python numbers; UserError unless its rows are flat."""
    record = _plain(record, path)
    for row in (isinstance(record["rows"], list) and record["rows"]) or [None]:
        if not isinstance(row, dict) or not row or any(isinstance(cell, (list, dict)) for cell in row.values()):
            raise UserError(f"{path} needs rows that are flat dicts, and at least one: {AGAIN}")
    return record


def _plain(value, where):
    """Tensors, arrays and NumPy numbers to lists and Python numbers; a number that is not finite is refused."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{where} is {value}: results hold finite numbers only, correct it and run its notebook again")
    if isinstance(value, dict):
        return {str(key): _plain(item, f"{where}, {key}") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, f"{where}[{number}]") for number, item in enumerate(value)]
    return value


class Table(pd.DataFrame):
    """A pandas table that prints whole, however wide: pandas itself leaves columns out of a printed one."""

    def __repr__(self):
        return self.to_string()


def interval(column, mean, low, high):
    """Return the three cells of a row that `to_table` shows as one, 'mean [low, high]'."""
    return {column: mean, f"{column} low": low, f"{column} high": high}


def to_table(results, columns=None, digits=None):
    """Return a pandas table of text, its rows named by the first column; means are 'mean [low, high]' or 'mean ± std'.

    results: what `load` returns, or its rows. columns: which ones and in what order, or {column: heading}; default:
    all. digits: decimals, a number or {column: number}; default: one significant digit of the narrowest interval, or
    three significant digits. A column of small numbers is shown in units of a power of ten, named in its heading.
    """
    rows = results["rows"] if isinstance(results, dict) else results
    present = _present(rows)
    columns = columns or [key for key in present if not key.endswith(PARTS[1:])]
    headings = columns if isinstance(columns, dict) else {column: column for column in columns}
    missing = [column for column in headings if column not in present]
    if missing or not headings:
        raise ValueError(f"no column {missing} in the rows, which have {present}")
    table = {}
    for column, heading in headings.items():
        unit, texts = _texts(rows, column, digits.get(column) if isinstance(digits, dict) else digits)
        table[heading + unit] = texts
    first = next(iter(table))  # stands in the corner: one heading line, in text and in HTML
    return Table(pd.DataFrame(table).set_index(first).rename_axis(index=None, columns=first))


def _present(rows):
    """Return all columns of the rows, each behind the one that it follows in the first row that has it."""
    columns = []
    for row in rows:
        place = 0
        for column in row:
            if column not in columns:
                columns.insert(place, column)
            place = columns.index(column) + 1
    return columns


def _texts(rows, column, digits):
    """Return the unit of a column of small numbers, as ' (×10⁻⁴)', else '', and the text of each row's cell."""
    cells = [[row.get(column + part) for part in PARTS] for row in rows]
    numbers = [mean for mean, *_ in cells if isinstance(mean, (int, float))]
    sizes = [abs(number) for number in numbers if abs(number) > ROUNDING] or [1.0]
    power = math.floor(math.log10(median(sizes))) if median(sizes) < 0.01 else 0
    if digits is None:
        halves = [(high - low) / 2 if std is None else std for _, low, high, std in cells if (low, std) != (None, None)]
        finest = min((half for half in halves if half > 1e-6 * max(sizes)), default=max(sizes) / 100)
        digits = min(5, max(1, power - math.floor(math.log10(finest))))
    pattern = f"z.{digits}f" if any(isinstance(number, float) for number in numbers) else ",.0f"
    texts = []
    for cell in cells:
        mean, low, high, std = (_text(value, power, pattern) for value in cell)
        spread = f" [{low}, {high}]" if cell[1] is not None else f" ± {std}" if cell[3] is not None else ""
        texts.append(mean + spread)
    return f" (×10{str(power).translate(SUPERSCRIPTS)})" if power else "", texts


def _text(value, power, pattern):
    if isinstance(value, (int, float)):
        return format(value / 10.0**power, pattern)
    return "–" if value is None else str(value)
