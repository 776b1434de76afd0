"""Computes a task's metrics from a few numbers of each row.

The numbers of all rows are added up, and each metric is a function of the sums. To compute a metric over only some of
the rows, add up only the numbers of these rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ecellm_lite.evaluate.results import Confusion, LabelResult, Score

Numbers = NDArray[np.float64]

# The metrics of which less is better.
LOWER_IS_BETTER = frozenset(("mae",))

# From sums (…, columns) to a metric (…).
Metric = Callable[[Numbers], Numbers]


@dataclass(frozen=True, slots=True)
class Pair:
    """A row's gold answer string, and the model's answer string or None.

    `labels`: the relevance of each product of a ranking (see metrics/ranking.py).
    `typed`: how many of the gold answer's typed values, such as numbers or dates, the model got right, and how many
      the gold answer has (see metrics/typed.py).
    `position`: if the answer is a score, the score: a position on the scale, such as 3.5 (see metrics/scores.py).
    """

    gold: str
    text: str | None
    labels: tuple[str, ...] | None = None
    typed: tuple[int, int] = (0, 0)
    position: float | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """Measured rows, with functions that compute the metrics from them.

    `columns`: the numbers of each row, shape (rows, columns). A metric is computed from the sums of the columns.
    `more`: further sums over all rows, which some metrics also need. The primary metric does not need them. There may
      be thousands of sums, so the numbers of single rows are not kept.
    `primary`: the name of the main metric, which is in both `paper` and `all`.
    `paper`: the metrics as the authors' script computes them. Most of them leave out the rows that have no answer.
    `all`: the metrics over all rows.
    `scores`: what each row contributes to the main metric.
    `answered`: for each row, whether it had a readable answer.
    `labels`: the results of each label, for tasks that report them.
    """

    columns: Numbers
    primary: str
    paper: Mapping[str, Metric]
    all: Mapping[str, Metric]
    scores: Sequence[Score]
    answered: Sequence[bool]
    confusion: Confusion | None = None
    labels: Sequence[LabelResult] | None = None
    notes: tuple[str, ...] = field(default=())
    more: Sequence[float] | Numbers = ()

    def values(self) -> tuple[dict[str, float], dict[str, float]]:
        """Compute the metrics. Return a dict {name: value} for the functions in `paper`, and one for those in `all`."""
        sums = np.concatenate([self.columns.sum(axis=0), self.more])
        return tuple({name: float(metric(sums)) for name, metric in group.items()} for group in (self.paper, self.all))  # type: ignore[return-value]


def ratio(part: Numbers, whole: Numbers) -> Numbers:
    """Return part / whole, or 0 where the whole is 0."""
    return np.divide(part, whole, out=np.zeros_like(part, dtype=np.float64), where=whole != 0)


def harmonic(precision: Numbers, recall: Numbers) -> Numbers:
    """Return the harmonic mean of precision and recall (F1). It is 0 where both are 0."""
    return ratio(2 * precision * recall, precision + recall)


def mean(columns: Numbers) -> Numbers:
    """Divide column 0, the sum of a metric's values, by column 1, the number of rows."""
    return ratio(columns[..., 0], columns[..., 1])
