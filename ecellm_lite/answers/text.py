"""The answer space of free text: what the model writes until it stops, or until a limit of tokens."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ecellm_lite.answers.decoding import Decoding, Logits, Outcome, Scene
from ecellm_lite.answers.drafts import Lookup
from ecellm_lite.answers.probabilities import checked_logits
from ecellm_lite.answers.space import Space
from ecellm_lite.answers.tape import Tape
from ecellm_lite.answers.token_scores import TokenScores

# ECInstruct's authors generate at most this many tokens.
MAX_TOKENS = 100


@dataclass(frozen=True, slots=True)
class Text(Space):
    """A space of free texts with at most `max_tokens` tokens. An end token ends a text. No text has control tokens.

    - `temperature`: at 0, each token is the likeliest one; above 0, tokens are sampled with the request's seed.
    - `stop`: texts that end the answer. The answer ends before the first of them.
    - `whole`: whether to keep white space around the text.
    - `logprobs`: how many likely tokens to list for each token of the text.

    With `logprobs`, the value is an object with three keys. `text` is the text. `ended` is true if the model or a
    stop text ended the text, and false if a limit of tokens did. `tokens` is a list with an object for each
    token: its `bytes`, its `logprob`, and `top`, the likeliest tokens in the same position.
    """

    max_tokens: int = MAX_TOKENS
    temperature: float = 0.0
    stop: tuple[str, ...] = ()
    logprobs: int | None = None
    whole: bool = False
    type: ClassVar[str] = "text"

    def longest(self, scene: Scene) -> int:
        """Return how many tokens to reserve for the text: `max_tokens`, but at most a quarter of the context."""
        return min(self.max_tokens, Space.longest(self, scene))

    def as_options(self) -> dict[str, Any]:
        """Return the limits, the temperature and the other settings of this space, as request options."""
        options: dict[str, Any] = {"max_tokens": self.max_tokens, "temperature": self.temperature}
        if self.stop:
            options["stop"] = list(self.stop)
        return options if self.logprobs is None else {**options, "logprobs": self.logprobs}

    def constants(self, golds: Sequence[str]) -> tuple[str, ...]:
        """Return two baselines that give every row the same text: the most frequent gold text, and the empty text.

        Free texts hardly ever repeat, so no other constant text is worth comparing with.
        """
        return (golds[0], "")

    def decode(self, scene: Scene) -> Decoding:
        """Let the model write the text token by token. A call of the model also checks guessed tokens (drafts).

        White space around the text is removed, unless `whole` is true.
        """
        vocabulary = scene.vocabulary
        generator = np.random.default_rng(scene.seed)
        ends = scene.ends
        forbidden = np.setdiff1d(vocabulary.control, list(ends))
        tape = Tape()
        lookup = Lookup(scene.prompt)
        limit = min(self.max_tokens, scene.room)
        scores = None if self.logprobs is None else TokenScores(vocabulary, self.logprobs)
        reported = ""
        ended = False
        while not ended and len(tape.tokens) < limit:
            drafts = lookup.guess(min(scene.drafts, limit - len(tape.tokens) - 1))
            rows = np.atleast_2d((yield tape.step(drafts)))
            checked, accepted = len(rows) - 1, 0
            for place, row in enumerate(rows):
                logits = checked_logits(row).copy()
                logits[forbidden] = -np.inf
                token = pick(logits, self.temperature, generator)
                ended = token in ends
                if ended:
                    break
                if scores:
                    scores.add(logits, token)
                lookup.append(token)
                if place == checked or token != drafts[place]:
                    tape.choose(token)
                    break
                tape.confirm(token)
                accepted += 1
            if checked:
                lookup.learn(checked, accepted)
            if scene.listener and len(settled := self._settled(vocabulary.detokenize(tape.tokens))) > len(reported):
                reported = settled
                scene.listener(reported)
            if self.stop and self._stopped(_decoded(vocabulary.detokenize(tape.tokens))) is not None:
                ended = True
        # A limit may fall within a character: its incomplete bytes are dropped.
        text = _decoded(vocabulary.detokenize(tape.tokens))
        text = text[: self._stopped(text)]
        text = text if self.whole else text.strip()
        # The user knows the token limit, but not where the context ends: only the latter is reported.
        short = not ended and scene.room < self.max_tokens
        shortened = f"answer: cut at {limit:,} tokens, where the context ends" if short else None
        value = {"text": text, "ended": ended, "tokens": scores.within(text)} if scores else text
        return Outcome(value=value, text=text, tokens=tape.tokens, shortened=shortened)

    def _settled(self, data: bytes) -> str:
        """Return the part of the text that more tokens cannot change.

        The end is left out while it may be an incomplete character or the beginning of a stop text.
        """
        text = _decoded(data)
        text = text[: self._stopped(text)]
        text = text[: max(0, len(text) - max(map(len, self.stop), default=1) + 1)]
        return text if self.whole else text.strip()

    def _stopped(self, text: str) -> int | None:
        """Return the index where the first stop text begins, or None if there is none."""
        return min((place for stop in self.stop if (place := text.find(stop)) >= 0), default=None)

    def parse(self, text: str) -> str:
        """Return the text itself."""
        return text


def _decoded(data: bytes) -> str:
    """Return bytes as text. An incomplete character at the end is left out."""
    return codecs.getincrementaldecoder("utf-8")("replace").decode(data)


def pick(logits: Logits, temperature: float, generator: np.random.Generator) -> int:
    """Return the likeliest token. At a temperature above 0, return a token sampled by its probability."""
    if temperature <= 0:
        return int(logits.argmax())
    # The Gumbel-max trick: the likeliest token under Gumbel noise is a draw from the softmax.
    return int((logits / temperature + generator.gumbel(size=logits.shape)).argmax())
