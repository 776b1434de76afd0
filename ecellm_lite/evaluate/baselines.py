"""Answers that look at no row's text: what a metric is worth without any model.

PM's F1 or QPR's NDCG can be high for an answer that is always the same; a model is worth what it has above that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ecellm_lite.answers.space import Space
from ecellm_lite.evaluate.labelled import Labelled
from ecellm_lite.evaluate.metrics.kinds import measure
from ecellm_lite.evaluate.metrics.measured import Pair


@dataclass(frozen=True, slots=True)
class Constant:
    """The answer to any row of a task by someone who reads none: its space's `constants`, the one at `place`."""

    golds: tuple[str, ...]
    place: int

    def text(self, space: Space) -> str:
        """Return the answer string to a row with this space."""
        return space.constants(self.golds)[self.place]

    def pairs(self, rows: Sequence[Labelled]) -> list[Pair]:
        """Return the rows' gold strings beside this answer, as metrics.kinds.measure takes them."""
        return [Pair(row.gold, self.text(row.space), row.labels) for row in rows]


def majority(training: Sequence[Labelled]) -> Constant:
    """Return the commonest answer of at least one row of a task; of an extraction or a ranking, the one there is."""
    return constants(training)[0]


def best_constant(training: Sequence[Labelled]) -> Constant:
    """Return the constant with the best primary metric on these rows, at least one and all of one task."""

    def worth(constant: Constant) -> float:
        measured = measure(training[0].task, constant.pairs(training))
        return measured.values()[1][measured.primary]

    return max(constants(training), key=worth)


def constants(training: Sequence[Labelled]) -> list[Constant]:
    """Return the constants that a task has, the commonest answer first."""
    golds = tuple(text for text, _ in Counter(row.gold for row in training).most_common())
    return [Constant(golds, place) for place in range(len(training[0].space.constants(golds)))]
