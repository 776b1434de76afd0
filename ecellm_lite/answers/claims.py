"""Claims: the decisions in an answer, each with its probabilities and the correct option.

Calibrations are fitted to claims and measured with them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Claim:
    """One decision within an answer, to be compared with the correct option.

    - `shares`: the probabilities of the options, of which there is at least one. A calibration's bias favors the first.
    - `right`: the index of the correct option in `shares`.
    - `alike`: how many equally likely options the last entry of `shares` stands for.
    - `chosen`: the index of the option that the answer chose. It is 0, unless a threshold made the decision.
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
