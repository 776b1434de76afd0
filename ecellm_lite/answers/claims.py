"""Compares the probabilities of an answer with its gold answer, to fit and to measure calibrations."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Claim:
    """One decision within an answer: the shares of its options, with the chosen option first; at least one share.

    `right` is the index of the correct option. The last share is the sum over `alike` options, which are assumed to be
    equally likely.
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
