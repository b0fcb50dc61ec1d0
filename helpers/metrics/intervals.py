"""Means over clips or songs with a bootstrap interval that resamples what generalises: items, songs or singers."""

import numpy as np
from scipy import stats

from helpers.runtime import UserError

RESAMPLES = 2000  # bootstrap samples, each of as many items (or clusters) as there are
CELLS = 1_000_000  # resampled values held at a time


def mean_and_interval(values, weights=None, clusters=None):
    """Return `(mean, low, high)`: a mean over items and its 95 % percentile bootstrap interval (Efron 1979).

    Args:
        values: one finite number per item.
        weights: one positive number per item, such as its length, as in GNSDR, GSIR and GSAR of the literature on
            MIR-1K (Hsu and Jang 2010). None: all alike.
        clusters: one label per item, such as its singer. Whole clusters are resampled: the clips of one singer resemble
            each other, an interval over clips would be too narrow for other singers. None: each item by itself.

    The interval says how far other items (songs, singers) would move the mean, not how far another training would.
    Raises ValueError for unequal lengths or fewer than two items or clusters, UserError for a value that is not finite.
    """
    values = np.asarray(values, dtype=np.float64)
    weights = np.ones_like(values) if weights is None else np.asarray(weights, dtype=np.float64)
    labels = np.arange(values.size) if clusters is None else np.unique(clusters, return_inverse=True)[1]
    if not np.isfinite(values).all():
        raise UserError(f"value {np.flatnonzero(~np.isfinite(values))[0]} of the scores is not finite: leave it out")
    sums, totals = np.bincount(labels, weights * values), np.bincount(labels, weights)  # one number per cluster each
    if len(totals) < 2:
        raise ValueError(f"an interval needs at least two items or clusters, got {len(totals)}")

    def mean(sums, totals, axis=-1):
        return sums.sum(axis) / totals.sum(axis)

    low, high = stats.bootstrap(
        (sums, totals), mean, paired=True, vectorized=True, method="percentile", n_resamples=RESAMPLES,
        batch=max(1, CELLS // len(totals)), random_state=np.random.default_rng(0),
    ).confidence_interval  # fmt: skip
    return float(mean(sums, totals)), float(low), float(high)
