"""From which probability on an answer is right often enough that nobody need look at it."""

from __future__ import annotations

from dataclasses import dataclass

from ecellm_lite.answers.answer import Answer

EVERY = ""
"""The key of a threshold for all answers, where rows have answers of their own, as a ranking's have."""


@dataclass(frozen=True, slots=True)
class Automatic:
    """The least probability of each answer, by its key, from which `precision` of the answers are right.

    An answer that no threshold makes so precise has None. Of `rows` held out, whose thresholds were chosen on the
    others, a `share` was automatic, and `reached` of those were right; None where none was automatic.
    """

    precision: float
    thresholds: dict[str, float | None]
    rows: int
    share: float
    reached: float | None

    def threshold(self, answer: Answer) -> float | None:
        """Return the threshold of an answer, None where none is precise enough."""
        if EVERY in self.thresholds:
            return self.thresholds[EVERY]
        return self.thresholds.get(likeliest(answer))

    def check(self) -> None:
        """Raise ValueError for a number that is no probability."""
        numbers = [self.precision, self.share, self.reached, *self.thresholds.values()]
        if not all(number is None or 0 <= number <= 1 for number in numbers):
            raise ValueError("automatic has a number that is no probability")
        if self.rows < 0:
            raise ValueError("automatic has less than no rows")


def likeliest(answer: Answer) -> str:
    """Return the key of an answer's likeliest option, which an abstention has too; empty where it has none."""
    shares = answer.probabilities or {}
    return max(shares, key=shares.__getitem__, default=EVERY)
