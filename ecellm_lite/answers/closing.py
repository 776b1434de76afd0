"""Ends a JSON text within its token limit.

A token is chosen only if the text can still be closed after it. The closing tokens are found without the model: a quote
closes a string, a bracket closes an object or a list, and a missing value becomes the shortest of its type. The search
never goes back, so it can miss a way to close the text, for example if a string must contain certain words. A text that
the search finds is always valid for the schema.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from ecellm_lite.answers.decoding import Logits, Vocabulary

# What to try first, character by character; digits, hyphens and so on are for strings with a pattern or a format.
_IN_STRING = '"0123456789-:.aA TZ'
_BETWEEN = '}],"0123456789[{'

# How many of the likeliest tokens are tried before the characters above.
_TRIES = 8

_ESCAPE = re.compile(rb"\\.", re.DOTALL)


class Closing:
    """Finds the tokens of a vocabulary that close a JSON text."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._in_string = self._tokens(_IN_STRING)
        self._between = self._tokens(_BETWEEN)

    def closable_token(self, matcher: Any, tokens: Sequence[int], limit: int, logits: Logits, token: int) -> int:
        """Return `token` if the JSON text can be completed after it, within the token limit.

        Otherwise return another token after which it can be completed. Likely tokens are tried first. If no way to
        complete the text is found, return `token`.

        `matcher`: llguidance's matcher for the text's grammar. It has read `tokens`.
        `tokens`: the text so far.
        `limit`: the maximum number of tokens of the complete text.
        `logits`: the logits of the next token. They are -inf for tokens that the grammar does not allow.
        """
        text, most = self._vocabulary.detokenize(tokens), limit - len(tokens)
        if self._can_close(matcher, text, token, most) or not (closing := self._closing_tokens(matcher, text, most)):
            return token
        likeliest = np.argsort(-logits)[:_TRIES].tolist()
        closers = sorted({*self._in_string, *self._between}, key=lambda closer: (-float(logits[closer]), closer))
        for other in [*likeliest, *closers]:
            if np.isfinite(logits[other]) and self._can_close(matcher, text, other, most):
                return int(other)
        return closing[0]

    def _can_close(self, matcher: Any, text: bytes, token: int, most: int) -> bool:
        """Return whether at most `most` tokens, the first of which is `token`, can complete the JSON text."""
        if token in self._vocabulary.ends:
            return True
        matcher = matcher.deep_copy()
        matcher.consume_tokens([token])
        return self._closing_tokens(matcher, text + self._vocabulary.detokenize([token]), most - 1) is not None

    def _closing_tokens(self, matcher: Any, text: bytes, most: int) -> list[int] | None:
        """Return at most `most` tokens that complete `text`, or None if none were found.

        The matcher has read `text`.
        """
        matcher = matcher.deep_copy()
        closing: list[int] = []
        while not matcher.is_accepting():
            step = matcher.compute_ff_tokens() or self._next(matcher, text)
            if not step or len(closing) + len(step) > most or not matcher.consume_tokens(step):
                return None
            closing += step
            text += self._vocabulary.detokenize(step)
        return closing

    def _next(self, matcher: Any, text: bytes) -> list[int]:
        in_string = _ESCAPE.sub(b"", text).count(b'"') % 2
        for token in self._in_string if in_string else self._between:
            if matcher.validate_tokens([token]):
                return [token]
        bits = int.from_bytes(matcher.compute_bitmask(), "little")
        return [(bits & -bits).bit_length() - 1] if bits else []

    def _tokens(self, characters: str) -> list[int]:
        tokenizer = self._vocabulary.grammar_tokenizer()
        return [token for character in characters for token in tokenizer.greedy_tokenize(character)]
