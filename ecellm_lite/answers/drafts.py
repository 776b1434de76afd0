"""Guesses the next words of free text by copying from the prompt, because answers often repeat the prompt's words.

This is called prompt lookup decoding. Guesses cost little, because the model can check several tokens in one call.
Guesses never change the answer: a token that the model would not have written is dropped.
"""

from __future__ import annotations

from collections.abc import Sequence

# How many tokens must match before the ones that followed them are used as a guess.
_MATCH = 2


class Lookup:
    """Guesses the next tokens: finds an earlier occurrence of the latest tokens, and copies the tokens after it."""

    def __init__(self, tokens: Sequence[int]) -> None:
        self._tokens: list[int] = []
        self._after: dict[tuple[int, ...], int] = {}  # the place of the token that last followed these
        self._trust = _MATCH
        for token in tokens:
            self.append(token)

    def append(self, token: int) -> None:
        """Append the next token of the prompt or the answer."""
        before = tuple(self._tokens[-_MATCH:])
        if len(before) == _MATCH:
            self._after[before] = len(self._tokens)
        self._tokens.append(token)

    def guess(self, most: int) -> tuple[int, ...]:
        """Return at most `most` likely next tokens.

        Returns an empty tuple if the latest tokens did not occur before.
        """
        start = self._after.get(tuple(self._tokens[-_MATCH:]))
        return () if start is None else tuple(self._tokens[start : start + min(most, self._trust)])

    def learn(self, guessed: int, right: int) -> None:
        """Note that the model accepted the first `right` of `guessed` tokens.

        This sets the maximum length of the next guess: `2 * guessed` if the model accepted all tokens, otherwise
        `right`, but at least 1.
        """
        self._trust = 2 * guessed if right == guessed else max(1, right)
