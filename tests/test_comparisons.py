"""Bars stand where their group is and as high as their value; points lie where they say."""

import numpy as np
import pytest

from helpers.show.comparisons import grouped_bars, scatter


def test_bars_of_a_group_stand_around_it_in_order():
    fig = grouped_bars({"a": [1.0, -2.0], "b": [3.0, 4.0], "c": [0.5, np.nan]}, ["first", "second"], "NSDR in dB")
    axes = fig.axes[0]
    middles = np.array([[bar.get_x() + bar.get_width() / 2 for bar in bars] for bars in axes.containers])
    assert (np.diff(middles, axis=0) > 0).all() and np.allclose(middles.mean(axis=0), [0, 1])
    assert middles.max() < 1.5 and middles[:, 0].max() < 0.5  # no bar in another group
    assert [[bar.get_height() for bar in bars] for bars in axes.containers[:2]] == [[1.0, -2.0], [3.0, 4.0]]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["first", "second"]
    assert [text.get_text() for text in fig.legends[0].get_texts()] == ["a", "b", "c"]
    assert axes.get_ylabel() == "NSDR in dB" and fig._repr_png_()[:4] == b"\x89PNG"


def test_bars_that_do_not_fit_their_groups_are_refused():
    with pytest.raises(ValueError, match="'a' has 1 values for 2 groups"):
        grouped_bars({"a": [1.0]}, ["first", "second"], "dB")


def test_points_lie_where_they_say_and_are_named():
    fig = scatter({"fast": (1, 5.0), "slow": (100, 7.0)}, "seconds", "dB", names=True, log=True)
    axes = fig.axes[0]
    assert [tuple(drawn.get_offsets()[0]) for drawn in axes.collections] == [(1, 5), (100, 7)]
    assert [text.get_text() for text in axes.texts] == ["fast", "slow"] and axes.get_xscale() == "log"
    assert axes.texts[1].xy == (100, 7) and fig._repr_png_()[:4] == b"\x89PNG"


def test_groups_of_points_have_a_legend():
    axes = scatter({"a": [(0, 1), (2, 3)], "b": [(4, 5)]}, "x", "y").axes[0]
    np.testing.assert_array_equal(axes.collections[0].get_offsets(), [[0, 1], [2, 3]])
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["a", "b"]
