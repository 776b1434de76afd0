"""What an answer's probability claims, compared with the labelled answer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Claim:
    """One choice of an answer: the shares of the options, the chosen one first; at least one share.

    `right` is the index of the correct option. The last share is the sum of `alike` answers, which are assumed to have
    equal parts of it.
    """

    shares: tuple[float, ...]
    right: int
    alike: int = 1

    @property
    def probability(self) -> float:
        """The claimed probability: the share of the chosen option."""
        return self.shares[0]

    @property
    def correct(self) -> bool:
        """Whether the chosen option is the correct one."""
        return self.right == 0
