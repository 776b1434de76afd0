"""Tests that an answer is always in the row's answer set, for any logits of the model and any text in the row."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecellm_lite import (
    InputError,
    ModelError,
    Runtime,
)
from ecellm_lite.answers.decoding import Logits
from ecellm_lite.answers.score import Score
from ecellm_lite.answers.text import Text
from ecellm_lite.engine.fake import END, FakeBackend, FakeVocabulary
from ecellm_lite.tasks.fields import is_blank
from ecellm_lite.tasks.registry import TASKS
from tests.support.answer_checks import EXAMPLES, HOSTILE, KINDS, NOT_FINITE, check, hard
from tests.support.refusals import refusal


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", TASKS)
def test_any_logits_give_an_answer_from_the_answer_set(name: str, kind: str) -> None:
    row = EXAMPLES[name]
    with Runtime.over(FakeBackend(hard(kind))) as runtime:
        answer = runtime.answer(name, row)
    check(answer, row, TASKS[name].question(row).space)


texts = st.text(max_size=60).filter(lambda text: not is_blank(text))


@settings(max_examples=60)
@given(
    title=texts,
    description=texts,
    attributes=st.lists(texts, min_size=1, max_size=3),
    kind=st.sampled_from(KINDS),
)
def test_extraction_copies_its_values_from_any_texts(
    title: str, description: str, attributes: list[str], kind: str
) -> None:
    row = {"title": title, "description": description, "attributes": attributes}
    space = TASKS["attribute_value_extraction"].question(row).space
    with Runtime.over(FakeBackend(hard(kind), cells=1 << 14)) as runtime:
        check(runtime.answer("attribute_value_extraction", row), row, space)


@settings(max_examples=60)
@given(
    candidates=st.lists(texts, min_size=2, max_size=26),
    products=st.lists(texts, min_size=1, max_size=8),
    review=texts,
    kind=st.sampled_from(KINDS),
)
def test_choices_and_rankings_for_any_text(candidates: list[str], products: list[str], review: str, kind: str) -> None:
    rows: dict[str, dict[str, Any]] = {
        "sequential_recommendation": {"history": [review], "candidates": candidates},
        "query_product_ranking": {"query": review, "products": products},
        "sentiment_analysis": {"review": review},
    }
    with Runtime.over(FakeBackend(hard(kind), cells=1 << 14)) as runtime:
        for name, row in rows.items():
            check(runtime.answer(name, row), row, TASKS[name].question(row).space)


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text)[:20])
def test_hostile_text_stays_text(text: str) -> None:
    rows: dict[str, dict[str, Any]] = {
        "sentiment_analysis": {"review": text},
        "attribute_value_extraction": {"title": text, "attributes": [text or "x"]},
        "product_matching": {"product_1": {"title": text, "description": text}, "product_2": {"title": text}},
        "answerability_prediction": {"question": text, "documents": [text]},
        "query_product_ranking": {"query": text, "products": [text, text]},
        "sequential_recommendation": {"history": [text], "candidates": [text, text]},
    }
    with Runtime.over(FakeBackend(cells=1 << 14)) as runtime:
        for name, row in rows.items():
            answer = runtime.answer(name, row)
            check(answer, row, TASKS[name].question(row).space)
            json.dumps(answer.as_dict()).encode("ascii")


def test_a_score_is_the_weighted_position() -> None:
    levels = ("poor", "fair", "good", "great")
    with Runtime.over(FakeBackend()) as runtime:
        answer = runtime.answer("sentiment_analysis", {"review": "x"}, space=Score(levels))
    assert answer.type == "score"
    assert answer.probabilities is not None
    assert answer.value == pytest.approx(sum((1 + i) * answer.probabilities[level] for i, level in enumerate(levels)))
    assert answer.text in levels


def test_options_with_a_common_beginning_get_exact_probabilities() -> None:
    options = json.dumps(["A: x", "B: x"])
    row = {"instruction": "i", "input": "t", "options": options}
    with Runtime.over(FakeBackend()) as runtime:
        whole = runtime.answer("sentiment_analysis", row)
        levels = runtime.answer("sentiment_analysis", row, space=Score(("very good", "very", "very bad", "bad")))
    assert whole.value in {"A", "B"}
    assert levels.probabilities is not None
    assert abs(sum(levels.probabilities.values()) - 1) < 1e-9


def test_extraction_is_bounded() -> None:
    row = {"title": "-" * 20_000, "attributes": ["a"]}
    with Runtime.over(FakeBackend(cells=1 << 16)) as runtime, refusal(InputError, "20,000"):
        runtime.answer("attribute_value_extraction", row)
    many = {
        "instruction": "i",
        "input": json.dumps({"product title": "x", "target attributes": " and ".join("a" * 101)}),
    }
    with Runtime.over(FakeBackend()) as runtime, refusal(InputError, 101, field="input"):
        runtime.answer("attribute_value_extraction", many)


@pytest.mark.parametrize(
    "options", ["{[]: 1}", "[{['a']: 1}]", "[1,2]", "x" * 70_000, "[" * 60_000, "['A: \\d', 'B: x']"]
)
def test_hostile_options_are_parsed_or_refused(options: str) -> None:
    row = {"instruction": "i", "input": "t", "options": options}
    with Runtime.over(FakeBackend()) as runtime:
        [answer] = runtime.answers("sentiment_analysis", [row])
    assert (answer.error is None) == options.startswith("['A")


def test_text_stops_at_the_limit_and_at_the_end_token() -> None:
    def letters(tokens: Sequence[int]) -> Logits:
        row = np.zeros(FakeVocabulary.size, dtype=np.float32)
        row[ord("a") if tokens[-3:] != [97, 97, 97] else END] = 5
        return row

    row = EXAMPLES["answer_generation"]
    with Runtime.over(FakeBackend(letters)) as runtime:
        assert runtime.answer("answer_generation", row).text == "aaa"
        assert runtime.answer("answer_generation", row, space=Text(max_tokens=2)).text == "aa"


def test_sampled_text_depends_on_the_seed() -> None:
    row = EXAMPLES["answer_generation"]
    texts_of = []
    for seed in (1, 1, 2):
        with Runtime.over(FakeBackend()) as runtime:
            texts_of.append(runtime.answer("answer_generation", row, space=Text(20, temperature=1.0), seed=seed).text)
    assert texts_of[0] == texts_of[1] != texts_of[2]


@pytest.mark.parametrize("kind", NOT_FINITE)
@pytest.mark.parametrize("name", TASKS)
def test_logits_that_are_not_finite_are_an_error(name: str, kind: str) -> None:
    with Runtime.over(FakeBackend(hard(kind), cells=1 << 14)) as runtime, refusal(ModelError, settings=("gpu_layers",)):
        runtime.answer(name, EXAMPLES[name])


def test_logits_that_are_not_finite_fail_only_their_own_row() -> None:
    def logits(tokens: Sequence[int]) -> Logits:
        return hard("nan" if b"loud" in bytes(token for token in tokens if token < 256) else "scattered")(tokens)

    rows = [{"review": review} for review in ("It is fine.", "It is loud.", "It is good.")]
    with Runtime.over(FakeBackend(logits)) as runtime:
        answers = list(runtime.answers("sentiment_analysis", rows))
    assert [answer.error is None for answer in answers] == [True, False, True]
    assert answers[1].error
    assert answers[1].error.code == ModelError.code
    assert answers[1].probabilities is answers[1].value is None
