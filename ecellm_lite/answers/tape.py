"""The answer's tokens so far: those the model has seen, and those settled that it will see with the next step."""

from __future__ import annotations

from collections.abc import Sequence

from ecellm_lite.answers.decoding import Step


class Tape:
    """Answer tokens in order, handed out in steps; it also counts which of them were the model's own choice."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self._seen = 0
        self._forced = 0
        self._asked = False

    def force(self, tokens: Sequence[int]) -> None:
        """Put tokens behind the answer that nothing had to be asked for."""
        self.tokens.extend(tokens)
        self._forced += len(tokens)

    def choose(self, token: int) -> None:
        """Put a token behind the answer that was chosen from the model's logits."""
        self.tokens.append(token)

    def confirm(self, token: int) -> None:
        """Put a token behind the answer that the model chose, and has seen already as a draft."""
        self.tokens.append(token)
        self._seen += 1

    def move(self, path: Sequence[int]) -> None:
        """Go to the answer `path` from whatever stands here, keeping the beginning that the two share.

        Once the model has been asked, the first token that is new is one of the branches it was asked about.
        """
        kept = 0
        while kept < min(len(path), len(self.tokens)) and path[kept] == self.tokens[kept]:
            kept += 1
        if kept < len(self.tokens):
            del self.tokens[kept:]
            self._seen = min(self._seen, kept)
            self._forced = 0
        fresh = list(path[kept:])
        if fresh and self._asked:
            self.choose(fresh.pop(0))
        self.force(fresh)

    def step(self, drafts: Sequence[int] = ()) -> Step:
        """Return the step that shows the model what it has not seen, with drafts behind it."""
        step = Step(self._seen, (*self.tokens[self._seen :], *drafts), self._forced, len(drafts))
        self._seen, self._forced, self._asked = len(self.tokens), 0, True
        return step
