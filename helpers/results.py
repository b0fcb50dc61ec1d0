"""Every number that is shown is written here, with all that is needed to judge it, and read back from here."""

import io
import json
import math
import time
import warnings
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import pandas as pd

from helpers import runtime
from helpers.runtime import UserError, write_atomically

FIGURE_BYTES = 300_000  # the notebooks and the report carry many figures: none may be heavier
FIGURE_DPI = (110, 90, 70)  # tried in this order until the file is light enough
ROUNDING = 1e-9  # what is smaller is a zero that was computed
SCHEMA = {
    "title": str, "notebook": str, "name": str, "data": str, "embedded": bool, "split": str, "items": int,
    "metric": str, "protocol": str, "profile": str, "seed": int, "device": str, "seconds": (int, float),
    "versions": dict, "revision": str, "created": str, "rows": list, "extra": dict,
}  # fmt: skip


@dataclass
class Run:
    """One execution of a notebook; make it in the first cells, its clock starts there.

    notebook: its number ('01'); profile: its name; data: the data set in words; embedded: True where the data is the
    embedded stand-in for the real one; device: in words (runtime.describe_device).
    """

    notebook: str
    profile: str
    seed: int
    data: str
    embedded: bool
    device: str
    started: float = field(default_factory=time.monotonic, repr=False)

    def save(self, name, title, rows, *, split, items, metric, protocol, **extra):
        """Write `<notebook>_<name>.json` and return its path.

        rows: a list of flat dicts, one a table row; see `interval` for a mean with its interval, `<column> std` for
        one with its standard deviation; time spent on a row goes into a column of its own. split, items: what was
        measured on; metric, protocol: what, and how; extra: anything else (lists and dicts too). A number that is
        NaN or infinite raises UserError. The file goes where runtime.output_dir says, whole or not at all.
        """
        rows = [_plain(row, f"row {number}") for number, row in enumerate(rows)]
        record = {
            "title": title, "notebook": self.notebook, "name": name, "data": self.data, "embedded": self.embedded,
            "split": split, "items": items, "metric": metric, "protocol": protocol, "profile": self.profile,
            "seed": self.seed, "device": self.device, "seconds": time.monotonic() - self.started,
            "versions": runtime.versions(), "revision": runtime.git_revision(),
            "created": datetime.now(UTC).date().isoformat(), "rows": rows, "extra": _plain(extra, "extra"),
        }  # fmt: skip
        path = self._path("results", name, "json")
        _validate(record, path)
        write_atomically(path, json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n")
        return path

    def load(self, name):
        """Return what `save` wrote under this name, in this profile's folder (see load_results)."""
        return load_results(self._path("results", name, "json"))

    def save_figure(self, fig, name):
        """Write a matplotlib figure to `<notebook>_<name>.png` and return its path.

        At 110 dpi, or at a lower resolution where the file would pass 300 kB; warns if even that does not do.
        """
        for dpi in FIGURE_DPI:
            png = io.BytesIO()
            fig.savefig(png, format="png", dpi=dpi, bbox_inches="tight", pil_kwargs={"optimize": True})
            if png.tell() <= FIGURE_BYTES:
                break
        else:
            warnings.warn(f"figure '{name}' takes {png.tell() // 1000} kB: show fewer pictures in it", stacklevel=2)
        path = self._path("figures", name, "png")
        write_atomically(path, png.getvalue())
        return path

    def _path(self, kind, name, suffix):
        return runtime.output_dir(kind, self.profile, self.embedded) / f"{self.notebook}_{name}.{suffix}"


class Table(pd.DataFrame):
    """A pandas table that prints whole, however wide: pandas itself leaves columns out of a printed one."""

    def __repr__(self):
        return self.to_string()


def interval(column, mean, low, high):
    """Return the three cells of a row that hold a mean and its interval; `to_table` shows them as one.

    As in `{"model": "U-Net", **interval("PSNR", *metrics.mean_and_interval(scores))}`.
    """
    return {column: mean, f"{column} low": low, f"{column} high": high}


def load_results(path):
    """Return a results file as a dict, after checking its fields. Raises UserError if it is missing or malformed."""
    path = Path(path)
    try:
        record = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist: run the notebook that writes it") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): mend that, or run its notebook again") from error
    except ValueError as error:  # broken JSON or broken UTF-8
        raise UserError(f"{path} is not a results file ({error}): delete it and run its notebook again") from error
    _validate(record, path)
    return record


def to_table(results, columns=None, digits=None):
    """Return a pandas table of text, ready to display: the first column names the rows, a mean stands as
    'mean [low, high]' or 'mean ± std'.

    results: what `load` returns, or its rows. columns: which ones and in what order, or a dict {column: heading};
    default: all. digits: decimals, a number or {column: number}; default: as many as keep one significant digit of
    the narrowest interval that is more than rounding, or three significant digits. A column of small numbers is shown
    in units of a power of ten, named in its heading. An absent cell is shown as '–'.
    """
    rows = results["rows"] if isinstance(results, dict) else results
    present = list(dict.fromkeys(key for row in rows for key in row))
    parts = {f"{key}{part}" for key in present for part in (" low", " high", " std")}
    columns = columns or [key for key in present if key not in parts]
    headings = columns if isinstance(columns, dict) else {column: column for column in columns}
    missing = [column for column in headings if column not in present]
    if missing or not headings:
        raise ValueError(f"no column {missing} in the rows, which have {present}")
    cells = {}
    for column, heading in headings.items():
        wanted = digits.get(column) if isinstance(digits, dict) else digits
        heading, texts = _format_column(rows, column, heading, wanted)
        cells[heading] = texts
    first, *others = cells
    table = Table({heading: cells[heading] for heading in others}, index=pd.Index(cells[first], dtype=object))
    table.columns.name = first  # stands in the corner: one heading line, in text and in HTML
    return table


def _format_column(rows, column, heading, digits):
    """Return the heading, with its power of ten, and the text of each row's cell."""
    cells = [tuple(row.get(column + part) for part in ("", " low", " high", " std")) for row in rows]
    numbers = [value for value, *_ in cells if _is_number(value)]
    if not any(isinstance(number, float) for number in numbers):
        return heading, [_text(value) for value, *_ in cells]
    sizes = [abs(number) for number in numbers if abs(number) > ROUNDING] or [1.0]
    power = math.floor(math.log10(median(sizes))) if median(sizes) < 0.01 else 0
    if digits is None:
        halves = [(high - low) / 2 for _, low, high, _ in cells if low is not None]
        halves += [std for *_, std in cells if std is not None]
        halves = [half for half in halves if half > 1e-6 * max(sizes)]
        finest = min(halves) if halves else max(sizes) / 100
        digits = min(5, max(1, power - math.floor(math.log10(finest))))
    texts = []
    for value, *spread in cells:
        mean, low, high, std = (f"{x / 10.0**power:z.{digits}f}" if _is_number(x) else None for x in (value, *spread))
        interval = f" [{low}, {high}]" if low else f" ± {std}" if std else ""
        texts.append(mean + interval if mean else _text(value))
    superscript = str(power).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return (f"{heading} (×10{superscript})" if power else heading), texts


def _text(value):
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _plain(value, where):
    """Tensors, arrays and NumPy numbers to lists and Python numbers; a number that is not finite is refused."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{where} is {value}: results hold finite numbers only, mend the run that gave it")
    if isinstance(value, dict):
        return {str(key): _plain(item, f"{where}, '{key}'") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, f"{where}[{number}]") for number, item in enumerate(value)]
    return value


def _validate(record, path):
    if not isinstance(record, dict):
        raise UserError(f"{path} is not a results file (no JSON object): delete it and run its notebook again")
    for name, kind in SCHEMA.items():
        value = record.get(name)
        if not isinstance(value, kind) or isinstance(value, bool) != (kind is bool):
            raise UserError(f"{path} has no valid '{name}' (found {value!r}): delete it and run its notebook again")
    flat = all(isinstance(row, dict) and row for row in record["rows"])
    flat = flat and not any(isinstance(cell, (list, dict)) for row in record["rows"] for cell in row.values())
    if not record["rows"] or not flat:
        raise UserError(f"{path} needs rows that are flat dicts, and at least one: run its notebook again")


def _refuse(constant):
    raise ValueError(f"it holds {constant}, which is no number")
