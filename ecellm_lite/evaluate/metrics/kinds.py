"""The metrics of each task."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from ecellm_lite.errors import UsageError
from ecellm_lite.evaluate.metrics.classes import measure_classes
from ecellm_lite.evaluate.metrics.hits import measure_hits
from ecellm_lite.evaluate.metrics.measured import Measured, Pair
from ecellm_lite.evaluate.metrics.predicates import measure_predicates
from ecellm_lite.evaluate.metrics.ranking import measure_rankings
from ecellm_lite.evaluate.metrics.texts import measure_texts, rouge_scorer
from ecellm_lite.evaluate.metrics.triples import measure_triples
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
    if not task.abbreviation:
        raise UsageError(f"The paper has no metric for {task.name}, a task of your own", step="give one of its ten")
    if task.abbreviation == "AG":
        rouge_scorer()


def measure(task: Task, pairs: Sequence[Pair]) -> Measured:
    """Return the task's metrics for pairs of a gold answer and an answer. There must be at least one pair.

    The gold answers must be valid for the task. An unreadable answer counts as no answer. Raises UsageError if the task
    is not one of the ten, or if a package that its metrics need is not installed.
    """
    check_measurable(task)
    return _KINDS[task.abbreviation](pairs)
