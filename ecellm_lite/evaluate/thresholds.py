"""Chooses, for each answer, the least probability above which answers are precise enough to need no review.

A threshold is chosen on labelled rows, with one more wrong answer counted than there were: with few rows a precision is
mostly luck, and 95% needs at least 19 right answers. The precision is measured on held-out rows: each half of the rows
is judged by the thresholds that were chosen on the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ecellm_lite.answers.answer import Answer
from ecellm_lite.answers.decoding import Outcome
from ecellm_lite.answers.space import Space
from ecellm_lite.evaluate.cases import Case
from ecellm_lite.models.automatic import EVERY, Automatic, likeliest

_ROUNDING = 1e-9  # 1 - 0.9 is a little less than 0.1


@dataclass(frozen=True, slots=True)
class Judged:
    """A labelled row's answer: its key, its calibrated probability, and whether it is right.

    A row that is not `usual` looks unlike the others, and is never automatic.
    """

    key: str
    probability: float
    correct: bool
    usual: bool = True


def judged(space: Space, answer: Answer, case: Case, calibration: tuple[float, float], least_coverage: float) -> Judged:
    """Return an uncalibrated answer's judgement, with its probability under a calibration's temperature and bias."""
    outcome = Outcome(
        value=answer.value,
        text=answer.text or "",
        tokens=(),
        probability=answer.probability,
        probabilities=answer.probabilities,
        confidence=answer.confidence,
        coverage=answer.coverage,
    )
    probability = space.calibrated(outcome, *calibration).probability
    assert probability is not None  # a case has one
    return Judged(likeliest(answer), probability, case.correct, case.coverage >= least_coverage)


def automatic(rows: Sequence[Judged], precision: float, *, by_answer: bool, seed: int = 0) -> Automatic:
    """Return the thresholds for a precision below 1, and what they reach on held-out rows.

    `by_answer`: each answer has its own threshold, for rows that have the same answers to choose from.
    """
    keys = sorted({row.key for row in rows}) if by_answer else [EVERY]
    halves = np.arange(len(rows)) % 2
    np.random.default_rng(seed).shuffle(halves)
    chosen: list[Judged] = []
    for half in (0, 1):
        others = [row for row, place in zip(rows, halves, strict=True) if place != half]
        thresholds = _thresholds(others, precision, keys)
        own = [row for row, place in zip(rows, halves, strict=True) if place == half]
        chosen += [row for row in own if _reaches(row, thresholds)]
    right = sum(row.correct for row in chosen)
    return Automatic(
        precision=precision,
        thresholds=_thresholds(rows, precision, keys),
        rows=len(rows),
        share=len(chosen) / len(rows) if rows else 0.0,
        reached=right / len(chosen) if chosen else None,
    )


def least_threshold(rows: Sequence[Judged], precision: float) -> float | None:
    """Return the least probability from which `precision` of the rows are right, with one more counted as wrong.

    None if no probability reaches the precision.
    """
    least: float | None = None
    wrong = 0
    ordered = sorted((row for row in rows if row.usual), key=lambda row: -row.probability)
    for count, row in enumerate(ordered, 1):
        wrong += not row.correct
        tied = count < len(ordered) and ordered[count].probability == row.probability
        if not tied and wrong + 1 <= (1 - precision) * (count + 1) + _ROUNDING:
            least = row.probability
    return least


def _thresholds(rows: Sequence[Judged], precision: float, keys: Sequence[str]) -> dict[str, float | None]:
    return {key: least_threshold([row for row in rows if key in (EVERY, row.key)], precision) for key in keys}


def _reaches(row: Judged, thresholds: Mapping[str, float | None]) -> bool:
    threshold = thresholds[EVERY] if EVERY in thresholds else thresholds.get(row.key)
    return row.usual and threshold is not None and row.probability >= threshold
