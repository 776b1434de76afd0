"""Metrics of tasks whose answer is a level on a scale: the mean error, in levels, and two correlations.

A position is a level's number, counted from 1 for the lowest level. The model's position is a mean of the levels'
numbers, weighted by their probabilities. If levels 3 and 4 have 50% each, the model's position is 3.5. `mae` is the
mean distance from the gold position, in levels; 0 is best. `pearson` is the linear correlation of the two positions.
`spearman` is the correlation of their ranks. Both correlations are 0 if all gold positions are equal, or if all of the
model's positions are equal. `accuracy` is the share of rows whose likeliest level is the gold one.

In the metrics `all` (see measured.py), a row without an answer is wrong: its error is the largest that is possible for
its gold position. In the metrics `paper`, such a row is left out. The correlations never include such a row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ecellm_lite.answers.score import Score
from ecellm_lite.errors import InputError
from ecellm_lite.evaluate.metrics.measured import Measured, Metric, Numbers, Pair, ratio

# The first columns: errors, errors of the answered rows, right levels, answered rows, rows.
_ERROR, _ANSWERED_ERROR, _RIGHT, _ANSWERED, _ROWS = range(5)

# Then two groups of five columns, of the positions and of their ranks: x, y, xx, yy, xy.
_POSITIONS, _RANKS = 5, 10


def measure_scores(pairs: Sequence[Pair], space: Score) -> Measured:
    """Compare scores with the gold scores. Needs scipy.

    An answer's score is the mean position of the levels, weighted by their probabilities. An answer without
    probabilities counts as the level in its text.
    """
    from scipy.stats import rankdata

    gold = np.array([space.parse(pair.gold) for pair in pairs], dtype=np.float64)
    positions = [_position(space, pair) for pair in pairs]
    answered = np.array([position is not None for position in positions])
    answers = np.array([position or 0.0 for position in positions])
    errors = np.where(answered, np.abs(answers - gold), np.maximum(gold - 1, len(space.levels) - gold))
    right = [pair.text == pair.gold for pair in pairs]
    products: Numbers = np.zeros((len(pairs), 10))
    if answered.any():
        x, y = gold[answered], answers[answered]
        ranks = [np.asarray(rankdata(side), dtype=np.float64) / len(x) for side in (x, y)]
        products[answered] = np.hstack([_products(x, y), _products(*ranks)])
    columns = np.column_stack([errors, errors * answered, right, answered, np.ones(len(pairs)), products])
    return Measured(
        columns=columns,
        primary="mae",
        paper=_metrics(_ANSWERED_ERROR, _ANSWERED),
        all=_metrics(_ERROR, _ROWS),
        scores=errors.tolist(),
        answered=answered.tolist(),
    )


def _position(space: Score, pair: Pair) -> float | None:
    if pair.position is not None:
        return pair.position
    try:
        return None if pair.text is None else float(space.parse(pair.text))
    except InputError:
        return None


def _products(x: Numbers, y: Numbers) -> Numbers:
    """Subtract the medians from x and y. Then return x, y, x * x, y * y and x * y for each row.

    If all values of x are equal, each x is then exactly 0. The same holds for y.
    """
    x, y = x - np.median(x), y - np.median(y)
    return np.column_stack([x, y, x * x, y * y, x * y])


def _metrics(error: int, rows: int) -> Mapping[str, Metric]:
    return {
        "mae": lambda sums: ratio(sums[..., error], sums[..., rows]),
        "accuracy": lambda sums: ratio(sums[..., _RIGHT], sums[..., rows]),
        "spearman": _correlation(_RANKS),
        "pearson": _correlation(_POSITIONS),
    }


def _correlation(first: int) -> Callable[[Numbers], Numbers]:
    def metric(sums: Numbers) -> Numbers:
        count = sums[..., _ANSWERED]
        x, y, xx, yy, xy = (sums[..., first + place] for place in range(5))
        covariance = xy - ratio(x * y, count)
        variances = (xx - ratio(x * x, count)) * (yy - ratio(y * y, count))
        return ratio(covariance, np.sqrt(np.maximum(variances, 0.0)))

    return metric
