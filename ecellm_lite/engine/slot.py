"""A request that runs: where it is in the model's memory, and what the model is to see next."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from ecellm_lite.answers.decoding import Decoding
from ecellm_lite.engine.prefixes import Match
from ecellm_lite.engine.request import Request


@dataclass(slots=True, eq=False)
class Slot:
    """A request in the model's memory: `length` tokens of it are there, `pending` ones are to follow.

    The last `drafted` of the pending ones are guesses of the answer's space, which wants the logits after each.
    """

    request: Request
    sequence: int
    match: Match
    decoding: Decoding
    started: float
    length: int
    pending: deque[int] = field(default_factory=deque)
    begun: bool = False
    drafted: int = 0

    @property
    def own(self) -> int:
        """The memory it takes besides its prefix, in tokens."""
        return self.length - self.match.length

    def count_drafts(self, right: int) -> None:
        """Note how many of the tokens drafted last were right; the others were computed for nothing."""
        right = max(0, min(self.drafted, right))
        self.request.decoded += right
        self.request.wasted += self.drafted - right
