"""Drafts of free text: an answer about documents often copies them, so what follows there is a good guess.

Known as prompt lookup decoding. A guess costs little where the model checks several tokens in one call, and nothing of
the answer: what the model would not have written itself is thrown away.
"""

from __future__ import annotations

from collections.abc import Sequence

# Tokens that must agree before what followed them is a guess.
_SEEN = 2


class Lookup:
    """The tokens of a prompt and its answer so far, by what they followed; `trust` is how many are guessed at once."""

    def __init__(self, tokens: Sequence[int]) -> None:
        self._tokens: list[int] = []
        self._after: dict[tuple[int, ...], int] = {}  # where the token stands that last followed these
        self._trust = _SEEN
        for token in tokens:
            self.append(token)

    def append(self, token: int) -> None:
        """Take the answer's next token in."""
        before = tuple(self._tokens[-_SEEN:])
        if len(before) == _SEEN:
            self._after[before] = len(self._tokens)
        self._tokens.append(token)

    def guess(self, most: int) -> tuple[int, ...]:
        """Return at most `most` tokens that may come next; none where the last ones stand nowhere before."""
        start = self._after.get(tuple(self._tokens[-_SEEN:]))
        return () if start is None else tuple(self._tokens[start : start + min(most, self._trust)])

    def learn(self, guessed: int, right: int) -> None:
        """Trust guesses twice as far after one that was right, and as far as they were right after one that was not."""
        self._trust = 2 * guessed if right == guessed else max(1, right)
