"""Baselines: answers that ignore a row's text. They show how high a metric can be without a model.

Even the same answer for all rows can get a high F1 (PM) or NDCG (QPR). A good model must exceed this value.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ecellm_lite.answers.space import Space
from ecellm_lite.evaluate.labelled import Labelled
from ecellm_lite.evaluate.metrics.kinds import measure
from ecellm_lite.evaluate.metrics.measured import LOWER_IS_BETTER, Pair


@dataclass(frozen=True, slots=True)
class Constant:
    """A baseline that gives every row the same answer.

    `golds`: the gold answers of the training rows, the most frequent first.
    `place`: the index of the baseline's answer among the answers that `Space.constants` returns.
    """

    golds: tuple[str, ...]
    place: int

    def text(self, space: Space) -> str:
        """Return the baseline's answer for a row with this answer space."""
        return space.constants(self.golds)[self.place]

    def pairs(self, rows: Sequence[Labelled]) -> list[Pair]:
        """Return a pair for each row: its gold answer, and this baseline's answer."""
        return [Pair(row.gold, self.text(row.space), row.labels) for row in rows]


def majority(training: Sequence[Labelled]) -> Constant:
    """Return the baseline that answers every row with the most frequent gold answer of `training`.

    `training` must have at least one row. For extractions and rankings, the baseline does not depend on the gold
    answers: an extraction has no values, and a ranking keeps the row's own order.
    """
    return constants(training)[0]


def best_constant(training: Sequence[Labelled]) -> Constant:
    """Return the constant answer whose main metric is best on the rows of one task. There must be at least one row."""

    def primary(constant: Constant) -> float:
        measured = measure(training[0].task, constant.pairs(training))
        value = measured.values()[1][measured.primary]
        return -value if measured.primary in LOWER_IS_BETTER else value

    return max(constants(training), key=primary)


def constants(training: Sequence[Labelled]) -> list[Constant]:
    """Return all baselines that give every row of a task the same answer. `majority` returns the first of them."""
    golds = tuple(text for text, _ in Counter(row.gold for row in training).most_common())
    return [Constant(golds, place) for place in range(len(training[0].space.constants(golds)))]
