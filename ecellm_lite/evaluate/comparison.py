"""Compares two evaluations: what changed, how certain the change is, and which rows changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ecellm_lite.answers.answer import ModelName
from ecellm_lite.errors import InputError
from ecellm_lite.evaluate.bootstrap import paired_interval
from ecellm_lite.evaluate.metrics.classes import class_table, letter_of
from ecellm_lite.evaluate.metrics.measured import LOWER_IS_BETTER, Metric, Numbers, mean
from ecellm_lite.evaluate.metrics.predicates import f1_of_yes, word_of, word_table
from ecellm_lite.evaluate.metrics.triples import f1_of
from ecellm_lite.evaluate.results import Interval, Results, RowResult, Score

NAMED = 5  # rows that are listed as better, and as worse


@dataclass(frozen=True, slots=True)
class ChangedRows:
    """The number of rows whose result changed, and the ids of the first few.

    A row without an id is named by its line number.
    """

    count: int
    rows: list[str | int]


@dataclass(frozen=True, slots=True)
class TaskComparison:
    """A task's primary metric in both evaluations, over their common rows, and the 95% interval of the difference."""

    abbreviation: str
    metric: str
    rows: int
    left_out: int
    before: float
    after: float
    difference: float
    interval: Interval
    better: ChangedRows
    worse: ChangedRows


@dataclass(frozen=True, slots=True)
class Comparison:
    """What changed between two evaluations. `warnings` say why the comparison may be misleading."""

    before: ModelName
    after: ModelName
    tasks: dict[str, TaskComparison]
    warnings: list[str]

    def as_dict(self) -> dict[str, Any]:
        """Return the comparison as plain data."""
        return asdict(self)


def compare(before: Results, after: Results) -> Comparison:
    """Compare two evaluations on the rows that both have.

    Rows are the same if they have the same task, id, line and gold answer. Raises InputError if the evaluations have no
    row in common.
    """
    warnings = []
    hashes = [{file.sha256 for file in side.data} for side in (before, after)]
    if hashes[0] != hashes[1]:
        warnings.append("The files of rows differ: only rows with the same id, line and gold answer are compared.")
    if before.envelope != after.envelope:
        warnings.append(f"The envelopes differ: {before.envelope}, then {after.envelope}.")
    if before.settings != after.settings:
        warnings.append("The settings differ.")
    tasks = {}
    for name in before.tasks:
        if name not in after.tasks:
            warnings.append(f"Only the first evaluation has the task {name}.")
            continue
        old, new = before.tasks[name], after.tasks[name]
        if old.primary != new.primary:
            warnings.append(f"The primary metric of {name} differs: {old.primary}, then {new.primary}.")
            continue
        pairs = _common(old.records, new.records)
        if not pairs:
            warnings.append(f"The evaluations have no row of {name} in common.")
            continue
        left_out = len(old.records) + len(new.records) - 2 * len(pairs)
        tasks[name] = _compared(old.abbreviation, old.primary, pairs, left_out)
    warnings += [f"Only the second evaluation has the task {name}." for name in after.tasks if name not in before.tasks]
    if not tasks:
        raise InputError("The two files of results have no row in common", step="evaluate the same rows twice")
    return Comparison(before.model, after.model, tasks, warnings)


Pairs = Sequence[tuple[RowResult, RowResult]]


def _common(before: Sequence[RowResult], after: Sequence[RowResult]) -> list[tuple[RowResult, RowResult]]:
    records = {(record.id, record.line, record.gold): record for record in before}
    pairs = [(records.get((record.id, record.line, record.gold)), record) for record in after]
    return [(one, other) for one, other in pairs if one is not None]


def _compared(abbreviation: str, primary: str, pairs: Pairs, left_out: int) -> TaskComparison:
    old, new, metric = _columns(primary, pairs)
    values = [float(metric(side.sum(axis=0))) for side in (old, new)]
    sign = -1.0 if primary in LOWER_IS_BETTER else 1.0
    gains = [sign * (_share(after.score) - _share(before.score)) for before, after in pairs]
    return TaskComparison(
        abbreviation=abbreviation,
        metric=primary,
        rows=len(pairs),
        left_out=left_out,
        before=values[0],
        after=values[1],
        difference=values[1] - values[0],
        interval=paired_interval(old, new, metric),
        better=_flipped([record for (record, _), gain in zip(pairs, gains, strict=True) if gain > 0]),
        worse=_flipped([record for (record, _), gain in zip(pairs, gains, strict=True) if gain < 0]),
    )


def _columns(primary: str, pairs: Pairs) -> tuple[Numbers, Numbers, Metric]:
    """Return the first and the second evaluation's numbers, and the function that computes the metric `primary`.

    Each evaluation's numbers have the shape (rows, columns). The function takes the sums of the columns.
    """
    gold = [record.gold for record, _ in pairs]
    if len({isinstance(record.score, list) for pair in pairs for record in pair}) > 1:
        raise InputError(f"The scores of {primary} are of two kinds, so one of the files of results was edited.")
    sides = [[record.text for record in side] for side in zip(*pairs, strict=True)]
    if primary == "macro_f1":
        _check_gold(gold, letter_of)
        letters = [letter_of(text) for texts in (gold, *sides) for text in texts]
        labels = sorted({letter for letter in letters if letter})
        before, after = (class_table(gold, texts, labels) for texts in sides)
        return before.columns, after.columns, lambda sums: before.macro_f1(before.counts(sums))
    scores = np.array([[record.score for record in pair] for pair in pairs], dtype=np.float64)
    if scores.ndim == 3:  # triples
        return scores[:, 0], scores[:, 1], f1_of
    if primary == "f1":
        _check_gold(gold, word_of)
        before, after = (word_table(gold, texts) for texts in sides)
        return before.columns, after.columns, f1_of_yes(before)
    ones = np.ones(len(pairs))
    return np.column_stack([scores[:, 0], ones]), np.column_stack([scores[:, 1], ones]), mean


def _check_gold(gold: Sequence[str], read: Callable[[str], str | None]) -> None:
    for text in gold:
        if read(text) is None:
            raise InputError(f"The gold answer {text[:40]!r} is not one of its task, so the file was edited.")


def _share(score: Score) -> float:
    """Return a row's score as one number. If the score is three counts (hits, answered, gold), return their F1."""
    if isinstance(score, list):
        hits, answered, gold = score
        return 2 * hits / (answered + gold) if answered + gold else 1.0
    return score


def _flipped(records: Sequence[RowResult]) -> ChangedRows:
    return ChangedRows(len(records), [record.line if record.id is None else record.id for record in records[:NAMED]])
