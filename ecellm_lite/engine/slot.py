"""A running request: its place in the KV memory, and the tokens that the model sees next."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from ecellm_lite.answers.decoding import Decoding
from ecellm_lite.engine.prefixes import Match
from ecellm_lite.engine.request import Request


@dataclass(slots=True, eq=False)
class Slot:
    """A running request: `length` of its tokens are in memory, and the `pending` tokens follow.

    The last `drafted` of the pending tokens are guesses. The answer's space needs the logits after each guess.
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
        """How many tokens of memory the request takes in addition to its prefix."""
        return self.length - self.match.length

    def count_drafts(self, right: int) -> None:
        """Count `right` of the last guessed tokens as decoded, and the others as wasted."""
        right = max(0, min(self.drafted, right))
        self.request.decoded += right
        self.request.wasted += self.drafted - right
