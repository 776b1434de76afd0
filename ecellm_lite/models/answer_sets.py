"""Chooses a set of plausible answers to each row. A guaranteed share of these sets contains the right answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AnswerSets:
    """The rule that chooses a row's set of plausible answers, and how good the sets were on held-out rows.

    - `guarantee`: the guaranteed share of rows whose set contains the right answer. It holds on average, and only if
      new rows are like the labelled ones.
    - `least`: an answer is in the set if its probability before calibration is at least this number.
    - `rows`: the number of rows that `least` was computed from.
    - `reached`: the share of held-out rows whose set contains the right answer.
    - `size`: the mean number of answers in the set of a held-out row.
    """

    guarantee: float
    least: float
    rows: int
    reached: float
    size: float

    def answers(self, probabilities: Mapping[str, float]) -> list[str]:
        """Return a row's plausible answers: the likeliest one, and all others that are probable enough.

        `probabilities`: the probability of each possible answer. The result begins with the likeliest answer.
        """
        order = sorted(probabilities, key=probabilities.__getitem__, reverse=True)
        return [key for place, key in enumerate(order) if not place or probabilities[key] >= self.least]

    def check(self) -> None:
        """Raise ValueError if a number is out of its range."""
        if not all(0 <= number <= 1 for number in (self.guarantee, self.least, self.reached)):
            raise ValueError("sets has a number that is not a probability")
        if self.rows < 1 or self.size < 0:
            raise ValueError("sets has a wrong number of rows, or a wrong size")
