"""A running request: its place in the KV memory, and the tokens that the model reads next."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from ecellm_lite.answers.decoding import Decoding
from ecellm_lite.engine.prefixes import Match
from ecellm_lite.engine.request import Request


@dataclass(slots=True, eq=False)
class Slot:
    """A request that the model is working on.

    `length`: how many of its tokens are in the KV memory.
    `pending`: the next tokens to compute.
    `drafted`: how many of the pending tokens are guesses. The guesses are the last ones.
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
        """Count the guessed tokens. The first `right` of them were correct, and the other ones were wasted."""
        right = max(0, min(self.drafted, right))
        self.request.decoded += right
        self.request.wasted += self.drafted - right
