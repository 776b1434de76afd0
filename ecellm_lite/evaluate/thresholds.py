"""Chooses thresholds: the lowest probabilities at which answers are right often enough to need no review.

The user gives a target precision: a share of right answers, such as 95%. On few rows, the measured precision is mostly
luck. So a threshold must pass a test. If the true precision above the threshold is below the target, the threshold
passes by chance in at most 5% of cases. The test uses the one-sided 95% lower bound of Clopper and Pearson ("The use of
confidence or fiducial limits", Biometrika 1934).

Each possible answer may have its own threshold. The thresholds then share the 5% (Bonferroni's correction). With two
thresholds, each may pass by chance in at most 2.5% of cases. For a target of 95%, a threshold passes if at least this
many rows are above it:

    thresholds    if none is wrong    if one is wrong
    one           59                  93
    two           72 each             110 each

The precision above the thresholds is measured on held-out rows. Each half of the rows is measured with thresholds that
were chosen on the other half.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ecellm_lite.answers.answer import Answer
from ecellm_lite.answers.decoding import Outcome
from ecellm_lite.answers.space import Space
from ecellm_lite.evaluate.cases import case_of, outcome_of
from ecellm_lite.evaluate.labelled import Labelled
from ecellm_lite.models.automatic import EVERY, Automatic, likeliest

DOUBT = 0.05  # the probability that the lower bound of a precision is too high


@dataclass(frozen=True, slots=True)
class Judged:
    """A labelled row's answer, compared with its gold answer.

    `key`: the answer's most likely option.
    `probability`: the calibrated probability of this option.
    `usual`: false if the answer's coverage is unusually low. Such an answer always needs review.
    """

    key: str
    probability: float
    correct: bool
    usual: bool = True


def judged(
    space: Space, answer: Answer, row: Labelled, correct: Callable[[Space, Outcome], Outcome], least_coverage: float
) -> Judged:
    """Calibrate a row's answer with the function `correct`, and compare it with the gold answer.

    The result's field `usual` is false if the answer's coverage is below `least_coverage`.
    """
    after = correct(space, outcome_of(answer))
    calibrated = replace(
        answer, value=after.value, text=after.text, probability=after.probability, probabilities=after.probabilities
    )
    case = case_of(space, calibrated, row.gold, row.labels)  # another label may hold now, or none
    assert after.probability is not None  # a case has one
    return Judged(likeliest(calibrated), after.probability, case.correct, case.coverage >= least_coverage)


def automatic(rows: Sequence[Judged], precision: float, *, by_answer: bool, seed: int = 0) -> Automatic:
    """Return thresholds for the target `precision`, and the precision that is reached on held-out rows.

    `precision` must be below 1. If `by_answer`, each answer has its own threshold. All rows must then have the same
    possible answers.
    """
    keys = sorted({row.key for row in rows}) if by_answer else [EVERY]
    halves = np.arange(len(rows)) % 2
    np.random.default_rng(seed).shuffle(halves)
    chosen: list[Judged] = []
    for half in (0, 1):
        others = [row for row, place in zip(rows, halves, strict=True) if place != half]
        thresholds = least_thresholds(others, precision, keys)
        own = [row for row, place in zip(rows, halves, strict=True) if place == half]
        chosen += [row for row in own if reaches(row, thresholds)]
    right = sum(row.correct for row in chosen)
    return Automatic(
        precision=precision,
        thresholds=least_thresholds(rows, precision, keys),
        rows=len(rows),
        share=len(chosen) / len(rows) if rows else 0.0,
        reached=right / len(chosen) if chosen else None,
    )


def least_thresholds(rows: Sequence[Judged], precision: float, keys: Sequence[str]) -> dict[str, float | None]:
    """Return the threshold for each key: the lowest probability at which answers need no review.

    `precision`: the share of right answers that must be reached at and above the threshold, such as 0.95.

    A key stands for one answer; the key `EVERY` stands for all answers together. The value is None if no threshold
    passes the statistical test that the beginning of this module describes. The 5% risk that a threshold passes this
    test by chance is divided equally among the keys.
    """
    doubt = DOUBT / max(1, len(keys))
    return {key: least_threshold([row for row in rows if key in (EVERY, row.key)], precision, doubt) for key in keys}


def reaches(row: Judged, thresholds: Mapping[str, float | None]) -> bool:
    """Return whether a row's answer needs no review.

    Its probability must be at least the threshold for this answer, and its coverage must not be unusually low.
    """
    threshold = thresholds[EVERY] if EVERY in thresholds else thresholds.get(row.key)
    return row.usual and threshold is not None and row.probability >= threshold


def least_rows(precision: float, answers: int, wrong: int = 0) -> int:
    """Return how many rows with the same answer are needed, at least, to choose a threshold for this answer.

    `precision`: the target, such as 0.95. `answers`: how many answers have a threshold of their own. `wrong`: for how
    many of these rows the answer is wrong.

    >>> least_rows(0.95, 1), least_rows(0.95, 2, wrong=1)
    (59, 110)
    """
    from scipy.special import bdtr

    counts = itertools.count(wrong + 1)
    return next(count for count in counts if bdtr(wrong, count, 1 - precision) <= DOUBT / answers)


def least_threshold(rows: Sequence[Judged], precision: float, doubt: float = DOUBT) -> float | None:
    """Return the lowest threshold that reliably reaches the target `precision`, or None if there is none.

    `precision`: the share of right answers that must be reached at and above the threshold, such as 0.95.
    `doubt`: the highest probability with which a threshold may be accepted although its true precision is below
      `precision`. The lower bound of Clopper and Pearson at the confidence 1 - `doubt` must be at least `precision`.

    Needs scipy.
    """
    from scipy.special import bdtr

    ordered = sorted((row for row in rows if row.usual), key=lambda row: -row.probability)
    probabilities = np.array([row.probability for row in ordered])
    counts = np.arange(1, len(ordered) + 1)
    wrong = np.cumsum([not row.correct for row in ordered])
    # bdtr(k, n, p): the probability of at most k wrong answers of n, if each is wrong with probability p.
    precise = bdtr(wrong, counts, 1 - precision) <= doubt
    ends = np.append(np.diff(probabilities) != 0, True)  # a threshold cannot part equal probabilities
    places = np.flatnonzero(precise & ends[: len(ordered)])
    return float(probabilities[places[-1]]) if len(places) else None
