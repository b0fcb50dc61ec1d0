"""Means and their bootstrap intervals against scipy, plain resampling and closed forms."""

import numpy as np
import pytest
from scipy import stats

from helpers.metrics import intervals, mean_and_interval
from helpers.runtime import UserError


def test_of_many_items_it_is_the_normal_interval():
    values = np.random.default_rng(0).exponential(size=2000)
    mean, low, high = mean_and_interval(values)
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert mean == pytest.approx(values.mean())
    assert low == pytest.approx(mean - half, abs=0.1 * half) and high == pytest.approx(mean + half, abs=0.1 * half)


@pytest.fixture(autouse=True)
def many_resamples(monkeypatch):
    monkeypatch.setattr(intervals, "RESAMPLES", 20_000)


def test_skewed_values_have_the_interval_of_scipy():
    values = np.random.default_rng(0).exponential(size=60)
    _, low, high = mean_and_interval(values)
    options = {"confidence_level": 0.95, "n_resamples": 20_000, "method": "percentile"}
    expected = stats.bootstrap((values,), np.mean, rng=np.random.default_rng(2), **options).confidence_interval
    width = expected.high - expected.low
    assert abs(low - expected.low) < 0.03 * width and abs(high - expected.high) < 0.03 * width


def test_weighted_means_are_those_of_the_literature():
    rng = np.random.default_rng(0)
    lengths = rng.uniform(4, 13, 200)
    values = rng.normal(6, 3, 200) + 0.3 * lengths
    mean, low, high = mean_and_interval(values, lengths)
    assert mean == pytest.approx(np.average(values, weights=lengths))
    drawn = np.random.default_rng(1).integers(0, 200, (10_000, 200))
    means = (values * lengths)[drawn].sum(1) / lengths[drawn].sum(1)
    expected = np.quantile(means, [0.025, 0.975])
    assert np.allclose([low, high], expected, atol=0.05 * (expected[1] - expected[0]))


def test_clips_of_one_singer_are_drawn_together():
    rng = np.random.default_rng(0)
    singers = np.repeat([f"singer {number}" for number in range(12)], 40)
    values = np.repeat(rng.normal(size=12), 40) + 0.1 * rng.normal(size=480)
    mean, low, high = mean_and_interval(values, clusters=singers)
    _, low_of_clips, high_of_clips = mean_and_interval(values)
    assert mean == pytest.approx(values.mean()) and high - low > 4 * (high_of_clips - low_of_clips)
    means = np.array([values[singers == singer].mean() for singer in np.unique(singers)])  # equally many clips each
    drawn = np.random.default_rng(1).integers(0, 12, (10_000, 12))
    expected = np.quantile(means[drawn].mean(1), [0.025, 0.975])
    assert np.allclose([low, high], expected, atol=0.05 * (expected[1] - expected[0]))


def test_it_is_seeded_and_shrinks_to_a_constant():
    values = np.random.default_rng(0).normal(size=50)
    assert mean_and_interval(values) == mean_and_interval(values)
    assert mean_and_interval([0.5, 0.5, 0.5]) == (0.5, 0.5, 0.5)


def test_what_has_no_interval_is_refused():
    for values, options in (
        ([], {}), ([1.0], {}), ([1.0, 2.0], {"clusters": ["one", "one"]}),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="at least two"):
            mean_and_interval(values, **options)
    for options in ({"weights": [1.0, 2.0, 3.0]}, {"clusters": ["a"]}):
        with pytest.raises(ValueError):
            mean_and_interval([1.0, 2.0], **options)
    with pytest.raises(UserError, match="value 1"):
        mean_and_interval([1.0, float("nan"), 2.0])
