"""The metrics of each task."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from ecellm_lite.answers.several_labels import SeveralLabels
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
    if task.abbreviation not in _KINDS and _several(task) is None:
        message = f"There is no metric for {task.name}"
        raise UsageError(message, step="give one of the ten, or a task of your own that answers with labels")
    if task.abbreviation == "AG":
        rouge_scorer()


def measure(task: Task, pairs: Sequence[Pair]) -> Measured:
    """Return the task's metrics for pairs of a gold answer and an answer. There must be at least one pair.

    The gold answers must be valid for the task. An unreadable answer counts as no answer. Raises UsageError if the task
    is neither one of the ten nor answered with several labels, or if a package that its metrics need is not installed.
    """
    check_measurable(task)
    space = _several(task)
    return measure_labels(pairs, space) if space else _KINDS[task.abbreviation](pairs)


def primary_metric(task: Task) -> str:
    """Return the name of the task's main metric."""
    return METRICS.get(task.abbreviation, "micro_f1")


def _several(task: Task) -> SeveralLabels | None:
    """Return the answer space of a user's own task that answers with several labels; None for other tasks."""
    space = task.question(task.example()).space if task.source else None
    return space if isinstance(space, SeveralLabels) else None
