"""Tests that each answer fits its JSON schema or grammar, and that harmful schemas and grammars are refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecellm_lite import (
    GrammarError,
    Runtime,
    grammar,
    schema,
)
from ecellm_lite.answers.closing import Closing
from ecellm_lite.answers.gbnf import lark_of
from ecellm_lite.answers.limits import MAX_DEPTH
from ecellm_lite.answers.space import Space
from ecellm_lite.answers.structured import Structured
from ecellm_lite.engine.fake import FakeBackend, FakeVocabulary
from tests.support.answer_checks import EXAMPLES, hard
from tests.support.refusals import refusal


@pytest.mark.parametrize("kind", ["scattered", "equal", "huge"])
def test_an_answer_obeys_its_schema(kind: str) -> None:
    definition = {
        "type": "object",
        "properties": {
            "verdict": {"enum": ["keep", "drop"]},
            "stars": {"type": "integer", "minimum": 1, "maximum": 5},
        },
        "required": ["verdict", "stars"],
    }
    with Runtime.over(FakeBackend(hard(kind))) as runtime:
        answer = runtime.answer("answer_generation", EXAMPLES["answer_generation"], space=schema(definition))
    assert answer.type == "schema"
    assert set(answer.value) == {"verdict", "stars"}
    assert answer.value["verdict"] in {"keep", "drop"}
    assert answer.value["stars"] in range(1, 6)
    assert answer.text == json.dumps(answer.value)
    assert [answer.probability, answer.probabilities, answer.confidence, answer.coverage] == [None] * 4


def test_an_answer_obeys_its_grammar() -> None:
    with Runtime.over(FakeBackend()) as runtime:
        answer = runtime.answer(
            "answer_generation", EXAMPLES["answer_generation"], space=grammar('start: "SKU-" /[0-9]{4}/')
        )
    assert answer.type == "text"
    assert answer.text is not None
    assert answer.text.startswith("SKU-")
    assert len(answer.text) == 8


@pytest.mark.parametrize(
    "make",
    [
        lambda: grammar("start: ("),
        lambda: grammar("start: undefined"),
        lambda: grammar("start: " + "(" * 5000 + '"a"' + ")" * 5000),
        lambda: grammar("x" * 300_000),
        lambda: schema({"type": "nonsense"}),
        lambda: schema({"$ref": "https://example.com/schema"}),
    ],
)
def test_a_grammar_that_does_not_compile_is_refused(make: Callable[[], Space]) -> None:
    with pytest.raises(GrammarError):
        make()


def test_a_limit_too_short_to_close_the_json_is_an_error() -> None:
    long = schema({"type": "array", "items": {"type": "integer"}, "minItems": 50}, max_tokens=10)
    with Runtime.over(FakeBackend()) as runtime, refusal(GrammarError, 10, settings=("max_tokens",)):
        runtime.answer("answer_generation", EXAMPLES["answer_generation"], space=long)


def test_a_schema_means_the_same_after_it_is_rewritten() -> None:
    both = {
        "allOf": [
            {"properties": {"a": {"type": "boolean"}}, "required": ["a"]},
            {"properties": {"b": {"type": "boolean"}}, "required": ["b"]},
        ]
    }
    with Runtime.over(FakeBackend()) as runtime:
        answer = runtime.answer(
            "answer_generation",
            EXAMPLES["answer_generation"],
            space=schema(
                {
                    "type": "object",
                    "properties": {"properties": {"const": {"properties": {"x": 1}}}},
                    "required": ["properties"],
                }
            ),
        )
        assert answer.value == {"properties": {"properties": {"x": 1}}}
    assert schema(both).type == "schema"
    brackets = {"enum": [f":({number}" for number in range(100)]}
    assert schema(brackets).type == "schema"
    deep: dict[str, Any] = {"type": "boolean"}
    for _ in range(600):
        deep = {"type": "array", "items": deep}
    with refusal(GrammarError, MAX_DEPTH):
        schema(deep)
    for levels in (65, 200, 100_000):
        with pytest.raises(GrammarError):
            schema({"type": "array"}).parse("[" * levels + "]" * levels)
    assert schema({"type": "array"}).parse("[" * 64 + "]" * 64)
    assert grammar(r'start: ")))(((" /[(]{2}/ ' + '"("' * 100).type == "text"
    with refusal(GrammarError, MAX_DEPTH):
        grammar('start: ")' + ")" * 500 + '"' + "(" * 100 + '"a"' + ")" * 100)


def test_forced_tokens_count_against_the_limit() -> None:
    long = grammar(f'start: "{"ab" * 300}"', max_tokens=10)
    with Runtime.over(FakeBackend()) as runtime, refusal(GrammarError, 10, settings=("max_tokens",)):
        runtime.answer("answer_generation", EXAMPLES["answer_generation"], space=long)


TEXT: Mapping[str, Any] = {"type": "string"}
NODE = {
    "type": "object",
    "properties": {"name": TEXT, "kids": {"type": "array", "items": {"$ref": "#/$defs/node"}}},
    "required": ["name", "kids"],
}
CLOSABLE: dict[str, dict[str, Any]] = {
    "text": {"type": "object", "properties": {"a": TEXT}, "required": ["a"]},
    "list": {"type": "array", "items": TEXT},
    "tree": {"$ref": "#/$defs/node", "$defs": {"node": NODE}},
    "any object": {"type": "object"},
    "kinds": {
        "type": "object",
        "properties": {
            "why": {"type": "string", "minLength": 4},
            "sure": {"type": "boolean"},
            "days": {"type": "integer", "minimum": 3, "maximum": 90},
            "kind": {"enum": ["keep", "drop"]},
            "either": {"anyOf": [{"type": "null"}, {"type": "object", "properties": {"x": {"type": "number"}}}]},
        },
        "required": ["why", "sure", "days", "kind", "either"],
    },
    "forms": {
        "type": "object",
        "properties": {
            "day": {"type": "string", "format": "date"},
            "code": {"type": "string", "pattern": "^[A-Z]{3}-[0-9]{2}$"},
        },
        "required": ["day", "code"],
    },
}


def matcher_of(space: Structured) -> Any:
    from llguidance import LLMatcher

    return LLMatcher(FakeVocabulary().grammar_tokenizer(), space.compiled, log_level=0)


@pytest.mark.parametrize("temperature", [0.0, 1.5])
@pytest.mark.parametrize("kind", ["scattered", "equal", "huge", "end"])
@pytest.mark.parametrize("name", CLOSABLE)
def test_json_is_closed_before_its_limit(name: str, kind: str, temperature: float) -> None:
    """The test tries several limits. The smallest just fits the JSON that class Closing builds without the model."""
    vocabulary = FakeVocabulary()
    definition = CLOSABLE[name]
    shortest = Closing(vocabulary)._closing_tokens(matcher_of(schema(definition)), b"", 100)
    assert shortest is not None
    with Runtime.over(FakeBackend(hard(kind))) as runtime:
        for limit in range(len(shortest), len(shortest) + 30, 7):
            space = schema(definition, max_tokens=limit, temperature=temperature)
            answer = runtime.answer("answer_generation", EXAMPLES["answer_generation"], space=space)
            assert answer.text is not None
            assert answer.value == json.loads(answer.text)
            assert answer.shortened in {None, f"answer: closed at {limit} tokens"}
            read = matcher_of(space)
            assert read.consume_tokens(vocabulary.tokenize(answer.text))
            assert read.is_accepting()


def test_only_an_answer_that_was_closed_early_says_so() -> None:
    with Runtime.over(FakeBackend()) as runtime:
        answers = {
            limit: runtime.answer(
                "answer_generation",
                EXAMPLES["answer_generation"],
                space=schema(CLOSABLE["text"], max_tokens=limit),
            )
            for limit in (20, 300, 400)
        }
    assert answers[20].shortened == "answer: closed at 20 tokens"
    assert answers[300].shortened is None
    # An answer with enough room is the same under any limit.
    assert answers[300].text == answers[400].text
    assert answers[400].text is not None
    assert answers[20].text is not None
    assert answers[400].text.startswith(answers[20].text[:10])


def test_json_is_closed_before_the_end_of_the_context() -> None:
    row = EXAMPLES["answer_generation"]
    with Runtime.over(FakeBackend()) as runtime:
        prompt = len(runtime.tokenize(runtime.prompt("answer_generation", row)))
    with Runtime.over(FakeBackend(cells=prompt + 20)) as runtime:
        answer = runtime.answer("answer_generation", row, space=schema(CLOSABLE["text"]))
        assert answer.shortened == "answer: closed at 20 tokens"


def test_an_answer_is_cut_back_to_where_its_grammar_was_complete() -> None:
    lines = grammar('start: line+\nline: /[a-z]{5,9}/ "\\n"', max_tokens=50)
    with Runtime.over(FakeBackend()) as runtime:
        answer = runtime.answer("answer_generation", EXAMPLES["answer_generation"], space=lines)
    assert answer.shortened == "answer: closed at 50 tokens"
    assert answer.text is not None
    assert answer.text.endswith("\n")
    assert matcher_of(lines).consume_tokens(FakeVocabulary().tokenize(answer.text))


def test_an_answer_that_cannot_be_closed_is_an_error() -> None:
    words = grammar('start: /[a-z]+/ "."', max_tokens=10)
    flat = FakeBackend(lambda tokens: np.arange(FakeVocabulary.size, dtype=np.float32) % 123)
    with Runtime.over(flat) as runtime, refusal(GrammarError, 10, settings=("max_tokens",)):
        runtime.answer("answer_generation", EXAMPLES["answer_generation"], space=words)


GBNF = r"""
# an article's number: letters, digits, and one of two endings
root   ::= "SKU-" letter{2} [0-9]+ ("\u00e9" | end)?
letter ::= [A-Z&-]
end    ::= "." | "\x2D" "x"
"""


@pytest.mark.parametrize("kind", ["scattered", "equal", "end"])
def test_an_answer_obeys_its_gbnf_grammar(kind: str) -> None:
    with Runtime.over(FakeBackend(hard(kind))) as runtime:
        answer = runtime.answer(
            "answer_generation", EXAMPLES["answer_generation"], space=grammar(GBNF.replace("[0-9]+", "[0-9]{1,9}"))
        )
    assert answer.type == "text"
    assert answer.text is not None
    assert re.fullmatch(r"SKU-[A-Z&-]{2}[0-9]{1,9}(é|\.|-x)?", answer.text)


def test_special_characters_of_gbnf_are_translated() -> None:
    assert lark_of('root ::= "\\x01" [^\\]^-] [a-c-]').splitlines()[-1] == (
        'start: "" /[\\x01]/ "" /[^\\x5d\\x5e\\x2d]/ /[a-c\\x2d]/'
    )
    # Names that differ in case or punctuation, and one that Lark reserves.
    assert (
        grammar('root ::= aB | a-b | a_b | start\naB ::= "1"\na-b ::= "2"\na_b ::= "3"\nstart ::= "4"').type == "text"
    )
    assert "\U0010ffff" in lark_of("root ::= .")


@pytest.mark.parametrize(
    ("text", "line", "value"),
    [
        ('root ::= "a"\n\nroot ::= "b"', 3, "'root'"),
        ("root ::= a\na ::= b\n", 2, "'b'"),
        ('root ::= "a"\nb ::= [', 2, "'['"),
        ('root ::= "\\q"', 1, "q"),
        ('root ::= "a"{5,2}', 1, "{5,2}"),
        ('root ::= ("a"', None, ""),
        ("root ::= [b-a]", None, ""),
        ('a ::= "b"', None, "'root'"),
    ],
)
def test_gbnf_errors_name_the_line(text: str, line: int | None, value: str) -> None:
    with refusal(GrammarError, value, line=line):
        grammar(text)


@given(
    st.lists(
        st.sampled_from([*'()|*+?.[]{}"\\^-,#\n ', "root", "a", "::=", "[a]", '"b"', "{2}", "\\u00e9", "1"]),
        max_size=30,
    )
)
def test_any_text_is_a_grammar_or_raises_our_error(parts: list[str]) -> None:
    with suppress(GrammarError):
        assert grammar('root ::= "x" | ' + "".join(parts)).type == "text"


def test_a_type_may_be_one_of_several() -> None:
    space = schema({"type": ["integer", "null"]}, max_tokens=20)
    with Runtime.over(FakeBackend()) as runtime:
        answer = runtime.answer("answer_generation", EXAMPLES["answer_generation"], space=space)
    assert answer.value is None or abs(answer.value) <= 10**15


def test_rules_that_could_nest_too_deep_are_refused() -> None:
    def rules(count: int) -> str:
        return "\n".join(["start: r0", *(f'r{number}: ((("a")))' for number in range(count))])

    assert isinstance(grammar(rules(60)), Space)  # 60 rules of 4 levels, and the first one
    with pytest.raises(GrammarError):
        grammar(rules(70))
