"""Figures about sounds: pictures with true axes, curves side by side, and methods by their quality and cost."""

import matplotlib
import torch
from matplotlib.transforms import Bbox

from helpers.show.figures import CYCLE, WIDTH, Picture
from helpers.show.players import INK

# Where a point's name may stand, the best side first: points to the right and upwards, and which end is there.
SIDES = [(7, 3, "left"), (7, -11, "left"), (-7, 3, "right"), (-7, -11, "right"), (0, 9, "center"), (0, -17, "center")]
SHADES = matplotlib.colormaps["magma"].resampled(64)  # more would only make the notebook heavier


def panels(pictures, sample_rate, label, limits, highest=None, start=0.0, columns=3, title=None):
    """Show time-frequency pictures side by side, with the same axes and the same colours for the same value.

    Args:
        pictures: {title: (values (bins, frames), n_fft, hop_length)}; each may have an STFT of its own. Frame t is
            centred on sample t * hop_length, bin k on k * sample_rate / n_fft.
        label, limits: what the values are, with their unit, and the two that get the darkest and the brightest colour.
        highest: the frequency in Hz up to which is shown; None: half the sample rate.
        start: the time in seconds of the first frame. columns: panels in a row.

    Returns the figure; raises ValueError for values of another shape, or that do not fit n_fft.
    """
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    fig = Picture(WIDTH, 0.7 + (0.3 if title else 0) + 2.5 * rows)
    axes = fig.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for place, (name, (values, n_fft, hop_length)) in zip(axes.flat, pictures.items(), strict=False):
        values = torch.as_tensor(values).detach().cpu().float()
        if values.dim() != 2 or len(values) != n_fft // 2 + 1:
            raise ValueError(f"'{name}': {tuple(values.shape)} is not ({n_fft // 2 + 1} bins, frames)")
        width, height = hop_length / sample_rate, sample_rate / n_fft / 1000  # of a value, in s and kHz
        edges = (start - width / 2, start + (values.shape[1] - 0.5) * width, -height / 2, (len(values) - 0.5) * height)
        drawn = place.imshow(
            values.numpy(), cmap=SHADES, vmin=limits[0], vmax=limits[1], origin="lower", aspect="auto", extent=edges,
            interpolation="antialiased",
        )  # fmt: skip
        place.set_title(name, fontsize=10)
        place.set_ylim(0, (highest or sample_rate / 2) / 1000)
        place.set_xlim(start, start + (values.shape[1] - 1) * width)
        place.grid(False)
    for place in axes.flat[len(pictures) :]:
        place.set_visible(False)
    for column in range(columns):
        axes[(len(pictures) - 1 - column) // columns, column].tick_params(labelbottom=True)
    fig.supylabel("frequency in kHz", fontsize=10)
    fig.supxlabel("time in s", fontsize=10)
    fig.colorbar(drawn, ax=axes, label=label, pad=0.015).outline.set_visible(False)
    if title:
        fig.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    return fig


def lines(plots, marks=None, legend=None):
    """Show curves in plots side by side; a name has one colour in all of them, a source's its own; one legend for all.

    Args:
        plots: {title: (x label, y label, {curve: (x values, y values)})}.
        marks: {x: text} for dotted vertical lines, in every plot.
        legend: what the curves' names are, above them.

    Returns the figure.
    """
    fig = Picture(WIDTH, 3.2)
    names = list(dict.fromkeys(name for _, _, curves in plots.values() for name in curves))
    drawn = {}
    for place, (title, (x_label, y_label, curves)) in zip(
        fig.subplots(1, len(plots), squeeze=False)[0], plots.items(), strict=True
    ):
        for name, (x, y) in curves.items():
            (drawn[name],) = place.plot(x, y, color=INK.get(name, CYCLE[names.index(name)]), linewidth=1.4)
        for x, text in (marks or {}).items():
            place.axvline(x, color="black", linewidth=0.9, linestyle=":")
            place.text(x, 1, f" {text}", transform=place.get_xaxis_transform(), va="top", fontsize=9)
        place.set(xlabel=x_label, ylabel=y_label)
        place.set_title(title)
        place.margins(x=0)
    fig.legend(drawn.values(), drawn, title=legend, loc="outside right upper")
    return fig


def trade_off(points, x_label, y_label, title=None):
    """Show named points {name: (x, y, low, high, colour)}, low to high an interval of y, over a logarithmic x axis.

    Each name stands on a side of its point where it covers no other one, if there is such a side. Returns the figure.
    """
    figure = Picture(WIDTH, 5.4)
    axes = figure.subplots()
    for x, y, low, high, colour in points.values():
        axes.errorbar(x, y, [[y - low], [high - y]], fmt="o", color=colour, elinewidth=1)
    axes.set(xscale="log", xlabel=x_label, ylabel=y_label)
    axes.margins(x=0.15, y=0.08)
    axes.xaxis.set_major_formatter("{x:g}")
    if title:
        axes.set_title(title)
    figure.draw_without_rendering()  # from here on the places on the page are known
    spots = [axes.transData.transform(point[:2]) for point in points.values()]
    taken = [Bbox.from_bounds(x - 6, y - 6, 12, 12) for x, y in spots]
    for number, (name, (x, y, _, _, colour)) in enumerate(points.items()):
        others = taken[:number] + taken[number + 1 :]
        text = axes.annotate(name, (x, y), textcoords="offset points", xytext=(0, 0), fontsize=9, color=colour)
        for right, up, side in SIDES:
            text.set(position=(right, up), horizontalalignment=side)
            box = text.get_window_extent()
            if not any(box.overlaps(other) for other in others):
                break
        taken.append(box)
    return figure
