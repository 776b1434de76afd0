"""The protocol between an answer space and the engine that decodes its answers.

A space's `decode` is a generator. It yields a `Step`, which asks the engine to append tokens to the prompt. The engine
sends the generator the logits that the model returns after these tokens. When nothing is left to decide, the generator
returns an `Outcome`. The engine's scheduler runs many such generators at once. The space and the engine know nothing
more about each other.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ecellm_lite.answers.answer import AnswerWarning
from ecellm_lite.envelopes.ecinstruct import RESPONSE
from ecellm_lite.envelopes.envelope import Envelope
from ecellm_lite.envelopes.prompt import control_token_id
from ecellm_lite.errors import ModelError

Logits = NDArray[np.float32]  # (vocabulary.size,), valid until the next step is yielded; with drafts one row for each
Probabilities = NDArray[np.float64]


class Vocabulary(Protocol):
    """The parts of a model's tokenizer that the answer spaces need."""

    identity: str  # the sha256 of the model's file; empty if there is no file
    size: int
    end: int  # the end-of-sequence token, which follows a finished answer
    ends: frozenset[int]  # every token that ends a generation, `end` among them
    control: NDArray[np.int32]  # tokens that are not text, which no answer may contain

    def tokenize(self, text: str, *, begin: bool = False) -> list[int]:
        """Return the tokens of `text`. With `begin`, a BOS token comes first if the model expects one.

        Nothing in the text is read as a special token.
        """

    def special_token_id(self, text: str) -> int | None:
        """Return the id of the control or added token with this spelling, or None."""

    def detokenize(self, tokens: Sequence[int]) -> bytes:
        """Return the bytes of the text that the tokens represent. Control tokens represent no bytes."""

    def grammar_tokenizer(self) -> Any:
        """Return the `llguidance.LLTokenizer` of this vocabulary, which is built only once."""


@dataclass(frozen=True, slots=True)
class Step:
    """A request to the engine: keep the first `keep` tokens of the answer, append `tokens`, and return logits.

    - `forced`: how many of `tokens` had no alternative, so that the model did not choose them.
    - `drafted`: how many tokens at the end of `tokens` are drafts: guesses that the model may reject.

    All other tokens were chosen from the model's logits. If there are many drafts, the engine may check only the first
    ones. It returns the logits after the last token before the drafts, and the logits after each checked draft. The
    logits' shape is (checked drafts + 1, vocabulary.size), or (vocabulary.size,) if no draft was checked. Accepted
    drafts belong to the answer, so the next step's `keep` counts them.
    """

    keep: int
    tokens: tuple[int, ...] = ()
    forced: int = 0
    drafted: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a space decided from the model's logits.

    - `value`: the answer's value.
    - `text`: the answer as an ECInstruct string.
    - `tokens`: the answer's tokens. For an answer from a fixed set, tokenize(prompt + text) ends with these tokens.
    - `probabilities`: the probability of each possible answer, by its key; None if there are too many to list.
    - `coverage`: the probability of all allowed tokens together, at the answer's first choice. For an extraction: the
      lowest coverage of all its choices.
    - `unexplored`: the total probability of the labels that a search did not reach; None if all answers were compared.
    - `shortened`: which limit ended the answer; None if no limit did.
    - `warnings`: other problems of the answer.
    """

    value: Any
    text: str
    tokens: Sequence[int]
    probability: float | None = None
    probabilities: Mapping[str, float] | None = None
    confidence: float | None = None
    coverage: float | None = None
    unexplored: float | None = None
    shortened: str | None = None
    warnings: Sequence[AnswerWarning] = ()


Decoding = Generator[Step, Logits, Outcome]

# Called with the whole text so far, each time it has grown.
Listener = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class AnswerForm:
    """How the model writes an answer after a prompt. The envelope decides this.

    - `prompt_end`: the text at the prompt's end; an answer is tokenized as its continuation.
    - `lead`: what the model writes between the prompt's end and the answer, such as a space.
    - `end`: the token that ends an answer; None for the vocabulary's end-of-sequence token.
    - `spellings`: whether other spellings of an option count as the option. This helps general models, which were not
      trained to write the options exactly.
    """

    prompt_end: str = RESPONSE
    lead: str = ""
    end: int | None = None
    spellings: bool = False

    @classmethod
    def of(cls, envelope: Envelope, vocabulary: Vocabulary) -> AnswerForm:
        """Return how the model writes an answer after a prompt with this envelope.

        Raises ModelError if the vocabulary lacks one of the envelope's tokens.
        """
        for token in envelope.control_tokens:
            control_token_id(token, vocabulary)
        end = control_token_id(envelope.end, vocabulary) if envelope.end else None
        return cls(envelope.prompt_end, envelope.lead, end, envelope.general)


ECINSTRUCT = AnswerForm()


@dataclass(frozen=True, slots=True)
class Scene:
    """What a space needs to decode one row's answer.

    - `room`: how many tokens are left for the answer.
    - `drafts`: how many tokens may be guessed in one step.
    - `listener`: a function that is called with the answer's text each time the text has grown.
    """

    vocabulary: Vocabulary
    room: int
    seed: int = 0
    prompt: Sequence[int] = ()
    drafts: int = 0
    listener: Listener | None = None
    form: AnswerForm = ECINSTRUCT

    @property
    def end(self) -> int:
        """The token that ends an answer. If the envelope does not define one, it is the end-of-sequence token."""
        return self.vocabulary.end if self.form.end is None else self.form.end

    @property
    def ends(self) -> frozenset[int]:
        """All tokens that end an answer, `end` included."""
        return self.vocabulary.ends | {self.end}

    def continuation(self, text: str, *, after: str | None = None) -> list[int]:
        """Return the tokens that `text` gets when it follows the text `after`, by default the end of the prompt.

        If `text` is tokenized alone, it can get different tokens, because SentencePiece puts a space before it. `after`
        must end where the tokenizer always starts a new token, for example with the newline that ends every prompt.
        Raises ModelError if one token of the vocabulary crosses the border between `after` and `text`.
        """
        if after is None:
            after, text = self.form.prompt_end, self.form.lead + text
        anchor = self.vocabulary.tokenize(after)
        joint = self.vocabulary.tokenize(after + text)
        if joint[: len(anchor)] != anchor:
            raise ModelError(
                f"This model's vocabulary joins the prompt's end with {text[:20]!r}, so its answers cannot be scored",
                step="use a model with a vocabulary like Llama's, Mistral's or GPT-2's",
                settings=("model",),
            )
        return joint[len(anchor) :]
