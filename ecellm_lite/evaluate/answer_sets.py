"""Chooses a threshold: answers with at least this probability belong to a row's set of plausible answers.

The method is split conformal prediction: Vovk, Gammerman and Shafer, "Algorithmic Learning in a Random World" (2005).
It uses n labelled rows. For each row, the model gives a probability to the right answer. For a guarantee of 95%, the
threshold is the k-th largest of these n probabilities, where k is 95% of n + 1, rounded up. On average, the right
answer's probability then reaches the threshold in at least 95% of new rows. This holds if the new rows are like the
labelled ones, however bad the model's probabilities are. A bad model only makes the sets larger. The most probable
answer always belongs to the set, even if its probability is below the threshold.

The probabilities are not corrected by a temperature. A temperature is fitted to the same rows, so the guarantee would
no longer be exact.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ecellm_lite.answers.answer import Answer
from ecellm_lite.errors import InputError
from ecellm_lite.evaluate.cases import Case
from ecellm_lite.models.answer_sets import AnswerSets


@dataclass(frozen=True, slots=True)
class Row:
    """The probabilities of a row's possible answers, and the probability of the right answer."""

    shares: tuple[float, ...]
    right: float


def row_of(answer: Answer, case: Case) -> Row:
    """Return a Row: all probabilities of an uncalibrated answer, and which of them is the right answer's.

    Raises InputError if the answer does not have a probability for every possible answer.
    """
    (claim, *others) = case.claims
    if others or claim.alike != 1 or answer.probabilities is None or len(answer.probabilities) < len(claim.shares):
        step = "leave the guarantee out, or choose a task with a few possible answers"
        raise InputError(
            f"Answers of type {answer.type} have no sets of plausible answers",
            step=step,
            settings=("coverage_guarantee",),
        )
    return Row(tuple(answer.probabilities.values()), claim.shares[claim.right])


def least_probability(rows: Sequence[Row], guarantee: float) -> float:
    """Return the threshold for sets of plausible answers: a set has the answers with at least this probability.

    `guarantee`: the share of rows whose set should contain the right answer, such as 0.95. If there are too few rows
    for this guarantee, the result is 0, so every set contains all answers.
    """
    place = math.ceil((len(rows) + 1) * guarantee)
    if place > len(rows):
        return 0.0
    return sorted((row.right for row in rows), reverse=True)[place - 1]


def answer_sets(rows: Sequence[Row], guarantee: float, *, seed: int = 0) -> AnswerSets:
    """Choose the threshold for sets of plausible answers, and measure the resulting sets.

    `guarantee`: the share of rows whose set should contain the right answer, such as 0.95.

    The measurements are the sets' mean size, and how often a set contains the right answer. For these, the rows are
    split into two halves. Each half is measured with the threshold that is chosen on the other half.
    """
    halves = np.random.default_rng(seed).permutation(len(rows)) % 2
    reached = size = 0
    for half in (0, 1):
        others = [row for row, place in zip(rows, halves, strict=True) if place != half]
        own = [row for row, place in zip(rows, halves, strict=True) if place == half]
        least = least_probability(others, guarantee)
        reached += sum(contains(row, least) for row in own)
        size += sum(max(1, sum(share >= least for share in row.shares)) for row in own)
    return AnswerSets(guarantee, least_probability(rows, guarantee), len(rows), reached / len(rows), size / len(rows))


def contains(row: Row, least: float) -> bool:
    """Whether a row's set of plausible answers contains the right answer.

    The set has all answers with a probability of at least `least`, and always the most probable answer.
    """
    return row.right >= least or row.right == max(row.shares)
