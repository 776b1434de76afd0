"""Tests that each grammar is compiled only once, although each answer has its own matcher for the grammar."""

from __future__ import annotations

from typing import Any

import llguidance
import pytest
from llguidance import LLMatcher

from ecellm_lite.answers import matchers
from ecellm_lite.engine.fake import FakeVocabulary


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    texts: list[str] = []

    def compile_(tokenizer: Any, text: str, **options: Any) -> Any:
        texts.append(text)
        return LLMatcher(tokenizer, text, **options)

    monkeypatch.setattr(llguidance, "LLMatcher", compile_)
    return texts


def compiled(text: str) -> str:
    grammar: str = LLMatcher.grammar_from_lark(f'start: "{text}"')
    return grammar


def test_a_grammar_is_compiled_once_and_its_matchers_are_independent(compilations: list[str]) -> None:
    vocabulary, text = FakeVocabulary(), compiled("yes")
    one = matchers.new_matcher(vocabulary, text)
    tokens = vocabulary.tokenize("yes")
    assert one.consume_tokens(tokens)
    other = matchers.new_matcher(vocabulary, text)
    assert one.is_accepting()
    assert not other.is_accepting()
    assert other.consume_tokens(tokens)
    assert compilations == [text]


def test_another_vocabulary_compiles_again(compilations: list[str]) -> None:
    text = compiled("yes")
    for vocabulary in (FakeVocabulary(), FakeVocabulary()):
        matchers.new_matcher(vocabulary, text)
    assert compilations == [text, text]


def test_the_least_recently_used_grammar_is_forgotten(compilations: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matchers, "GRAMMARS", 2)
    vocabulary = FakeVocabulary()
    one, two, three = map(compiled, ("one", "two", "three"))
    for text in (one, two, one, three, one, two):
        matchers.new_matcher(vocabulary, text)
    assert compilations == [one, two, three, two]
