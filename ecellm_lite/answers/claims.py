"""The decisions in an answer, each with its probabilities and the correct option.

Calibrations are fitted and measured with these decisions.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Claim:
    """One decision within an answer.

    - `shares`: the probabilities of the options, of which there is at least one. A calibration's bias favors the first.
    - `right`: the index of the correct option in `shares`.
    - `alike`: how many equally likely options the last share stands for.
    - `chosen`: the index of the option that the answer chose. It can differ from 0 only if a threshold decided.
    """

    shares: tuple[float, ...]
    right: int
    alike: int = 1
    chosen: int = 0

    @property
    def probability(self) -> float:
        """The claimed probability: the share of the chosen option."""
        return self.shares[self.chosen]

    @property
    def correct(self) -> bool:
        """Whether the chosen option is the correct one."""
        return self.right == self.chosen
