"""Thresholds for using answers without review. An answer whose probability reaches the threshold needs no review."""

from __future__ import annotations

from dataclasses import dataclass

from ecellm_lite.answers.answer import Answer

EVERY = ""
"""The key of a threshold for all answers, in tasks whose rows have their own options, such as rankings."""


@dataclass(frozen=True, slots=True)
class Automatic:
    """Probability thresholds for one task. An answer that reaches its threshold needs no review by a person.

    The thresholds are chosen so that the answers that reach them are right often enough: at least 95% of them if
    `precision` is 0.95.

    `thresholds`: one threshold for each possible answer, or a single one for all answers under the key EVERY. A
      threshold is None if no probability is high enough.
    `rows`: the number of held-out rows that the thresholds were tested on.
    `share`: the share of the held-out rows whose answer reached its threshold.
    `reached`: the share of these answers that are right, or None if no answer reached its threshold.
    """

    precision: float
    thresholds: dict[str, float | None]
    rows: int
    share: float
    reached: float | None

    def threshold(self, answer: Answer) -> float | None:
        """Return the threshold for an answer. None means that such answers always need review."""
        if EVERY in self.thresholds:
            return self.thresholds[EVERY]
        return self.thresholds.get(likeliest(answer))

    def check(self) -> None:
        """Raise ValueError if a probability is not from 0 to 1, or if the number of rows is negative."""
        numbers = [self.precision, self.share, self.reached, *self.thresholds.values()]
        if not all(number is None or 0 <= number <= 1 for number in numbers):
            raise ValueError("automatic has a number that is not a probability")
        if self.rows < 0:
            raise ValueError("automatic has a negative number of rows")


def likeliest(answer: Answer) -> str:
    """Return the key of an answer's most likely option, even if the answer abstained.

    Return EVERY, the key of a threshold for all answers, if the answer has no options.
    """
    shares = answer.probabilities or {}
    return max(shares, key=shares.__getitem__, default=EVERY)
