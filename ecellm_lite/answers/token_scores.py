"""Records how likely each token of a text was, and which other tokens were likely in its position."""

from __future__ import annotations

from typing import Any

import numpy as np

from ecellm_lite.answers.decoding import Logits, Vocabulary


class TokenScores:
    """The tokens of a text with their log-probabilities, and the `top` likeliest tokens in each position."""

    def __init__(self, vocabulary: Vocabulary, top: int) -> None:
        self._vocabulary = vocabulary
        self._top = top
        self._tokens: list[dict[str, Any]] = []

    def add(self, logits: Logits, token: int) -> None:
        """Add a token and the logits by which it was chosen. Tokens that are not allowed have logits of -inf."""
        peak = logits.max()
        logarithms = logits - (peak + np.log(np.exp(logits - peak, dtype=np.float64).sum()))
        best = np.argsort(-logarithms, kind="stable")[: self._top]
        self._tokens.append(
            {**self._scored(logarithms, token), "top": [self._scored(logarithms, candidate) for candidate in best]}
        )

    def within(self, text: str) -> list[dict[str, Any]]:
        """Return the added tokens as dicts, up to the one in which `text` ends. `text`: the beginning of their text."""
        most, size = len(text.encode("utf-8", "replace")), 0
        tokens: list[dict[str, Any]] = []
        for token in self._tokens:
            if size >= most and tokens:
                break
            tokens.append(token)
            size += len(token["bytes"])
        return tokens if most else []

    def _scored(self, logarithms: Logits, token: int) -> dict[str, Any]:
        return {"bytes": list(self._vocabulary.detokenize([int(token)])), "logprob": float(logarithms[token])}
