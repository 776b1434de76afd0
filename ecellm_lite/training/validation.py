"""Measures a model during its training, from the logits that it gives for the right answers of held-out rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import mean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecellm_lite.training.lessons import Lesson

LEAST_ROWS = 80  # a task with fewer is reported but not part of the score


@dataclass(slots=True)
class _Totals:
    loss: list[float] = field(default_factory=list)
    exact: list[bool] = field(default_factory=list)
    pairs: list[tuple[int, int]] = field(default_factory=list)  # (right choice, likeliest choice)


class Validation:
    """Measures, per task, how likely the right answers are, and how often the right answer is the likeliest one.

    Call `add` for each held-out row, then `result`.
    """

    def __init__(self) -> None:
        self._tasks: dict[str, _Totals] = {}
        self._left_out: dict[str, _Totals] = {}  # of the rows from sources that were left out

    def add(self, lesson: Lesson, logits: NDArray[np.float32]) -> None:
        """Add a held-out row. `logits` has the shape (tokens of the right answer, tokens of the vocabulary)."""
        totals = (self._left_out if lesson.left_out else self._tasks).setdefault(lesson.task, _Totals())
        labels = np.asarray(lesson.tokens[-lesson.answer :])
        peak = logits.max(axis=1)
        whole = peak + np.log(np.exp(logits - peak[:, None]).sum(axis=1))
        totals.loss.append(float((whole - logits[np.arange(len(labels)), labels]).sum()))
        # If each token is the likeliest after the right ones before it, greedy decoding would write this answer.
        totals.exact.append(bool((logits.argmax(axis=1) == labels).all()))
        if lesson.gold >= 0:
            totals.pairs.append((lesson.gold, int(logits[0, np.asarray(lesson.choices)].argmax())))

    def result(self) -> dict[str, Any]:
        """Return {"score", "tasks": {task: {"rows", "loss", "exact", "accuracy", "macro_f1"}}}.

        Rows from sources that were left out of the training are measured separately. Their results are in "left_out",
        in the same form as "tasks".

        The score is the mean of one figure per task, for all tasks in "tasks" and "left_out" that have at least
        LEAST_ROWS rows. The figure is the task's "macro_f1" or, if it has none, "exact" (the fraction of exact
        answers). If no task has enough rows, the score is the negative mean loss.
        """
        groups = (self._tasks, self._left_out)
        tasks, left_out = ({name: _figures(one) for name, one in group.items()} for group in groups)
        figures = [*tasks.values(), *left_out.values()]
        scores = [one.get("macro_f1", one["exact"]) for one in figures if one["rows"] >= LEAST_ROWS]
        score = mean(scores or [-mean(one["loss"] for one in figures)])
        return {"score": round(score, 5), "tasks": tasks, **({"left_out": left_out} if left_out else {})}


def _figures(totals: _Totals) -> dict[str, float]:
    figures = {"rows": len(totals.loss), "loss": mean(totals.loss), "exact": mean(totals.exact)}
    if totals.pairs:
        figures["accuracy"] = mean(right == likeliest for right, likeliest in totals.pairs)
        figures["macro_f1"] = _macro_f1(totals.pairs)
    return {key: round(value, 4) for key, value in figures.items()}


def _macro_f1(pairs: list[tuple[int, int]]) -> float:
    """Return the mean F1 of the choices. Each pair has the index of a row's right choice, and of its likeliest choice.

    A choice that is never right and never the likeliest does not count.
    """
    scores = []
    for choice in {place for pair in pairs for place in pair}:
        both = sum(right == choice == likeliest for right, likeliest in pairs)
        either = sum(right == choice for right, _ in pairs) + sum(likeliest == choice for _, likeliest in pairs)
        scores.append(2 * both / either)
    return mean(scores)
