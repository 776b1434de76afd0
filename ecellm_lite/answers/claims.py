"""What an answer's probability claims, beside what people answered."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Claim:
    """One choice of an answer: the shares of what could be chosen, the chosen one first; at least one share.

    `right` is the place of the right one in them. The last share is that of `alike` answers together, which are taken
    to share it evenly.
    """

    shares: tuple[float, ...]
    right: int
    alike: int = 1

    @property
    def probability(self) -> float:
        """What is claimed: the share of the chosen one."""
        return self.shares[0]

    @property
    def correct(self) -> bool:
        """Whether the chosen one is the right one."""
        return self.right == 0
