"""Confidence intervals of a metric over rows, by the bootstrap (Efron, 1979).

The metric is computed on 1,000 resamples. If the evaluation has n rows, each resample is n of these rows, drawn at
random with replacement. The interval contains the middle 95% of the results.

A resample is stored as the number of times that each row was drawn. A metric needs only sums over rows (see
metrics/measured.py), so a few matrix products compute it for all resamples.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ecellm_lite.evaluate.metrics.measured import Metric, Numbers
from ecellm_lite.evaluate.results import Interval

RESAMPLES = 1000
SEED = 2402  # fixed, so that the same rows give the same interval
_ENDS = (0.025, 0.975)
_AT_ONCE = 1 << 22  # counts in memory: 32 MiB


def interval(columns: Numbers, metric: Metric) -> Interval:
    """Return a metric's 95% interval.

    `columns`: the numbers of each row, shape (rows, columns). `metric`: computes the metric from the columns' sums.
    """
    return _ends(np.concatenate([metric(counts @ columns) for counts in _resamples(len(columns))]))


def paired_interval(before: Numbers, after: Numbers, metric: Metric) -> Interval:
    """Return the 95% interval of a metric's gain from `before` to `after`.

    `before` and `after` have one line of numbers for each row, for the same rows in the same order. Each resample draws
    the same rows from both. So the interval is narrower than for two independent measurements.
    """
    gains = [metric(counts @ after) - metric(counts @ before) for counts in _resamples(len(before))]
    return _ends(np.concatenate(gains))


def _resamples(rows: int) -> Iterator[Numbers]:
    """Draw `rows` rows with replacement, RESAMPLES times, and count how often each row was drawn.

    Yields the counts in batches of shape (resamples, rows).
    """
    generator = np.random.default_rng(SEED)
    remaining = RESAMPLES
    while remaining:
        size = min(remaining, max(1, _AT_ONCE // rows))
        # Drawn row by row and counted: faster than a multinomial, which draws a binomial for each row.
        drawn = generator.integers(rows, size=(size, rows)) + np.arange(size)[:, None] * rows
        yield np.bincount(drawn.ravel(), minlength=size * rows).reshape(size, rows).astype(np.float64)
        remaining -= size


def _ends(values: Numbers) -> Interval:
    low, high = np.quantile(values, _ENDS)
    return Interval(float(low), float(high))
