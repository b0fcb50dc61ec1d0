"""Figures show what they are given: values, positions, colours and names, with axes and units."""

import math

import matplotlib
import numpy as np
import pytest
import torch

from helpers import show
from helpers.show import figures


@pytest.fixture(autouse=True)
def style():
    with matplotlib.rc_context():
        show.set_style()
        yield


def texts(labels):
    return [text.get_text() for text in labels]


# ---- images and spectrograms -------------------------------------------------------------------------------------


def test_an_image_grid_holds_every_image_in_its_place_unscaled():
    images = torch.rand(3, 1, 28, 28, generator=torch.Generator().manual_seed(0)) / 2
    axes = show.image_grid({"mixture": images, "true digit": 1 - images[:, 0]}, ["a", "b", "c"]).axes[0]
    canvas = np.asarray(axes.images[0].get_array())
    step = 28 + figures.GAP
    np.testing.assert_array_equal(canvas[:28, step : step + 28], images[1, 0])
    np.testing.assert_array_equal(canvas[step : step + 28, 2 * step :], 1 - images[2, 0])
    assert (canvas[:, 28:step] == 1).all() and axes.images[0].get_clim() == (0, 1)
    assert texts(axes.get_yticklabels()) == ["mixture", "true digit"] and texts(axes.get_xticklabels()) == [*"abc"]
    colours = [figures.COLOURS["mixture"], figures.COLOURS["digit"]]
    assert [text.get_color() for text in axes.get_yticklabels()] == colours


@pytest.mark.parametrize("count", [1, 10, 16])
def test_an_image_grid_fits_the_notebook(count):
    fig = show.image_grid({"estimated garment": torch.zeros(count, 28, 28)})
    assert 1 < fig.get_figwidth() <= show.figures.WIDTH and fig._repr_png_()[:4] == b"\x89PNG"


def test_bins_and_frames_lie_where_their_hertz_and_seconds_are():
    values = torch.arange(65 * 11.0).view(65, 11)
    pictures = {"a": (values, 128, 32), "b": (torch.zeros(33, 21), 64, 16)}
    fig = show.spectrogram_grid(pictures, 8000, "level in dB", (-5, 9), start=2.0)
    first, second, bar = fig.axes
    for axes, n_fft, hop, frames in ((first, 128, 32, 11), (second, 64, 16, 21)):
        left, right, bottom, top = axes.images[0].get_extent()
        assert left + hop / 8000 / 2 == pytest.approx(2.0)  # the middle of the first frame
        assert right - hop / 8000 / 2 == pytest.approx(2.0 + (frames - 1) * hop / 8000)
        assert bottom + 4 / n_fft == pytest.approx(0) and top - 4 / n_fft == pytest.approx(4.0)
        assert axes.images[0].get_clim() == (-5, 9) and axes.get_ylim() == (0, 4)
    np.testing.assert_array_equal(first.images[0].get_array(), values)
    assert first.images[0].origin == "lower" and first.get_xlim() == second.get_xlim()
    assert (fig.get_supxlabel(), fig.get_supylabel(), bar.get_ylabel()) == (
        "time in s", "frequency in kHz", "level in dB",
    )  # fmt: skip


def test_spectrograms_fill_rows_and_leave_the_rest_empty():
    picture = (torch.zeros(9, 5), 16, 4)
    fig = show.spectrogram_grid(dict.fromkeys("abcd", picture), 8000, "share", (0, 1), highest=2000)
    visible = [axes for axes in fig.axes[:-1] if axes.get_visible()]
    assert [axes.get_title(loc="left") for axes in visible] == list("abcd") and visible[0].get_ylim() == (0, 2)
    assert len(fig._repr_png_()) < 100_000


@pytest.mark.parametrize("values", [torch.zeros(1, 9, 5), torch.zeros(8, 5)])
def test_spectrograms_that_do_not_fit_their_window_are_refused(values):
    with pytest.raises(ValueError, match="'a'.*9 bins"):
        show.spectrogram_grid({"a": (values, 16, 4)}, 8000, "level", (0, 1))


# ---- curves and comparisons --------------------------------------------------------------------------------------


def test_curves_keep_their_colours_and_are_named_once():
    x = np.arange(4)
    plots = {"left": ("Hz", "dB", {"a": (x, x), "b": (x, 2 * x)}), "right": ("s", "dB", {"b": (x, -x), "bass": (x, x)})}
    fig = show.line_plots(plots, marks={2: "here"})
    left, right = fig.axes
    assert left.get_xlabel() == "Hz" and right.get_xlabel() == "s" and left.get_title(loc="left") == "left"
    assert left.lines[1].get_color() == right.lines[0].get_color() != left.lines[0].get_color()
    assert right.lines[1].get_color() == figures.COLOURS["bass"]
    np.testing.assert_array_equal(right.lines[0].get_ydata(), -x)
    assert [text.get_text().strip() for text in left.texts] == ["here"] and left.lines[2].get_xdata()[0] == 2
    (legend,) = fig.legends
    assert texts(legend.get_texts()) == ["a", "b", "bass"]


def test_bars_start_at_zero_and_carry_intervals_and_values():
    nan = float("nan")
    fig = show.bars(["VAE", "U-Net", "published"], [20, 30, 35], [19, 29, nan], [21, 31.5, nan], "PSNR in dB")
    axes = fig.axes[0]
    assert [bar.get_width() for bar in axes.patches] == [20, 30, 35] and axes.get_xlabel() == "PSNR in dB"
    assert axes.get_xlim()[0] == 0 and axes.get_xlim()[1] > 35 and axes.yaxis_inverted()
    assert texts(axes.texts) == ["20.00", "30.00", "35.00"] and [text.xy[0] for text in axes.texts] == [21, 31.5, 35]
    ends = [segment[:, 0].tolist() for segment in axes.collections[0].get_segments() if np.size(segment)]
    assert ends == [[19, 21], [29, 31.5]]
    below = show.bars(["a", "b"], [-3, 4], [-4, 3], [-2, 5], "SDR in dB").axes[0]
    assert below.get_xlim()[0] < -4 and below.texts[0].get_text() == "−3.00"


def test_bars_of_a_group_stand_around_it_in_order():
    fig = show.grouped_bars({"a": [1.0, -2.0], "b": [3.0, 4.0], "c": [0.5, np.nan]}, ["first", "second"], "NSDR in dB")
    axes = fig.axes[0]
    middles = np.array([[bar.get_x() + bar.get_width() / 2 for bar in bars] for bars in axes.containers])
    assert (np.diff(middles, axis=0) > 0).all() and np.allclose(middles.mean(axis=0), [0, 1])
    assert middles.max() < 1.5 and middles[:, 0].max() < 0.5  # no bar in another group
    assert [[bar.get_height() for bar in bars] for bars in axes.containers[:2]] == [[1.0, -2.0], [3.0, 4.0]]
    assert texts(axes.get_xticklabels()) == ["first", "second"] and axes.get_ylabel() == "NSDR in dB"
    assert texts(fig.legends[0].get_texts()) == ["a", "b", "c"]


def test_a_heatmap_prints_its_values_and_leaves_empty_cells_empty():
    matrix = [[1.25, -20.0, math.nan], [30.0, 2.0, 3.0]]
    axes, bar = show.heatmap(matrix, ["0", "1"], ["bag", "boot", "coat"], "PSNR in dB", "digit", "garment").axes
    shown = {text.get_position(): text.get_text() for text in axes.texts}
    assert shown == {(0, 0): "1.2", (1, 0): "−20.0", (0, 1): "30.0", (1, 1): "2.0", (2, 1): "3.0"}
    assert texts(axes.get_xticklabels()) == ["bag", "boot", "coat"]
    assert (axes.get_ylabel(), axes.get_xlabel(), bar.get_ylabel()) == ("digit", "garment", "PSNR in dB")
    colours = {text.get_text(): text.get_color() for text in axes.texts}
    assert (colours["−20.0"], colours["30.0"]) == ("white", "black")


def test_names_beside_points_do_not_cover_each_other():
    near = {"one method": (1.0, 5.0), "another method": (1.02, 5.05), "a third one": (0.98, 4.95), "far": (20.0, 9.0)}
    points = {name: (x, y, y - 0.3, y + 0.3, "black") for name, (x, y) in near.items()}
    fig = show.trade_off(points, "seconds", "dB", "Quality against cost")
    axes = fig.axes[0]
    assert {text.get_text(): text.xy for text in axes.texts} == near and axes.get_xscale() == "log"
    fig.draw_without_rendering()
    boxes = [text.get_window_extent() for text in axes.texts]
    assert not any(a.overlaps(b) for number, a in enumerate(boxes) for b in boxes[:number])


def test_small_multiples_share_their_axes_and_mark_what_is_kept():
    def history(values, best):
        return {"epoch": [1, 2, 3], "train": {"sdr": values}, "validation": {"sdr": values[::-1]}, "best_epoch": best}

    fig = show.small_multiples({"a": history([1, 2, 3], 2), "b": history([0, 5, 9], 3)}, "sdr", "SDR (dB)")
    first, second = fig.axes
    assert [axes.get_title(loc="left") for axes in fig.axes] == ["a", "b"]
    assert list(first.lines[0].get_ydata()) == [1, 2, 3] and list(second.lines[1].get_ydata()) == [9, 5, 0]
    assert first.lines[2].get_xdata()[0] == 2 and first.get_ylim() == second.get_ylim()
    assert texts(fig.legends[0].get_texts()) == ["train", "validation"]


# ---- drawings of architectures -----------------------------------------------------------------------------------

UNET = [
    ("mixture", "1 × 512 × 128"), ("conv 5×5, stride 2", "16 × 256 × 64"), ("conv 5×5, stride 2", "32 × 128 × 32"),
    ("transposed conv", "16 × 256 × 64"), [("mask of vocals", "512 × 128"), ("mask of accompaniment", "512 × 128")],
]  # fmt: skip


def drawn(fig):
    """Return the texts, the boxes as (left, bottom, right, top), and the arrows' (start, end) of a drawing."""
    (axes,) = fig.axes
    boxes = [patch for patch in axes.patches if hasattr(patch, "get_boxstyle") and patch.get_linewidth()]
    arrows = [patch._posA_posB for patch in axes.patches if hasattr(patch, "_posA_posB")]
    corners = [
        (box.get_x(), box.get_y(), box.get_x() + box.get_width(), box.get_y() + box.get_height()) for box in boxes
    ]
    return [text for text in axes.texts if text.get_text()], corners, arrows


def test_a_drawing_has_every_label_and_shape_inside_its_box():
    fig = show.blocks(UNET)
    words, boxes, arrows = drawn(fig)
    said = [text.get_text().replace("\n", " ") for text in words]
    assert said == [text for step in UNET for box in (step if isinstance(step, list) else [step]) for text in box]
    assert len(boxes) == 6 and len(arrows) == 3 + 2  # the last one leads to two boxes
    fig.draw_without_rendering()
    to_inches = fig.axes[0].transData.inverted()
    for number, text in enumerate(words):
        extent = to_inches.transform_bbox(text.get_window_extent())
        left, bottom, right, top = boxes[number // 2]
        assert left < extent.x0 and extent.x1 < right and bottom < extent.y0 and extent.y1 < top, text.get_text()


def test_skips_of_a_drawing_are_level_and_make_a_u():
    words, boxes, arrows = drawn(show.blocks(UNET, skips=[(1, 3, "concatenate")]))
    assert words[-1].get_text() == "concatenate"
    (start, end) = arrows[-1]
    assert start[1] == end[1] and start[0] == boxes[1][2] and end[0] == boxes[3][0]
    assert boxes[2][3] < boxes[1][1] == boxes[3][1]  # what it skips lies below
    for one, other in zip(boxes, boxes[1:], strict=False):
        assert one[2] <= other[0] or one[1] > other[3] or one[3] < other[1]  # no box covers another


def test_what_is_handed_on_stands_above_its_arrow_between_the_boxes():
    fig = show.blocks(UNET, skips=[(1, 3)], shapes={0: "s, 512 bins", 1: "h"})
    words, boxes, _ = drawn(fig)
    fig.draw_without_rendering()
    to_inches = fig.axes[0].transData.inverted()
    first, second = (to_inches.transform_bbox(text.get_window_extent()) for text in words[-2:])
    assert [text.get_text() for text in words[-2:]] == ["s, 512 bins", "h"]
    assert boxes[0][2] < first.x0 and first.x1 < boxes[1][0] and boxes[2][3] < second.y0 < boxes[1][1]
