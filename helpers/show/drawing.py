"""Drawings of architectures: boxes with tensor shapes, arrows between them, and skip connections."""

import itertools
import textwrap

from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from helpers.show.figures import Picture, colour_of

LETTER, LINE = 0.078, 0.17  # inches of a letter and of a line of text at font size 9
PADDING = 0.1  # inches between a text and the edge of its box
GAP = 0.3  # inches between boxes, where the arrows are
OVERLAP = 0.35  # part of a box's width that the box below or above it begins earlier than its end


def blocks(steps, skips=(), letters=14, shapes=None):
    """Draw an architecture from left to right and return the figure.

    Args:
        steps: a list whose entries are boxes, (label, shape), such as ("conv 4×4, stride 2", "32 × 14 × 14"), or lists
            of boxes that stand above each other. Arrows run from each entry to the next: one per box where both have as
            many, else from every box to every box.
        skips: skip connections, (from, to) or (from, to, text), as positions in `steps`. What lies between is drawn a
            level lower: nested skips make the U of a U-Net. letters: of a line of text, about.
        shapes: {position: text} on the arrow that leaves the entry at this position: what is handed on, and its shape.

    A box has the colour of the source that its label names.
    """
    columns = [step if isinstance(step, list) else [step] for step in steps]
    pairs = [(skip[0], skip[1]) for skip in skips]
    levels = [sum(first < number < last for first, last in pairs) for number in range(len(columns))]
    columns, shapes = [[_texts(letters, *box) for box in column] for column in columns], shapes or {}
    height = max("\n".join(box).count("\n") + 1 for column in columns for box in column) * LINE + 2 * PADDING

    places, left = [], 0.0  # per column: its boxes as (left, bottom, width), in inches
    for number, column in enumerate(columns):
        width = max(len(line) for box in column for line in "\n".join(box).split("\n")) * LETTER + 2 * PADDING
        middle = -levels[number] * (height + 1.6 * GAP)
        bottoms = [middle + (len(column) / 2 - 1 - row) * (height + 0.5 * GAP) for row in range(len(column))]
        places.append([(left, bottom, width) for bottom in bottoms])
        level_below = number + 1 < len(columns) and levels[number + 1] != levels[number]
        said = max((len(line) for line in shapes.get(number, "").split("\n")), default=0) * LETTER
        left += width * (1 - OVERLAP) if level_below else width + max(GAP, said + 0.2)

    corners = [corner for column in places for x, y, width in column for corner in ((x, y), (x + width, y + height))]
    (x_low, x_high), (y_low, y_high) = ((min(values) - 0.1, max(values) + 0.1) for values in zip(*corners, strict=True))
    fig = Picture(x_high - x_low, y_high - y_low, layout=None)
    axes = fig.add_axes((0, 0, 1, 1), xlim=(x_low, x_high), ylim=(y_low, y_high))
    axes.set_axis_off()
    for column, boxes in zip(columns, places, strict=True):
        for (label, shape), (x, y, width) in zip(column, boxes, strict=True):
            _draw_box(axes, label, shape, x, y, width, height)
    for number in range(len(columns) - 1):
        levels_down = levels[number + 1] - levels[number]
        pairing = zip if len(places[number]) == len(places[number + 1]) else itertools.product
        for start, end in pairing(places[number], places[number + 1]):
            _draw_arrow(axes, *_ends(start, end, height, levels_down))
        if number in shapes:  # above an arrow to the right, beside one that leads down or up
            (x, y), (next_x, next_y) = _ends(places[number][0], places[number + 1][0], height, levels_down)
            shift, alignment = ((0.06, 0), ("left", "center")) if levels_down else ((0, 0.04), ("center", "bottom"))
            middle = (x + next_x) / 2 + shift[0], (y + next_y) / 2 + shift[1]
            axes.text(*middle, shapes[number], ha=alignment[0], va=alignment[1], fontsize=9, color="#333333")
    for first, last, *text in skips:
        start, end = places[first][0], places[last][0]
        left, right = _ends(start, end, height, 0)
        _draw_arrow(axes, left, right, linestyle="--")
        if text:  # on the arrow, or above the boxes where the arrow is too short for it
            above = left[1] if len(text[0]) * LETTER < right[0] - left[0] else start[1] + height
            axes.text((left[0] + right[0]) / 2, above + 0.04, text[0], ha="center", va="bottom", fontsize=9)
    return fig


def _texts(letters, *texts):
    """Return texts of a box, its label and its shape, wrapped."""
    return tuple(
        "\n".join(textwrap.fill(line, letters, break_long_words=False) for line in text.split("\n")) for text in texts
    )


def _draw_box(axes, label, shape, x, y, width, height):
    colour = colour_of(label, "#56616B")
    style = "round,pad=0,rounding_size=0.06"
    axes.add_patch(FancyBboxPatch((x, y), width, height, boxstyle=style, facecolor=colour, alpha=0.12, linewidth=0))
    axes.add_patch(FancyBboxPatch((x, y), width, height, boxstyle=style, facecolor="none", edgecolor=colour))
    middle = x + width / 2
    split = y + height / 2 + (shape.count("\n") - label.count("\n")) * LINE / 2  # between the label and the shape
    axes.text(middle, split, label, ha="center", va="bottom", fontsize=9, fontweight="bold", linespacing=1.15)
    axes.text(middle, split, shape, ha="center", va="top", fontsize=9, color="#333333", linespacing=1.15)


def _ends(start, end, height, levels_down):
    """Return the two ends of an arrow: from side to side on one level, else straight down or up."""
    (x, y, width), (next_x, next_y, _) = start, end
    if not levels_down:
        return (x + width, y + height / 2), (next_x, next_y + height / 2)
    across = (next_x + x + width) / 2
    return ((across, y), (across, next_y + height)) if levels_down > 0 else ((across, y + height), (across, next_y))


def _draw_arrow(axes, start, end, linestyle="-"):
    style = {"arrowstyle": "-|>", "mutation_scale": 10, "shrinkA": 0, "shrinkB": 0}
    axes.add_patch(FancyArrowPatch(start, end, color="#333333", linewidth=1.1, linestyle=linestyle, **style))
