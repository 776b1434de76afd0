"""Chooses the probability below which the first model of a cascade passes a row on to the last model.

For this, the first and the last model must have answered the same rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from decimal import ROUND_FLOOR, Decimal
from itertools import pairwise
from typing import Any

import numpy as np

from ecellm_lite.answers.answer import Answer
from ecellm_lite.cascade import is_unsure
from ecellm_lite.errors import InputError
from ecellm_lite.evaluate.cases import case_of
from ecellm_lite.evaluate.labelled import Labelled

# Fewer rows say little: with 100 rows, an agreement of 0.97 is known to within 0.04.
LEAST_ROWS = 100


@dataclass(frozen=True, slots=True)
class ComparedRow:
    """A row that a cascade's first and last model were asked about.

    `probability`: the probability of the first model's answer. None if the row goes to the last model in any case.
    `agree`: whether both answers are the same. Also true if only one model has an answer, which the cascade then gives.
    `first_right`: whether the first model's answer is right.
    `last_right`: whether the cascade's answer is right if the row goes to the last model.
    """

    probability: float | None
    agree: bool
    first_right: bool
    last_right: bool


@dataclass(frozen=True, slots=True)
class Point:
    """The results of a cascade with the threshold `escalate_below`.

    If the first model's answer has a lower probability, the row is passed on to the last model.

    - `escalated`: the share of rows that are passed on to the last model.
    - `agreement`: the share of rows whose answer equals the last model's answer.
    - `accuracy`: the share of rows whose answer is right.
    """

    escalate_below: float
    escalated: float
    agreement: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class CascadeResult:
    """The results with the chosen threshold (`chosen`), and with every possible threshold (`curve`).

    `held_out`: the share of rows for which the cascade and the last model agree. It is measured on one half of the
      rows, with the threshold chosen on the other half.
    `first_accuracy`: the share of rows that the first model answers right.
    `last_accuracy`: the share of rows that are answered right if all go to the last model.
    """

    rows: int
    chosen: Point
    held_out: float
    first_accuracy: float
    last_accuracy: float
    curve: tuple[Point, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the result as plain data."""
        return asdict(self)


def compared_rows(rows: Sequence[Labelled], first: Sequence[Answer], last: Sequence[Answer]) -> list[ComparedRow]:
    """Compare the answers of a cascade's first and last model to labelled rows.

    A row that is too long for one model counts, because the cascade gives the other model's answer. Rows that the first
    model cannot answer for another reason are left out. Raises InputError if the task's answers have no probability.
    """
    compared: list[ComparedRow] = []
    for row, *answers in zip(rows, first, last, strict=True):
        early, late = answers
        escalated = is_unsure(early, 0.0)
        if early.error and not escalated:
            continue
        if not early.error and early.probability is None:
            message = f"{row.task.name} has answers of type {early.type}, without a probability"
            raise InputError(message, step="choose another task: the last model answers all rows of this one")
        first_right, last_right = (
            not answer.error and case_of(row.space, answer, row.gold, row.labels).correct for answer in answers
        )
        compared.append(
            ComparedRow(
                None if escalated else early.probability,
                bool(early.error or late.error) or early.text == late.text,
                first_right,
                first_right if late.error else last_right,
            )
        )
    return compared


def cascade_result(rows: Sequence[ComparedRow], agreement: float, *, seed: int = 0) -> CascadeResult:
    """Choose the threshold of a cascade. Rows with a lower probability go to the last model.

    The result has one point for each possible threshold. A point's agreement is the share of rows whose answer equals
    the last model's answer. Among the points with at least the wanted `agreement`, the one that sends the fewest rows
    to the last model is chosen. Raises InputError for fewer than 100 rows.
    """
    if len(rows) < LEAST_ROWS:
        raise InputError(f"Only {len(rows)} rows were answered", step=f"give at least {LEAST_ROWS} rows")
    halves = np.random.default_rng(seed).permutation(len(rows)) % 2
    agreed = 0.0
    for half in (0, 1):
        own = [row for row, place in zip(rows, halves, strict=True) if place == half]
        others = [row for row, place in zip(rows, halves, strict=True) if place != half]
        least = _chosen(curve(others), agreement).escalate_below
        agreed += sum(row.agree or _escalated(row, least) for row in own)
    points = curve(rows)
    return CascadeResult(
        rows=len(rows),
        chosen=_chosen(points, agreement),
        held_out=agreed / len(rows),
        first_accuracy=sum(row.first_right for row in rows) / len(rows),
        last_accuracy=sum(row.last_right for row in rows) / len(rows),
        curve=points,
    )


def curve(rows: Sequence[ComparedRow]) -> tuple[Point, ...]:
    """Return a cascade's results for 0, 1 and each value of `escalate_below` in between that makes a difference.

    All values between two neighboring probabilities send the same rows to the last model. So only one of them is used:
    the value with the fewest decimals.
    """
    probabilities = sorted({row.probability for row in rows if row.probability is not None and row.probability < 1.0})
    levels = [0.0, *(_shortest(*pair) for pair in pairwise(probabilities)), 1.0]
    return tuple(_point(rows, level) for level in levels)


def _shortest(above: float, most: float) -> float:
    """Return the number with the fewest decimals that is larger than `above`, and at most `most`.

    >>> _shortest(0.9991, 0.999423)
    0.9994
    """
    rounded = (float(Decimal(most).quantize(Decimal(1).scaleb(-places), ROUND_FLOOR)) for places in range(1, 18))
    return next((level for level in rounded if level > above), most)


def _point(rows: Sequence[ComparedRow], level: float) -> Point:
    escalated = [_escalated(row, level) for row in rows]
    count = len(rows)
    return Point(
        level,
        sum(escalated) / count,
        sum(passed or row.agree for row, passed in zip(rows, escalated, strict=True)) / count,
        sum(row.last_right if passed else row.first_right for row, passed in zip(rows, escalated, strict=True)) / count,
    )


def _escalated(row: ComparedRow, level: float) -> bool:
    return row.probability is None or row.probability < level


def _chosen(points: Sequence[Point], agreement: float) -> Point:
    """Return the first point (a threshold and its results) with at least this agreement, or else the last one."""
    return next((point for point in points if point.agreement >= agreement), points[-1])
