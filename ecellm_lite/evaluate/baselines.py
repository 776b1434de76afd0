"""Answers that look at no row's text: what a metric is worth without any model.

PM's F1 or QPR's NDCG can be high for an answer that is always the same; a model is worth what it has above that.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ecellm_lite.answers.extraction import NONE, Extraction
from ecellm_lite.answers.ranking import Ranking
from ecellm_lite.evaluate.labelled import Labelled
from ecellm_lite.evaluate.metrics.kinds import measure
from ecellm_lite.evaluate.metrics.measured import Pair
from ecellm_lite.tasks.task import Question


@dataclass(frozen=True, slots=True)
class Constant:
    """An answer string for any row of a task; `name` says in words what it always answers."""

    name: str
    text: Callable[[Question], str]

    def pairs(self, rows: Sequence[Labelled]) -> list[Pair]:
        """Return the rows' gold strings beside this answer, as metrics.kinds.measure takes them."""
        return [Pair(row.gold, self.text(row.task.question(row.row)), row.labels) for row in rows]


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
    """Return the constants that a task has, the commonest answer first.

    An extraction finds nothing, for each attribute; a ranking keeps the order given; free text is empty, or the
    commonest text; all others are every answer that occurs.
    """
    space = training[0].task.question(training[0].row).space
    if isinstance(space, Extraction):
        return [Constant("None for each attribute", _nothing)]
    if isinstance(space, Ranking):
        return [Constant("the order given", _as_given)]
    ordered = [text for text, _ in Counter(row.gold for row in training).most_common()]
    if space.type == "text":
        return [_always(ordered[0]), _always("")]
    return [_always(text) for text in ordered]


def _always(text: str) -> Constant:
    return Constant(f"always {text!r}" if text else "the empty text", lambda _: text)


def _nothing(question: Question) -> str:
    assert isinstance(question.space, Extraction)
    return json.dumps(
        [
            {"attribute": attribute.lower(), "value": NONE.value, "source": NONE.source}
            for attribute in question.space.attributes
        ]
    )


def _as_given(question: Question) -> str:
    assert isinstance(question.space, Ranking)
    return ",".join(question.space.letters)
