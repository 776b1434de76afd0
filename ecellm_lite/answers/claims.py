"""Claims: the decisions in an answer, each with its probabilities and the correct option.

A calibration is fitted to claims, and then tested on claims.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Claim:
    """One decision within an answer, to be compared with the correct option.

    - `shares`: the probability of each option. There is at least one option. A calibration's bias (see
      answers/calibration.py) is added to the log-odds of the first option.
    - `right`: the index of the correct option in `shares`.
    - `alike`: how many options share the last entry of `shares`. The entry is the sum of their probabilities.
    - `chosen`: the index in `shares` of the option that the answer has. With several labels, it is 1 for each label
      that the answer leaves out. Otherwise it is 0.
    """

    shares: tuple[float, ...]
    right: int
    alike: int = 1
    chosen: int = 0

    @property
    def probability(self) -> float:
        """The probability of the chosen option."""
        return self.shares[self.chosen]

    @property
    def correct(self) -> bool:
        """Whether the chosen option is the correct one."""
        return self.right == self.chosen
