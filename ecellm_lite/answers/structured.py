"""Answers in a form of the user's own: a JSON schema or a grammar, held by llguidance's token masks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ecellm_lite.answers.decoding import Decoding, Outcome, Scene
from ecellm_lite.answers.probabilities import finite
from ecellm_lite.answers.tape import Tape
from ecellm_lite.answers.text import pick
from ecellm_lite.errors import GrammarError

MAX_TOKENS = 512

# Thousands of nested groups have crashed grammar parsers: what is too large or too deep never reaches native code.
MAX_BYTES = 1 << 18
MAX_DEPTH = 64


@dataclass(frozen=True, slots=True)
class Structured:
    """Every text that an llguidance grammar allows; made by `schema` or `grammar`.

    `type` is `schema` where the text is JSON, whose value is the parsed object, and `text` for a grammar.
    """

    compiled: str
    type: str
    max_tokens: int = MAX_TOKENS
    temperature: float = 0.0

    def decode(self, scene: Scene) -> Decoding:
        """Take the likeliest allowed token each time, and what the grammar forces without asking.

        Raises GrammarError if the limit or the context ends the text before the grammar does.
        """
        from llguidance import LLMatcher
        from llguidance.numpy import allocate_token_bitmask, fill_next_token_bitmask

        vocabulary = scene.vocabulary
        generator = np.random.default_rng(scene.seed)
        matcher = LLMatcher(vocabulary.grammar_tokenizer(), self.compiled, log_level=0)
        bits = allocate_token_bitmask(1, vocabulary.size)
        tape = Tape()
        limit = min(self.max_tokens, scene.room)
        while True:
            if matcher.is_error():
                raise GrammarError(f"The grammar fails on this row ({_line(matcher.get_error())}): simplify it.")
            if matcher.is_stopped():
                break
            if forced := matcher.compute_ff_tokens():
                matcher.consume_tokens(forced)
                tape.force(forced)
                continue
            if len(tape.tokens) >= limit:
                raise GrammarError(
                    f"The answer was not complete after {limit} tokens: allow more with --max-tokens, "
                    "or bound the lengths in the schema or grammar."
                )
            logits = finite((yield tape.step())).copy()
            fill_next_token_bitmask(matcher, bits)
            allowed = np.unpackbits(bits[0].view(np.uint8), bitorder="little")[: vocabulary.size].astype(bool)
            logits[~allowed] = -np.inf
            token = pick(logits, self.temperature, generator)
            matcher.consume_token(token)
            if token not in vocabulary.ends:
                tape.choose(token)
        text = vocabulary.detokenize(tape.tokens).decode("utf-8", "replace")
        return Outcome(value=self.parse(text), text=text, tokens=tape.tokens)

    def parse(self, text: str) -> Any:
        """Return the JSON value of the text, or for a grammar the text; raises GrammarError for broken JSON."""
        if self.type != "schema":
            return text
        try:
            return json.loads(text)
        except ValueError as error:
            raise GrammarError(f"The answer {text[:80]!r} is not JSON ({error}).") from None


def schema(definition: Mapping[str, Any], *, max_tokens: int = MAX_TOKENS, temperature: float = 0.0) -> Structured:
    """Return the space of the JSON texts that a JSON schema allows, written as `json.dumps` writes them.

    An object has the properties that its schema lists and no others, unless `additionalProperties` says so. Raises
    GrammarError for a schema that is too large, too deep, or not understood.
    """
    from llguidance import LLMatcher

    text = json.dumps(_closed(definition))
    _check_size("schema", text)
    compiled = LLMatcher.grammar_from_json_schema(
        text,
        defaults={
            "whitespace_flexible": False,
            "item_separator": ", ",
            "key_separator": ": ",
            "json_allow_general_unicode_escapes": True,
        },
    )
    return Structured(_checked("JSON schema", compiled), "schema", max_tokens, temperature)


def grammar(text: str, *, max_tokens: int = MAX_TOKENS, temperature: float = 0.0) -> Structured:
    """Return the space of the texts that a grammar in llguidance's Lark form allows, or raise GrammarError."""
    from llguidance import LLMatcher

    _check_size("grammar", text)
    return Structured(_checked("grammar", LLMatcher.grammar_from_lark(text)), "text", max_tokens, temperature)


def _closed(definition: Any) -> Any:
    if isinstance(definition, list):
        return [_closed(part) for part in definition]
    if not isinstance(definition, Mapping):
        return definition
    closed = {key: _closed(part) for key, part in definition.items()}
    return {"additionalProperties": False, **closed} if isinstance(closed.get("properties"), dict) else closed


def _check_size(what: str, text: str) -> None:
    if len(text.encode("utf-8", "replace")) > MAX_BYTES:
        raise GrammarError(f"The {what} has {len(text):,} characters, and at most {MAX_BYTES:,} are taken: shorten it.")
    depth = deepest = 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        deepest = max(deepest, depth)
    if deepest > MAX_DEPTH:
        raise GrammarError(f"The {what} is nested {deepest} deep, and at most {MAX_DEPTH} is taken: flatten it.")


def _checked(what: str, compiled: str) -> str:
    from llguidance import LLMatcher

    failed, messages = LLMatcher.validate_grammar_with_warnings(compiled)
    if failed:
        raise GrammarError(f"The {what} does not compile ({_line(messages[0])}): correct it and try again.")
    return compiled


def _line(message: str) -> str:
    return " ".join(message.split())[:300]
