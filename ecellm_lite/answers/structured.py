"""Answer spaces for a user's JSON schema or grammar.

At each step, llguidance says which tokens the schema or grammar allows. All other tokens are excluded.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from ecellm_lite.answers.closing import Closing
from ecellm_lite.answers.decoding import Decoding, Outcome, Scene, Vocabulary
from ecellm_lite.answers.gbnf import is_gbnf, lark_of
from ecellm_lite.answers.limits import MAX_DEPTH, check_lark, check_schema, check_size, depth
from ecellm_lite.answers.matchers import new_matcher
from ecellm_lite.answers.probabilities import checked_logits
from ecellm_lite.answers.space import Space
from ecellm_lite.answers.tape import Tape
from ecellm_lite.answers.text import pick
from ecellm_lite.errors import GrammarError

MAX_TOKENS = 512

# From this many tokens before the limit on, each token is chosen only if the text can still be closed after it.
LAST = 128


@dataclass(frozen=True, slots=True)
class Structured(Space):
    """An answer space with all texts that a grammar allows.

    The functions `schema` and `grammar` make such a space. `source` is the text of the schema or the grammar.
    """

    compiled: str
    max_tokens: int = MAX_TOKENS
    temperature: float = 0.0
    source: Any = field(default=None, compare=False)
    type: ClassVar[str] = "text"

    def decode(self, scene: Scene) -> Decoding:
        """Choose one allowed token after another. The model is not asked about tokens that the grammar forces.

        An answer has at most `max_tokens` tokens, and fewer if the context has less room. Near this limit, a JSON text
        is ended in a valid way if the schema permits. Other texts are cut back to the last position at which they were
        complete. Raises GrammarError if there is no such position.
        """
        from llguidance.numpy import allocate_token_bitmask, fill_next_token_bitmask

        vocabulary = scene.vocabulary
        generator = np.random.default_rng(scene.seed)
        matcher = new_matcher(vocabulary, self.compiled)
        bits = allocate_token_bitmask(1, vocabulary.size)
        closing = self.closing(vocabulary)
        tape = Tape()
        limit = min(self.max_tokens, scene.room)
        complete = 0  # tokens at the last place where the text could have ended
        closed = False  # whether the limit ended or changed the text
        while True:
            if matcher.is_error():
                message = f"The grammar fails on this row ({_line(matcher.get_error())})"
                raise GrammarError(message, step="simplify it")
            if len(tape.tokens) <= limit and (matcher.is_stopped() or matcher.is_accepting()):
                complete = len(tape.tokens)
            if matcher.is_stopped() and complete == len(tape.tokens):
                break
            if len(tape.tokens) < limit and (forced := matcher.compute_ff_tokens()):
                matcher.consume_tokens(forced)
                tape.force(forced)
                continue
            if len(tape.tokens) >= limit:
                if complete:
                    closed = True
                    break
                raise GrammarError(
                    f"The answer was not complete after {limit} tokens",
                    step="allow more tokens, or limit the lengths in the schema or grammar",
                    settings=("max_tokens",),
                )
            logits = checked_logits((yield tape.step())).copy()
            fill_next_token_bitmask(matcher, bits)
            allowed = np.unpackbits(bits[0].view(np.uint8), bitorder="little")[: vocabulary.size].astype(bool)
            logits[~allowed] = -np.inf
            token = pick(logits, self.temperature, generator)
            if closing and len(tape.tokens) >= limit - LAST:
                fitting = closing.closable_token(matcher, tape.tokens, limit, logits, token)
                closed = closed or fitting != token
                token = fitting
            matcher.consume_token(token)
            if token not in vocabulary.ends:
                tape.choose(token)
        tokens = tape.tokens[:complete]
        text = vocabulary.detokenize(tokens).decode("utf-8", "replace")
        shortened = f"answer: closed at {limit:,} tokens" if closed else None
        return Outcome(value=self.parse(text), text=text, tokens=tokens, shortened=shortened)

    def longest(self, scene: Scene) -> int:
        """Return how many tokens to reserve for an answer: `max_tokens`, but at most a quarter of the context."""
        return min(self.max_tokens, Space.longest(self, scene))

    def as_options(self) -> dict[str, Any]:
        """Return the schema or grammar, the limit of tokens and the temperature, as request options."""
        return {"grammar": self.source, "max_tokens": self.max_tokens, "temperature": self.temperature}

    def closing(self, vocabulary: Vocabulary) -> Closing | None:
        """Return an object that ends a text within its token limit.

        For texts that cannot be ended early, return None.
        """
        return None

    def parse(self, text: str) -> Any:
        """Return the text unchanged, because the text itself is the answer's value."""
        return text


@dataclass(frozen=True, slots=True)
class JsonText(Structured):
    """An answer space with all JSON texts that a schema allows. The answer's value is the parsed JSON."""

    type: ClassVar[str] = "schema"

    def as_options(self) -> dict[str, Any]:
        """Return the schema, the limit of tokens and the temperature, as request options."""
        return {"schema": self.source, "max_tokens": self.max_tokens, "temperature": self.temperature}

    def closing(self, vocabulary: Vocabulary) -> Closing:
        """Return an object that ends a JSON text within its token limit."""
        return Closing(vocabulary)

    def parse(self, text: str) -> Any:
        """Return the JSON value of the text. Raises GrammarError for invalid JSON."""
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise GrammarError(f"The answer {text[:80]!r} is not JSON ({error})", step="simplify the schema") from None
        if depth(value, "answer") > MAX_DEPTH:
            message = f"The answer is nested more than {MAX_DEPTH} deep"
            raise GrammarError(message, step="limit the depth in the schema")
        return value


def schema(definition: Mapping[str, Any], *, max_tokens: int = MAX_TOKENS, temperature: float = 0.0) -> Structured:
    """Return a space with all JSON texts that a JSON schema allows. The texts have the spacing of `json.dumps`.

    By default, an object has only the properties that its schema lists. Other properties are allowed in three cases:
    `properties` is missing, `allOf` is used, or `additionalProperties` allows them. Raises GrammarError for a schema
    that is too large or too deep, or that llguidance does not support.
    """
    from llguidance import LLMatcher

    plain = _plain(definition)
    check_schema(plain)
    defaults = {
        "whitespace_flexible": False,
        "item_separator": ", ",
        "key_separator": ": ",
        "json_allow_general_unicode_escapes": True,
    }
    try:
        compiled = LLMatcher.grammar_from_json_schema(json.dumps(_closed(plain)), defaults=defaults)
    except ValueError as error:  # a number beyond the range of floats
        raise GrammarError(f"The schema cannot be read ({error})", step="correct it") from None
    return JsonText(_checked("JSON schema", compiled), max_tokens, temperature, plain)


def grammar(text: str, *, max_tokens: int = MAX_TOKENS, temperature: float = 0.0) -> Structured:
    """Return an answer space that contains every text that a grammar allows.

    The grammar is in llama.cpp's GBNF if it contains `::=`, otherwise in llguidance's Lark format. Raises
    GrammarError for a grammar that is too large or too deep, or that llguidance does not support.
    """
    from llguidance import LLMatcher

    check_size("grammar", text)
    lark = lark_of(text) if is_gbnf(text) else text
    check_lark(lark)
    return Structured(_checked("grammar", LLMatcher.grammar_from_lark(lark)), max_tokens, temperature, text)


# Where a schema may hold other schemas: as the values of an object, as the items of a list, or as one value. Not the
# branches of allOf, which describe one object together, nor const, enum and default, which hold data.
_BY_NAME = frozenset(("properties", "patternProperties", "$defs", "definitions"))
_LISTED = frozenset(("anyOf", "oneOf", "prefixItems"))
_SINGLE = frozenset(("items", "additionalProperties"))

_LARGEST = 10**15  # an unbounded number could go on for as many digits as there are tokens


def _closed(schema: Any, depth: int = 1) -> Any:
    """Return the schema with two defaults added: objects have no unlisted properties, and numbers have bounds."""
    if depth > MAX_DEPTH:
        raise GrammarError(f"The schema is nested more than {MAX_DEPTH} deep", step="flatten it")
    if not isinstance(schema, Mapping):
        return schema
    closed = dict(schema)
    for key, part in schema.items():
        if key in _BY_NAME and isinstance(part, Mapping):
            closed[key] = {name: _closed(subschema, depth + 1) for name, subschema in part.items()}
        elif key in _LISTED and isinstance(part, list):
            closed[key] = [_closed(subschema, depth + 1) for subschema in part]
        elif key in _SINGLE:
            closed[key] = _closed(part, depth + 1)
    if isinstance(schema.get("properties"), Mapping) and "allOf" not in schema:
        closed.setdefault("additionalProperties", False)
    types = schema.get("type")
    if any(kind in ("integer", "number") for kind in (types if isinstance(types, list) else [types])):
        if not {"minimum", "exclusiveMinimum"} & set(schema):
            closed["minimum"] = -_LARGEST
        if not {"maximum", "exclusiveMaximum"} & set(schema):
            closed["maximum"] = _LARGEST
    return closed


def _plain(definition: Mapping[str, Any]) -> Any:
    """Return a schema as plain JSON data.

    Raises GrammarError for NaN, for infinities and for texts with lone surrogates.
    """
    try:
        text = json.dumps(definition, allow_nan=False, ensure_ascii=False)
        check_size("schema", text)
        return json.loads(text)
    except (TypeError, ValueError, RecursionError) as error:
        step = "use only the types and numbers of JSON"
        raise GrammarError(f"The schema cannot be written as JSON ({error})", step=step) from None


def _checked(what: str, compiled: str) -> str:
    from llguidance import LLMatcher

    failed, messages = LLMatcher.validate_grammar_with_warnings(compiled)
    if failed:
        raise GrammarError(f"The {what} does not compile ({_line(messages[0])})", step="correct it")
    return compiled


def _line(message: str) -> str:
    return " ".join(message.split())[:300]
