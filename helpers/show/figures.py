"""Figures and the live board: one style, the same colour for the same thing everywhere."""

import io
import math
import time

import matplotlib
import numpy as np
import PIL.Image
import torch
from IPython import get_ipython
from IPython.display import Image, display, update_display
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

WIDTH = 9.0  # inches, at 100 dpi the width of a notebook's cell
COLOURS = {  # Okabe and Ito's palette, told apart by colour-blind readers too
    "digit": "#0072B2",
    "garment": "#D55E00",
    "mixture": "#4D4D4D",
    "train": "#E69F00",
    "validation": "#009E73",
}
CYCLE = ["#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#4D4D4D"]
HEAVY = 100_000  # bytes of a figure from which on it is packed into few colours
GAP = 2  # white pixels between two pictures of a grid
STYLE = {
    "figure.dpi": 100,
    "savefig.dpi": 100,
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.prop_cycle": matplotlib.cycler(color=CYCLE),
    "grid.color": "#E3E3E3",
    "grid.linewidth": 0.8,
    "legend.edgecolor": "none",
    "legend.framealpha": 0.85,
    "legend.fontsize": 9,
    "lines.linewidth": 1.8,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "image.cmap": "gray",
}


class Picture(Figure):
    """A figure that a notebook shows once, where it is a cell's last line or passed to display(), and never twice.

    Figures made by pyplot are also shown at the end of their cell and stay in memory until they are closed.
    """

    def __init__(self, width, height, layout="constrained"):
        super().__init__(figsize=(width, height), dpi=100, layout=layout)

    def _repr_png_(self):
        png = io.BytesIO()
        self.savefig(png, format="png", bbox_inches="tight")
        return png.getvalue() if png.tell() < HEAVY else light(png)


def light(png, colours=128):
    """Return the bytes of a PNG in few colours, read from an open file: pictures of sound are noise, hard to pack."""
    few = (
        PIL.Image.open(png)
        .convert("RGB")
        .quantize(colours, PIL.Image.Quantize.MAXCOVERAGE, dither=PIL.Image.Dither.NONE)
    )
    packed = io.BytesIO()
    few.save(packed, format="png", optimize=True)
    return packed.getvalue()


def set_style():
    """Give every figure made from now on the project's style; call it once, in a notebook's set-up cell."""
    matplotlib.rcParams.update(STYLE)


def image_grid(rows, title=None, captions=None):
    """Show rows of images, each row labelled at its left.

    rows: `{label: (n, 28, 28) or (n, 1, 28, 28)}`, the same n in each; black is 0 and white is 1, in every picture
    alike. captions: n short texts above the columns. Returns the figure; raises ValueError for unequal rows.
    """
    _, (height, width, count) = _stacks(rows)
    scale = min(0.9, (WIDTH - 1.6) / count)  # inches a picture
    above = (0.35 if title else 0.1) + (0.3 if captions else 0)
    fig = Picture(1.6 + scale * count, above + scale * len(rows) * height / width, "compressed")
    axes = fig.subplots()
    _draw_grid(axes, rows, captions)
    if title:
        fig.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    return fig


def curves(history, terms=("loss",), labels=None, title=None, log=False):
    """Show the training and the validation curve of each term, one panel a term, with the best epoch marked.

    history: `{"epoch": [...], "train": {term: [...]}, "validation": {term: [...]}}`. labels: `{term: y-axis text}`,
    to say the unit. The best epoch is that of the lowest validation 'loss'. log: a logarithmic axis, used in those
    panels whose values are all positive and differ threefold or more. Returns the figure.
    """
    fig = Picture(min(WIDTH, 5.5 if len(terms) == 1 else 4.2 * len(terms)), 3.2)
    panels = fig.subplots(1, len(terms), squeeze=False)[0]
    for axes, term in zip(panels, terms, strict=True):
        _draw_curves(axes, history, term, (labels or {}).get(term, term), log)
    if title:
        fig.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    return fig


def heatmap(matrix, row_names, column_names, label, title=None, digits=1, row_label=None, column_label=None):
    """Show a matrix as coloured cells with their values; a NaN cell, which had no items, stays empty.

    matrix: `(rows, columns)`; label: what the values are, with their unit; row_label, column_label: what the
    rows and columns are. Returns the figure; raises ValueError if the names do not fit the matrix.
    """
    matrix = np.asarray(matrix, dtype=float)
    if matrix.shape != (len(row_names), len(column_names)):
        raise ValueError(f"a matrix of {matrix.shape} with {len(row_names)} row and {len(column_names)} column names")
    fig = Picture(WIDTH, 1.5 + 0.38 * len(row_names))
    axes = fig.subplots()
    picture = axes.imshow(np.ma.masked_invalid(matrix), cmap="cividis", aspect="auto")
    for (row, column), value in np.ndenumerate(matrix):
        if math.isfinite(value):
            colour = "white" if picture.norm(value) < 0.5 else "black"
            text = f"{value:.{digits}f}".replace("-", "−")
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=9)
    long_names = max(len(str(name)) for name in column_names) > 110 / len(column_names)
    turned = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if long_names else {}
    axes.set_xticks(range(len(column_names)), [str(name) for name in column_names], **turned)
    axes.set_yticks(range(len(row_names)), [str(name) for name in row_names])
    axes.set(xlabel=column_label, ylabel=row_label)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.grid(False)
    fig.colorbar(picture, ax=axes, label=label, pad=0.02).outline.set_visible(False)
    if title:
        axes.set_title(title)
    return fig


def bars(labels, means, lows, highs, label, title=None, digits=2):
    """Show horizontal bars from top to bottom with their intervals and values.

    lows, highs: ends of each interval, NaN where there is none; label: what the values are, with their unit.
    Returns the figure.
    """
    means, lows, highs = (np.asarray(numbers, dtype=float) for numbers in (means, lows, highs))
    fig = Picture(WIDTH, 0.9 + (0.3 if title else 0) + 0.36 * len(labels))
    axes = fig.subplots()
    places = np.arange(len(labels))
    axes.barh(places, means, height=0.62, color=CYCLE[0], alpha=0.85)
    errors = np.stack([means - lows, highs - means])
    axes.errorbar(means, places, xerr=errors, fmt="none", ecolor="black", elinewidth=1.2, capsize=3)
    for place, mean, low, high in zip(places, means, lows, highs, strict=True):
        end = np.nanmax([mean, high, 0]) if mean >= 0 else np.nanmin([mean, low])
        offset, side = (6, "left") if mean >= 0 else (-6, "right")
        text = f"{mean:.{digits}f}".replace("-", "−")
        axes.annotate(text, (end, place), (offset, 0), textcoords="offset points", va="center", ha=side)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.margins(x=0.12)
    axes.set_xlim(left=0 if means.min() >= 0 else None, right=0 if means.max() <= 0 else None)
    axes.set_yticks(places, labels)
    axes.invert_yaxis()
    axes.grid(False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(label)
    if title:
        axes.set_title(title)
    return fig


class LiveBoard:
    """What a training loop calls after each epoch: one printed line, and one figure redrawn every so many epochs.

    epochs: how many there will be, if known; every: redraw after this many (the first and the last are drawn too);
    pictures: called at each redrawing, returns rows for `image_grid` (about eight columns look well); label: the
    loss and its unit; log: a logarithmic loss axis; terms: further terms of the history, each drawn below the loss.
    Without a notebook it only prints. The saved notebook keeps the lines and the last figure: the figure is replaced
    under its display id, nothing is cleared.
    """

    def __init__(self, epochs=None, every=1, pictures=None, label="loss", log=False, terms=()):
        if every < 1:
            raise ValueError(f"every must be at least 1 epoch, got {every}")
        self.epochs, self.every, self.pictures, self.label, self.log = epochs, every, pictures, label, log
        self.terms = ("loss", *terms)
        self.shown = None  # the display id of the figure, once there is one
        self.printed = 0  # epochs whose line is out
        self.bar = None  # the display id of the bar of steps, once there is one

    def __call__(self, epoch, history):
        """epoch: counted from 1; history: as for `curves`, with the seconds of each epoch under 'seconds'."""
        due = self.shown is None or epoch % self.every == 0 or epoch == self.epochs
        if due and _in_notebook():
            self._show(self.figure(history))
        for done in range(self.printed, len(history["epoch"])):  # several on resuming a run, else one
            self._print(done, history)
        self.printed = len(history["epoch"])

    def watch(self, batches, total):
        """Yield the `total` batches of an epoch; meanwhile a line of text shows how many are done, about every second.

        Nothing is left of that line in the saved notebook.
        """
        due = time.monotonic() + 1
        for done, batch in enumerate(batches):
            if time.monotonic() >= due and _in_notebook():
                part = 30 * done // total
                self._show_bar(f"{'█' * part}{'░' * (30 - part)} {done} of {total} steps")
                due = time.monotonic() + 1
            yield batch
        if self.bar is not None:
            self._show_bar("")

    def figure(self, history):
        """Return the board as it stands: losses at the left, pictures at the right."""
        rows = self.pictures() if self.pictures else None
        if not rows:
            return curves(history, self.terms, labels={"loss": self.label}, log=self.log)
        _, (height, width, count) = _stacks(rows)
        share = WIDTH * 0.62
        tall = max(2.8, 1.9 * len(self.terms))
        fig = Picture(WIDTH, max(tall, 0.3 + (share - 1.2) / count * len(rows) * height / width))
        places = fig.add_gridspec(len(self.terms), 2, width_ratios=[WIDTH - share, share])
        for row, term in enumerate(self.terms):
            losses = fig.add_subplot(places[row, 0])
            _draw_curves(losses, history, term, self.label if term == "loss" else term, self.log)
            losses.set_xlim(0, self.epochs)
        grid = fig.add_subplot(places[:, 1])
        _draw_grid(grid, rows, interpolation="hanning")  # the pictures are too small to keep every pixel square
        grid.set_title(f"after epoch {history['epoch'][-1]}")
        return fig

    def _print(self, done, history):
        epoch, seconds = history["epoch"][done], history["seconds"][done]
        of = f"{epoch:{len(str(self.epochs))}d}/{self.epochs}" if self.epochs else f"{epoch:3d}"
        train, validation = history["train"]["loss"][done], history["validation"]["loss"][done]
        print(f"epoch {of}  train {train:<#9.4g} validation {validation:<#9.4g} {seconds:6.1f} s", flush=True)

    def _show_bar(self, text):
        if self.bar is None:
            self.bar = display({"text/plain": text}, raw=True, display_id=True).display_id
        else:
            update_display({"text/plain": text}, raw=True, display_id=self.bar)

    def _show(self, fig):
        picture = Image(data=fig._repr_png_(), format="png")
        if self.shown is None:
            self.shown = display(picture, display_id=True).display_id
        else:
            update_display(picture, display_id=self.shown)


def _in_notebook():
    return getattr(get_ipython(), "kernel", None) is not None


def _stacks(rows):
    """Check the rows of a grid; return `{label: array (n, height, width)}` and (height, width, n)."""
    stacks = {label: torch.as_tensor(images).detach().cpu().float().numpy() for label, images in rows.items()}
    stacks = {label: stack[:, 0] if stack.ndim == 4 else stack for label, stack in stacks.items()}
    shapes = {label: stack.shape for label, stack in stacks.items()}
    if len(set(shapes.values())) != 1 or any(len(shape) != 3 or 0 in shape for shape in shapes.values()):
        raise ValueError(f"a grid needs rows of one shape (n, height, width), got {shapes}")
    count, height, width = next(iter(shapes.values()))
    return stacks, (height, width, count)


def _draw_grid(axes, rows, captions=None, interpolation="nearest"):
    stacks, (height, width, count) = _stacks(rows)
    canvas = np.ones((len(stacks) * (height + GAP) - GAP, count * (width + GAP) - GAP))
    for row, stack in enumerate(stacks.values()):
        top = row * (height + GAP)
        for column, image in enumerate(stack):
            left = column * (width + GAP)
            canvas[top : top + height, left : left + width] = image
    axes.imshow(canvas, cmap="gray", vmin=0, vmax=1, interpolation=interpolation)
    axes.set_yticks([row * (height + GAP) + height / 2 for row in range(len(rows))], rows)
    for text in axes.get_yticklabels():
        named = [colour for name, colour in COLOURS.items() if name in text.get_text().lower()]
        text.set_color(named[0] if named else "black")
    if captions:
        axes.set_xticks([column * (width + GAP) + width / 2 for column in range(count)], captions)
        axes.xaxis.tick_top()
    else:
        axes.set_xticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.grid(False)


def _draw_curves(axes, history, term, label, log):
    epochs = history["epoch"]
    train, validation = history["train"][term], history["validation"][term]
    marker = "o" if len(epochs) < 3 else None  # a line of one point shows nothing
    for name, values in (("train", train), ("validation", validation)):
        axes.plot(epochs, values, color=COLOURS[name], marker=marker, markersize=3, label=name)
    axes.set_xlabel("epoch")
    losses = np.asarray(history["validation"]["loss"], dtype=float)
    if np.isfinite(losses).any():
        best = int(np.nanargmin(losses))
        axes.axvline(epochs[best], color="black", linewidth=0.8, linestyle=":")
        axes.plot(epochs[best], validation[best], "o", color=COLOURS["validation"], markeredgecolor="black")
        axes.set_xlabel(f"epoch (best: {epochs[best]}, {validation[best]:.4g})")
    if log and 0 < 3 * min([*train, *validation]) < max([*train, *validation]):
        axes.set_yscale("log")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlim(left=0)
    axes.set_ylabel(label)
    axes.legend()
