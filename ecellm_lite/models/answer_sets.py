"""Answer sets: all answers to a row that are plausible, so that the right one is among them with a guaranteed share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AnswerSets:
    """Which answers belong to a row's set, and how sets do on held-out rows.

    - `guarantee`: the share of rows whose set has the right answer, at least, on average over samples of rows like
      those of the calibration.
    - `least`: the probability, before the temperature, that an answer in the set must have; 0 if all belong to it.
    - `rows`: how many rows `least` was chosen on.
    - `reached`: the share of held-out rows whose set has the right answer.
    - `size`: the mean number of answers in the set of a held-out row.
    """

    guarantee: float
    least: float
    rows: int
    reached: float
    size: float

    def answers(self, probabilities: Mapping[str, float]) -> list[str]:
        """Return the keys of a row's set, the likeliest first; always at least one."""
        order = sorted(probabilities, key=probabilities.__getitem__, reverse=True)
        return [key for place, key in enumerate(order) if not place or probabilities[key] >= self.least]

    def check(self) -> None:
        """Raise ValueError for a number that cannot be right."""
        if not all(0 <= number <= 1 for number in (self.guarantee, self.least, self.reached)):
            raise ValueError("sets has a number that is not a probability")
        if self.rows < 1 or self.size < 0:
            raise ValueError("sets has a wrong number of rows, or a wrong size")
