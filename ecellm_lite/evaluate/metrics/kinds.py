"""Chooses the metrics of each task."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from ecellm_lite.answers.choice import Choice
from ecellm_lite.answers.extraction import Extraction
from ecellm_lite.answers.label_set import LabelSet
from ecellm_lite.answers.predicate import Predicate
from ecellm_lite.answers.score import Score
from ecellm_lite.answers.several_labels import SeveralLabels
from ecellm_lite.errors import UsageError
from ecellm_lite.evaluate.metrics.choices import measure_choices
from ecellm_lite.evaluate.metrics.classes import measure_classes
from ecellm_lite.evaluate.metrics.hits import measure_hits
from ecellm_lite.evaluate.metrics.labels import measure_labels
from ecellm_lite.evaluate.metrics.measured import Measured, Pair
from ecellm_lite.evaluate.metrics.predicates import measure_predicates
from ecellm_lite.evaluate.metrics.ranking import measure_rankings
from ecellm_lite.evaluate.metrics.scores import measure_scores
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
    """Raise UsageError if there is no metric for a task. Call this before the task's rows are answered."""
    if task.abbreviation not in _KINDS and _own(task) is None:
        message = f"There is no metric for {task.name}"
        step = "give one of the ten, or a task of your own of type predicate, choice, labels, score or extraction"
        raise UsageError(message, step=step)
    if task.abbreviation == "AG":
        rouge_scorer()


def measure(task: Task, pairs: Sequence[Pair]) -> Measured:
    """Return the task's metrics for pairs of a gold answer and the model's answer. There must be at least one pair.

    The gold answers must be valid for the task. An unreadable answer counts as no answer. Raises UsageError for a
    user's own task whose type has no metric, or if a needed package is not installed.
    """
    check_measurable(task)
    own = _own(task)
    return own.measure(pairs) if own else _KINDS[task.abbreviation](pairs)


def primary_metric(task: Task) -> str:
    """Return the name of the task's main metric."""
    own = _own(task)
    return own.primary if own else METRICS[task.abbreviation]


@dataclass(frozen=True, slots=True)
class _Own:
    """The function that measures a user's own task, and the name of the task's main metric."""

    measure: Callable[[Sequence[Pair]], Measured]
    primary: str


def _own(task: Task) -> _Own | None:
    """Return the metric of a custom task.

    Return None for a custom task whose type of answer has no metric, and for a built-in task.
    """
    space = task.question(task.example()).space if task.source else None
    if isinstance(space, SeveralLabels):
        return _Own(partial(measure_labels, space=space), "micro_f1")
    if isinstance(space, Choice | LabelSet):
        return _Own(partial(measure_choices, space=space), "accuracy")
    if isinstance(space, Score):
        return _Own(partial(measure_scores, space=space), "mae")
    if isinstance(space, Extraction):
        return _Own(measure_triples, "f1")
    return _Own(measure_predicates, "f1") if isinstance(space, Predicate) else None
