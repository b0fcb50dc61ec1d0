"""Pictures have true axes and shared colours; curves keep their colours from plot to plot."""

import matplotlib
import numpy as np
import pytest
import torch

from helpers.show import figures as show
from helpers.show.sound_pictures import lines, panels, trade_off


@pytest.fixture(autouse=True)
def style():
    with matplotlib.rc_context():
        show.set_style()
        yield


def shown(fig):
    assert fig._repr_png_()[:4] == b"\x89PNG"
    return [axes for axes in fig.axes if axes.get_visible() and axes.images]


def test_bins_and_frames_lie_where_their_hertz_and_seconds_are():
    values = torch.arange(65 * 11.0).view(65, 11)
    fig = panels({"a": (values, 128, 32), "b": (torch.zeros(33, 21), 64, 16)}, 8000, "level in dB", (-5, 9), start=2.0)
    first, second = shown(fig)
    for axes, n_fft, hop, frames in ((first, 128, 32, 11), (second, 64, 16, 21)):
        left, right, bottom, top = axes.images[0].get_extent()
        assert left + hop / 8000 / 2 == pytest.approx(2.0)  # the middle of the first frame
        assert right - hop / 8000 / 2 == pytest.approx(2.0 + (frames - 1) * hop / 8000)
        assert bottom + 4 / n_fft == pytest.approx(0) and top - 4 / n_fft == pytest.approx(4.0)
        assert axes.images[0].get_clim() == (-5, 9) and axes.get_ylim() == (0, 4)
    np.testing.assert_array_equal(first.images[0].get_array(), values)
    assert first.images[0].origin == "lower" and first.get_xlim() == second.get_xlim()
    assert fig.get_supxlabel() == "time in s" and fig.get_supylabel() == "frequency in kHz"


def test_panels_fill_rows_and_leave_the_rest_empty():
    picture = (torch.zeros(9, 5), 16, 4)
    fig = panels(dict.fromkeys("abcd", picture), 8000, "level", (0, 1), highest=2000, columns=3, title="All")
    assert [axes.get_title(loc="left") for axes in shown(fig)] == list("abcd")
    assert shown(fig)[0].get_ylim() == (0, 2)


@pytest.mark.parametrize("values", [torch.zeros(1, 9, 5), torch.zeros(8, 5)])
def test_values_that_do_not_fit_are_refused(values):
    with pytest.raises(ValueError, match="'a'.*9 bins"):
        panels({"a": (values, 16, 4)}, 8000, "level", (0, 1))


def test_curves_keep_their_colours_and_are_named_once():
    x = np.arange(4)
    plots = {"left": ("Hz", "dB", {"a": (x, x), "b": (x, 2 * x)}), "right": ("s", "dB", {"b": (x, -x)})}
    fig = lines(plots, marks={2: "here"}, legend="window")
    left, right = fig.axes
    assert left.get_xlabel() == "Hz" and right.get_xlabel() == "s" and left.get_title(loc="left") == "left"
    assert left.lines[1].get_color() == right.lines[0].get_color() != left.lines[0].get_color()
    np.testing.assert_array_equal(right.lines[0].get_ydata(), -x)
    assert [text.get_text().strip() for text in left.texts] == ["here"] and left.lines[2].get_xdata()[0] == 2
    (legend,) = fig.legends
    assert [text.get_text() for text in legend.get_texts()] == ["a", "b"]
    assert fig._repr_png_()[:4] == b"\x89PNG"


def test_names_beside_points_do_not_cover_each_other():
    near = {"one method": (1.0, 5.0), "another method": (1.02, 5.05), "a third one": (0.98, 4.95), "far": (20.0, 9.0)}
    points = {name: (x, y, y - 0.3, y + 0.3, "black") for name, (x, y) in near.items()}
    fig = trade_off(points, "seconds", "dB", "Quality against cost")
    axes = fig.axes[0]
    assert {text.get_text(): text.xy for text in axes.texts} == near
    assert axes.get_xscale() == "log" and axes.get_title(loc="left") == "Quality against cost"
    fig.draw_without_rendering()
    boxes = [text.get_window_extent() for text in axes.texts]
    assert not any(a.overlaps(b) for number, a in enumerate(boxes) for b in boxes[:number])
    assert all(axes.get_tightbbox().contains(*corner) for box in boxes for corner in box.corners())
