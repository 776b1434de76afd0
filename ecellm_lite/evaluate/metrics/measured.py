"""Rows as numbers that add up, so that a metric of any resample of the rows is a function of sums."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ecellm_lite.evaluate.results import Confusion, Score

Numbers = NDArray[np.float64]

# From sums (…, columns) to a metric (…).
Metric = Callable[[Numbers], Numbers]


@dataclass(frozen=True, slots=True)
class Pair:
    """A row's gold answer string and the string that it was answered with, None where there was no answer.

    `labels` are the relevance of a ranking's products (metrics/ranking.py).
    """

    gold: str
    text: str | None
    labels: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """Pairs as rows of numbers (rows, columns), and the metrics of their sums.

    `paper` are the metrics as the authors' script takes them, `all` those with every row in the denominator; both have
    the `primary` one. `scores` are what each row adds to it by itself, and `answered` whether it had an answer that
    could be read.
    """

    columns: Numbers
    primary: str
    paper: Mapping[str, Metric]
    all: Mapping[str, Metric]
    scores: Sequence[Score]
    answered: Sequence[bool]
    confusion: Confusion | None = None
    notes: tuple[str, ...] = field(default=())

    def values(self) -> tuple[dict[str, float], dict[str, float]]:
        """Return the metrics of all rows, in the paper's way and with every row in the denominator."""
        sums = self.columns.sum(axis=0)
        return tuple({name: float(metric(sums)) for name, metric in group.items()} for group in (self.paper, self.all))  # type: ignore[return-value]


def ratio(part: Numbers, whole: Numbers) -> Numbers:
    """Return part / whole, and 0 where the whole is 0: a metric over nothing is nothing."""
    return np.divide(part, whole, out=np.zeros_like(part, dtype=np.float64), where=whole != 0)


def harmonic(precision: Numbers, recall: Numbers) -> Numbers:
    """Return F1, and 0 where both are 0."""
    return ratio(2 * precision * recall, precision + recall)


def mean(columns: Numbers) -> Numbers:
    """Return the mean of what the first column adds, over the rows that the second one counts."""
    return ratio(columns[..., 0], columns[..., 1])
