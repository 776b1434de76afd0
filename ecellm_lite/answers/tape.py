"""The tape of an answer: its tokens so far.

The model has read some of these tokens. The next step sends the rest to the model.
"""

from __future__ import annotations

from collections.abc import Sequence

from ecellm_lite.answers.decoding import Step


class Tape:
    """The answer's tokens in order.

    They are sent to the model in steps, and the tape counts each step's forced tokens.
    """

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self._sent = 0  # tokens that the model has seen
        self._forced = 0
        self._has_step = False

    def force(self, tokens: Sequence[int]) -> None:
        """Append tokens that had no alternative, so that the model did not choose them."""
        self.tokens.extend(tokens)
        self._forced += len(tokens)

    def choose(self, token: int) -> None:
        """Append a token that was chosen from the model's logits."""
        self.tokens.append(token)

    def confirm(self, token: int) -> None:
        """Append a guessed token (a draft) that the model has read and confirmed."""
        self.tokens.append(token)
        self._sent += 1

    def move(self, path: Sequence[int]) -> None:
        """Change the answer's tokens to `path`. Equal tokens at the beginning are kept.

        If the model was called before, its logits decided the first new token, so this token counts as chosen. All
        other new tokens count as forced.
        """
        shared = 0
        while shared < min(len(path), len(self.tokens)) and path[shared] == self.tokens[shared]:
            shared += 1
        if shared < len(self.tokens):
            del self.tokens[shared:]
            self._sent = min(self._sent, shared)
            self._forced = 0
        fresh = list(path[shared:])
        if self._has_step and self.tokens and not fresh:
            # The logits after the last token are gone, so the model reads it again.
            self._sent = min(self._sent, len(self.tokens) - 1)
        if fresh and self._has_step:
            self.choose(fresh.pop(0))
        self.force(fresh)

    def step(self, drafts: Sequence[int] = ()) -> Step:
        """Return the next step: the tokens that the model has not read yet, and then the drafts."""
        step = Step(self._sent, (*self.tokens[self._sent :], *drafts), self._forced, len(drafts))
        self._sent, self._forced, self._has_step = len(self.tokens), 0, True
        return step
