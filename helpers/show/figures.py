"""Figures of the notebooks in one style: images, spectrograms, curves and comparisons."""

import io

import matplotlib
import numpy as np
import PIL.Image
import torch
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

WIDTH = 9.0  # inches, at 100 dpi the width of a notebook's cell
CYCLE = ["#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#4D4D4D"]  # Okabe and Ito's palette
COLOURS = {  # a source has one colour in every figure
    "mixture": "#4D4D4D",
    "digit": "#0072B2",
    "garment": "#D55E00",
    "vocals": "#0072B2",
    "accompaniment": "#D55E00",
    "drums": "#009E73",
    "bass": "#E69F00",
    "other": "#CC79A7",
}
SPLITS = {"train": CYCLE[3], "validation": CYCLE[2]}  # the colours of two curves of a training
LARGE = 100_000  # bytes of a PNG from which on it is reduced to few colours
GAP = 2  # white pixels between two images of a grid
LABEL_SIDES = [  # where a point's label may stand: offset in points to the right and upwards, and its alignment
    (7, 3, "left"), (7, -11, "left"), (-7, 3, "right"), (-7, -11, "right"), (0, 9, "center"), (0, -17, "center"),
]  # fmt: skip
SHADES = matplotlib.colormaps["magma"].resampled(64)  # more shades would only make the PNG larger
STYLE = {
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.prop_cycle": matplotlib.cycler(color=CYCLE),
    "grid.color": "#E3E3E3",
    "grid.linewidth": 0.8,
    "legend.edgecolor": "none",
    "legend.fontsize": 9,
    "lines.linewidth": 1.8,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
}


class Picture(Figure):
    """A figure that a notebook shows once, by display() or as a cell's last line; pyplot's are shown again after it."""

    def __init__(self, width, height, layout="constrained"):
        super().__init__(figsize=(width, height), dpi=100, layout=layout)

    def png(self):
        """Return the figure as the bytes of a PNG, with few colours where more would make it heavy."""
        png = io.BytesIO()
        self.savefig(png, format="png", bbox_inches="tight")
        return png.getvalue() if png.tell() < LARGE else with_few_colours(png)

    _repr_png_ = png


def with_few_colours(png, colours=128):
    """Return the bytes of a PNG (an open file) with fewer colours: noise-like spectrograms then take half the space."""
    method, dither = PIL.Image.Quantize.MAXCOVERAGE, PIL.Image.Dither.NONE
    reduced = PIL.Image.open(png).convert("RGB").quantize(colours, method, dither=dither)
    content = io.BytesIO()
    reduced.save(content, format="png", optimize=True)
    return content.getvalue()


def set_style():
    """Give every figure made from now on the project's style; call it once, in a notebook's set-up cell."""
    matplotlib.rcParams.update(STYLE)


def colour_of(name, default="black"):
    """Return the colour of the source whose name `name` contains, else `default`."""
    return next((colour for source, colour in COLOURS.items() if source in name.lower()), default)


def image_grid(rows, captions=None):
    """Show rows of images `{label: (n, height, width) or (n, 1, height, width)}`, black 0 and white 1.

    captions: n short texts above the columns. Returns the figure.
    """
    count, height, width = image_stack(rows).shape[1:]
    scale = min(0.9, (WIDTH - 1.6) / count)  # inches per image
    above = 0.4 if captions else 0.1
    fig = Picture(1.6 + scale * count, above + scale * len(rows) * height / width, "compressed")
    draw_image_grid(fig.subplots(), rows, captions)
    return fig


def image_stack(rows):
    """Return the images of a grid as one array (rows, n, height, width)."""
    stacks = [torch.as_tensor(images).detach().cpu().float() for images in rows.values()]
    return torch.stack([stack[:, 0] if stack.ndim == 4 else stack for stack in stacks]).numpy()


def draw_image_grid(axes, rows, captions=None, interpolation="nearest"):
    """Draw what image_grid shows into given axes, as one image with white gaps."""
    images = image_stack(rows)
    height, width = images.shape[2] + GAP, images.shape[3] + GAP  # of an image and the gap after it
    padded = np.pad(images, ((0, 0), (0, 0), (0, GAP), (0, GAP)), constant_values=1)
    canvas = padded.transpose(0, 2, 1, 3).reshape(len(rows) * height, -1)[:-GAP, :-GAP]
    axes.imshow(canvas, cmap="gray", vmin=0, vmax=1, interpolation=interpolation)
    axes.set_yticks([row * height + (height - GAP) / 2 for row in range(len(rows))], rows)
    for text in axes.get_yticklabels():
        text.set_color(colour_of(text.get_text()))
    axes.set_xticks([])
    if captions:
        axes.set_xticks([column * width + (width - GAP) / 2 for column in range(images.shape[1])], captions)
        axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.grid(False)


def plot_grid(count, columns, above, height, x_label, y_label):
    """Return a figure and the axes (rows, columns) of `count` plots that share their scales and labels.

    above, height: inches for what the plots have in common, and for a row of them.
    """
    columns = min(columns, count)
    rows = -(-count // columns)
    fig = Picture(WIDTH, above + height * rows)
    places = fig.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for axes in places.flat[count:]:
        axes.set_visible(False)
    fig.supylabel(y_label, fontsize=10)
    fig.supxlabel(x_label, fontsize=10)
    return fig, places


def spectrogram_grid(spectrograms, sample_rate, label, limits, highest=None, start=0.0, columns=3):
    """Show spectrograms or masks side by side, with the same axes and the same colours for the same value.

    Args:
        spectrograms: {title: (values (bins, frames), n_fft, hop_length)}; each may have an STFT of its own.
        label: what the values are, with their unit. limits: the values of the darkest and of the brightest colour.
        highest: frequency in Hz up to which they are shown; None: half the sample rate.
        start: the time in seconds of the first frame. columns: spectrograms in a row.

    Returns the figure; raises ValueError for values that do not fit n_fft.
    """
    fig, places = plot_grid(len(spectrograms), columns, 0.7, 2.5, "time in s", "frequency in kHz")
    for axes, (title, (values, n_fft, hop_length)) in zip(places.flat, spectrograms.items(), strict=False):
        values = torch.as_tensor(values).detach().cpu().float()
        if values.dim() != 2 or len(values) != n_fft // 2 + 1:
            raise ValueError(f"'{title}': {tuple(values.shape)} is not ({n_fft // 2 + 1} bins, frames)")
        image = draw_spectrogram(axes, values, sample_rate, n_fft, hop_length, limits, highest, start)
        axes.set_title(title, fontsize=10)
        axes.set_xlim(start, start + (values.shape[1] - 1) * hop_length / sample_rate)
    for axes in places.flat[: len(spectrograms)][-places.shape[1] :]:  # the lowest of each column
        axes.tick_params(labelbottom=True)
    fig.colorbar(image, ax=places, label=label, pad=0.015).outline.set_visible(False)
    return fig


def draw_spectrogram(axes, values, sample_rate, n_fft, hop_length, limits, highest, start):
    """Draw values (bins, frames) into axes in kHz and s, each bin and frame centred where it belongs."""
    bins, frames = values.shape
    width, height = hop_length / sample_rate, sample_rate / n_fft / 1000  # of one value, in s and kHz
    edges = (start - width / 2, start + (frames - 0.5) * width, -height / 2, (bins - 0.5) * height)
    image = axes.imshow(
        values.numpy(), cmap=SHADES, vmin=limits[0], vmax=limits[1], origin="lower", aspect="auto", extent=edges,
        interpolation="antialiased",
    )  # fmt: skip
    axes.set_ylim(0, (highest or sample_rate / 2) / 1000)
    axes.grid(False)
    return image


def line_plots(plots, marks=None):
    """Show plots side by side; a name has one colour in all of them, and there is one legend for all.

    plots: {title: (x label, y label, {name: (x values, y values)})}. marks: {x: text} for dotted vertical lines in
    every plot. Returns the figure.
    """
    fig = Picture(WIDTH, 3.2)
    names = list(dict.fromkeys(name for _, _, curves in plots.values() for name in curves))
    drawn = {}
    places = fig.subplots(1, len(plots), squeeze=False)[0]
    for axes, (title, (x_label, y_label, curves)) in zip(places, plots.items(), strict=True):
        for name, (x, y) in curves.items():
            colour = COLOURS.get(name, CYCLE[names.index(name) % len(CYCLE)])
            (drawn[name],) = axes.plot(x, y, color=colour, linewidth=1.4)
        for x, text in (marks or {}).items():
            axes.axvline(x, color="black", linewidth=0.9, linestyle=":")
            axes.text(x, 1, f" {text}", transform=axes.get_xaxis_transform(), va="top", fontsize=9)
        axes.set(xlabel=x_label, ylabel=y_label, title=title)
        axes.margins(x=0)
    fig.legend(drawn.values(), drawn, loc="outside right upper")
    return fig


def small_multiples(histories, term, label):
    """Show a term of {name: what fit() returns} in small plots, the epoch that is kept as a dotted line.

    label: what the term is, with its unit. Returns the figure.
    """
    fig, places = plot_grid(len(histories), 4, 0.6, 1.7, "epoch", label)
    for axes, (name, history) in zip(places.flat, histories.items(), strict=False):
        for split, colour in SPLITS.items():
            marker = "o" if len(history["epoch"]) < 3 else None  # a line of one point would show nothing
            axes.plot(history["epoch"], history[split][term], color=colour, marker=marker, linewidth=1.4, label=split)
        axes.axvline(history["best_epoch"], color="black", linewidth=0.9, linestyle=":")
        axes.set_title(name, fontsize=10)
    fig.legend(*places[0, 0].get_legend_handles_labels(), loc="outside upper right", ncols=2)
    return fig


def bars(labels, means, lows, highs, label):
    """Show horizontal bars with their values and intervals, NaN where there is none. Returns the figure."""
    means, lows, highs = (np.asarray(numbers, dtype=float) for numbers in (means, lows, highs))
    axes = Picture(WIDTH, 0.9 + 0.36 * len(labels)).subplots()
    intervals, style = np.stack([means - lows, highs - means]), {"ecolor": "black", "elinewidth": 1.2, "capsize": 3}
    drawn = axes.barh(range(len(labels)), means, 0.62, color=CYCLE[0], alpha=0.85, xerr=intervals, error_kw=style)
    axes.bar_label(drawn, fmt=lambda mean: f"{mean:.2f}".replace("-", "−"), padding=6)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.margins(x=0.12)
    axes.set_xlim(left=0 if means.min() >= 0 else None, right=0 if means.max() <= 0 else None)
    axes.set_yticks(range(len(labels)), labels)
    axes.invert_yaxis()
    axes.grid(False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(label)
    return axes.figure


def grouped_bars(values, groups, label):
    """Show {name: one value per group, NaN for none} as bars side by side in named groups. Returns the figure."""
    fig = Picture(WIDTH, 3.6)
    axes = fig.subplots()
    width = 0.84 / len(values)
    for number, (name, heights) in enumerate(values.items()):
        places = np.arange(len(groups)) + (number - (len(values) - 1) / 2) * width
        axes.bar(places, heights, 0.9 * width, label=name, color=COLOURS.get(name, CYCLE[number % len(CYCLE)]))
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_xticks(range(len(groups)), groups)
    axes.set_ylabel(label)
    axes.tick_params(axis="x", length=0)
    axes.grid(False, axis="x")
    fig.legend(loc="outside upper center", ncols=min(len(values), 4))
    return fig


def heatmap(matrix, row_names, column_names, label, row_label=None, column_label=None):
    """Show a matrix (rows, columns) as coloured cells with their values, NaN as an empty one. Returns the figure."""
    matrix = np.asarray(matrix, dtype=float)
    fig = Picture(WIDTH, 1.5 + 0.38 * len(row_names))
    axes = fig.subplots()
    image = axes.imshow(np.ma.masked_invalid(matrix), cmap="cividis", aspect="auto")
    for (row, column), value in np.ndenumerate(matrix):
        if np.isfinite(value):
            colour = "white" if image.norm(value) < 0.5 else "black"
            text = f"{value:.1f}".replace("-", "−")
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=9)
    axes.set_xticks(range(len(column_names)), column_names)
    axes.set_yticks(range(len(row_names)), row_names)
    axes.set(xlabel=column_label, ylabel=row_label)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.grid(False)
    fig.colorbar(image, ax=axes, label=label, pad=0.02).outline.set_visible(False)
    return fig


def trade_off(points, x_label, y_label, title):
    """Show named points {name: (x, y, low, high, colour)}, low to high an interval of y, over a logarithmic x axis.

    Each name stands on a side of its point where it covers nothing, if there is such a side. Returns the figure.
    """
    fig = Picture(WIDTH, 5.4)
    axes = fig.subplots()
    for x, y, low, high, colour in points.values():
        axes.errorbar(x, y, [[y - low], [high - y]], fmt="o", color=colour, elinewidth=1)
    axes.set(xscale="log", xlabel=x_label, ylabel=y_label, title=title)
    axes.margins(x=0.15, y=0.08)
    axes.xaxis.set_major_formatter("{x:g}")
    fig.draw_without_rendering()  # from here on positions in pixels are known
    centres = [axes.transData.transform(point[:2]) for point in points.values()]
    taken = [Bbox.from_bounds(x - 6, y - 6, 12, 12) for x, y in centres]
    for number, (name, (x, y, _, _, colour)) in enumerate(points.items()):
        others = taken[:number] + taken[number + 1 :]
        text = axes.annotate(name, (x, y), textcoords="offset points", xytext=(0, 0), fontsize=9, color=colour)
        for right, up, alignment in LABEL_SIDES:
            text.set(position=(right, up), horizontalalignment=alignment)
            box = text.get_window_extent()
            if not any(box.overlaps(other) for other in others):
                break
        taken.append(box)
    return fig
