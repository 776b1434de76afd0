"""The metrics of each task."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from ecellm_lite.answers.extraction import Extraction
from ecellm_lite.answers.several_labels import SeveralLabels
from ecellm_lite.answers.space import Space
from ecellm_lite.errors import UsageError
from ecellm_lite.evaluate.metrics.classes import measure_classes
from ecellm_lite.evaluate.metrics.hits import measure_hits
from ecellm_lite.evaluate.metrics.labels import measure_labels
from ecellm_lite.evaluate.metrics.measured import Measured, Pair
from ecellm_lite.evaluate.metrics.predicates import measure_predicates
from ecellm_lite.evaluate.metrics.ranking import measure_rankings
from ecellm_lite.evaluate.metrics.texts import measure_texts, rouge_scorer
from ecellm_lite.evaluate.metrics.triples import measure_triples
from ecellm_lite.evaluate.paper import METRICS
from ecellm_lite.tasks.task import Task

_KINDS: Mapping[str, Callable[[Sequence[Pair]], Measured]] = {
    "AVE": measure_triples,
    "PRP": partial(measure_classes, primary="macro_f1"),
    "PM": measure_predicates,
    "SA": partial(measure_classes, primary="macro_f1"),
    "SR": measure_hits,
    "MPC": partial(measure_classes, primary="accuracy"),
    "PSI": measure_predicates,
    "QPR": measure_rankings,
    "AP": measure_predicates,
    "AG": measure_texts,
}


def check_measurable(task: Task) -> None:
    """Raise UsageError for a task that cannot be measured, before its answers are computed."""
    if task.abbreviation not in _KINDS and not isinstance(_own_space(task), SeveralLabels | Extraction):
        message = f"There is no metric for {task.name}"
        step = "give one of the ten, or a task of your own that answers with labels or extracts attributes"
        raise UsageError(message, step=step)
    if task.abbreviation == "AG":
        rouge_scorer()


def measure(task: Task, pairs: Sequence[Pair]) -> Measured:
    """Return the task's metrics for pairs of a gold answer and an answer. There must be at least one pair.

    The gold answers must be valid for the task. An unreadable answer counts as no answer. Raises UsageError if the task
    is none of the ten and has neither several labels nor attributes, or if a package that its metrics need is missing.
    """
    check_measurable(task)
    space = _own_space(task)
    if isinstance(space, SeveralLabels):
        return measure_labels(pairs, space)
    return measure_triples(pairs) if isinstance(space, Extraction) else _KINDS[task.abbreviation](pairs)


def primary_metric(task: Task) -> str:
    """Return the name of the task's main metric."""
    own = "f1" if isinstance(_own_space(task), Extraction) else "micro_f1"
    return METRICS.get(task.abbreviation, own)


def _own_space(task: Task) -> Space | None:
    """Return the answer space of a user's own task, else None."""
    return task.question(task.example()).space if task.source else None
