"""Decodes one answer of an answer space with simulated logits.

The logits are random, or make the model write a given text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ecellm_lite.answers.decoding import Logits, Outcome, Scene
from ecellm_lite.answers.space import Space
from ecellm_lite.engine.fake import FakeVocabulary

ROOM = 1 << 14


def decoded(space: Space, logits: Callable[[Sequence[int]], Logits]) -> Outcome:
    """Decode one answer of `space` without a model, and return the answer with its probabilities.

    `logits` simulates the model: it returns the next token's logits for the answer's tokens so far.
    """
    decoding = space.decode(Scene(FakeVocabulary(), ROOM))
    tokens: list[int] = []
    try:
        step = next(decoding)
        while True:
            tokens = [*tokens[: step.keep], *step.tokens]
            step = decoding.send(logits(tokens))
    except StopIteration as end:
        outcome: Outcome = end.value
        return outcome


def writes(text: str) -> Callable[[Sequence[int]], Logits]:
    """Return a simulated model that writes `text`: a function that returns logits for the answer's tokens so far."""
    wanted = [*FakeVocabulary().tokenize(text), FakeVocabulary.end]

    def logits(tokens: Sequence[int]) -> Logits:
        row = np.zeros(FakeVocabulary.size, dtype=np.float32)
        row[wanted[min(len(tokens), len(wanted) - 1)]] = 30
        return row

    return logits
