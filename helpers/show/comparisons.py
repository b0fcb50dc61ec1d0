"""Charts that compare: bars in groups, one group a song, and points with two measures each."""

import numpy as np

from helpers.show.figures import CYCLE, WIDTH, Picture
from helpers.show.players import INK


def grouped_bars(values, groups, label):
    """Show bars side by side in groups, each name in one colour.

    values: {name: one value a group, NaN for none}; groups: what the groups are called; label: what the values are, in
    which unit. Returns the figure; raises ValueError where there is not one value a group.
    """
    for name, heights in values.items():
        if len(heights) != len(groups):
            raise ValueError(f"'{name}' has {len(heights)} values for {len(groups)} groups")
    fig = Picture(WIDTH, 3.6)
    axes = fig.subplots()
    width = 0.84 / len(values)
    for number, (name, heights) in enumerate(values.items()):
        places = np.arange(len(groups)) + (number - (len(values) - 1) / 2) * width
        axes.bar(places, heights, 0.9 * width, label=name, color=INK.get(name, CYCLE[number % len(CYCLE)]))
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_xticks(range(len(groups)), groups)
    axes.set_ylabel(label)
    axes.tick_params(axis="x", length=0)
    axes.grid(False, axis="x")
    fig.legend(loc="outside upper center", ncols=min(len(values), 4))
    return fig


def scatter(points, x_label, y_label, names=False, log=False):
    """Show points (x, y), each group in a colour of its own.

    Args:
        points: {group: [(x, y), ...]}, or with `names` {name: (x, y)}, each then labelled where it lies.
        x_label, y_label: what the axes are, with their units. log: a logarithmic x axis.

    Returns the figure.
    """
    fig = Picture(WIDTH if names else 0.6 * WIDTH, 4.2 if names else 3.4)
    axes = fig.subplots()
    for number, (name, found) in enumerate(points.items()):
        x, y = np.asarray([found] if names else found, dtype=float).reshape(-1, 2).T
        axes.scatter(x, y, s=28, alpha=0.85, label=name, color=CYCLE[number % len(CYCLE)])
        if names:
            axes.annotate(name, (x[0], y[0]), (6, 3), textcoords="offset points", fontsize=9)
    if log:
        axes.set_xscale("log")
    axes.margins(x=0.12 if names else 0.05)
    axes.set(xlabel=x_label, ylabel=y_label)
    if len(points) > 1 and not names:
        axes.legend()
    return fig
