"""Tests that a row that is too long is cut as little as possible, and only if its task and the request allow it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from ecellm_lite import ContextError
from ecellm_lite.answers.extraction import Extraction
from ecellm_lite.tasks.registry import TASKS
from tests.support.answer_checks import check
from tests.support.refusals import refusal
from tests.support.shortening import Row, documents, over, text, words


@dataclass(frozen=True)
class Case:
    """A row of a given size, the expected row after a cut, and the expected note about the cut, written by hand."""

    task: str
    context: int
    row: Callable[[int], Row]
    part: Callable[[Row, int], Row]
    note: Callable[[int, int], str]
    least: int = 1


def first_documents(row: Row, words: int) -> Row:
    documents: list[str] = []
    for document in row["documents"]:
        some = document.split(" ")[:words]
        words -= len(some)
        documents.append(" ".join(some))
        if not words:
            break
    return {**row, "documents": documents}


def documents_note(words: int, size: int) -> str:
    return f"documents: the first {words:,} of {size * 4:,} words, {-(-words // 4)} of {size:,} texts"


def evenly(row: Row, words: int) -> Row:
    return {
        name: {**row[name], "description": " ".join(row[name]["description"].split(" ")[:share])}
        for name, share in (("product_1", -(-words // 2)), ("product_2", words // 2))
    }


CASES = [
    Case(
        "sentiment_analysis",
        700,
        lambda size: {"review": text(size)},
        lambda row, words: {"review": " ".join(row["review"].split(" ")[:words])},
        lambda words, size: f"review: the first {words:,} of {size:,} words",
    ),
    Case("answerability_prediction", 700, documents, first_documents, documents_note),
    Case("answer_generation", 900, documents, first_documents, documents_note),
    Case(
        "sequential_recommendation",
        900,
        lambda size: {"history": words(size), "candidates": ["tent", "lamp"]},
        lambda row, count: {**row, "history": row["history"][-count:]},
        lambda count, size: f"history: the last {count} of {size:,} items",
    ),
    Case(
        "product_matching",
        700,
        lambda size: {
            "product_1": {"title": "a", "description": text(size)},
            "product_2": {"title": "b", "description": text(size, "v")},
        },
        evenly,
        lambda count, size: "; ".join(
            f"product_{place}.description: the first {share} of {size:,} words"
            for place, share in ((1, -(-count // 2)), (2, count // 2))
            if share < size
        ),
        least=2,
    ),
    Case(
        "attribute_value_extraction",
        1100,
        lambda size: {"title": "a tent", "description": text(size), "attributes": ["color", "size"]},
        lambda row, count: {**row, "description": " ".join(row["description"].split(" ")[:count])},
        lambda count, size: f"description: the first {count:,} of {size:,} words",
    ),
]


@pytest.mark.parametrize("size", [1, 2, 5, 11, 20, 35, 50, 120, 1200])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.task)
def test_as_little_as_possible_is_cut(case: Case, size: int) -> None:
    row = case.row(size)
    with over(case.context) as runtime:
        answer = runtime.answer(case.task, row, shorten=True)
        prompt = runtime.last.prompt
        if runtime.needs(case.task, row) <= case.context:
            assert answer.shortened is None
            assert prompt == runtime.tokenize(runtime.prompt(case.task, row))
            return
        words = next(words for words in range(case.least, 2 * 4 * size) if answer.shortened == case.note(words, size))
        part = case.part(row, words)
        assert prompt == runtime.tokenize(runtime.prompt(case.task, part))
        assert runtime.needs(case.task, part) <= case.context
        assert runtime.needs(case.task, case.part(row, words + 1)) > case.context
        check(answer, part, TASKS[case.task].question(part).space)


def test_the_long_rows_of_this_test_exceed_the_context() -> None:
    """Check that each case's long row exceeds the context, and that its short row fits."""
    for case in CASES:
        with over(case.context) as runtime:
            assert runtime.needs(case.task, case.row(1)) <= case.context
            assert runtime.needs(case.task, case.row(120)) > case.context


def test_an_extraction_offers_only_what_the_model_sees() -> None:
    row = {"title": "a tent", "description": text(300), "feature": text(40, "f"), "attributes": ["color"] * 3}
    with over(1600) as runtime:
        answer = runtime.answer("attribute_value_extraction", row, shorten=True)
        space = runtime.last.space
    assert isinstance(space, Extraction)
    assert answer.shortened is not None
    note = re.fullmatch(r"description: the first (\d+) of 300 words", answer.shortened)
    assert note
    assert space.sources["product description"] == text(int(note[1]))
    assert space.sources["product feature"] == row["feature"]


def test_the_next_field_is_cut_if_the_first_is_not_enough() -> None:
    row = {"title": "a tent", "description": text(300), "feature": text(300, "f"), "attributes": ["color"]}
    with over(1100) as runtime:
        answer = runtime.answer("attribute_value_extraction", row, shorten=True)
        assert answer.shortened is not None
        note = re.fullmatch(
            r"description: the first 1 of 300 words; feature: the first (\d+) of 300 words", answer.shortened
        )
        assert note
        shortened = {**row, "description": "w0", "feature": text(int(note[1]), "f")}
        more = {**row, "description": "w0", "feature": text(int(note[1]) + 1, "f")}
        assert runtime.last.prompt == runtime.tokenize(runtime.prompt("attribute_value_extraction", shortened))
        assert runtime.needs("attribute_value_extraction", more) > 1100


def test_the_longer_of_two_is_cut_first() -> None:
    row = {
        "product_1": {"title": "a", "description": text(12)},
        "product_2": {"title": "b", "description": text(49, "v")},
    }
    with over(700) as runtime:
        answer = runtime.answer("product_matching", row, shorten=True)
        first = runtime.question.values
        assert first is not None
        assert first["product_1"] == row["product_1"]
        assert re.fullmatch(r"product_2.description: the first \d+ of 49 words", answer.shortened or "")
    row["product_2"].pop("description")
    row["product_1"]["description"] = text(3, "w" * 200)
    with over(700) as runtime:
        answer = runtime.answer("product_matching", row, shorten=True)
        assert re.fullmatch(r"product_1.description: the first \d+ of 21 words", answer.shortened or "")


def test_a_row_is_cut_only_on_request() -> None:
    row = {"review": text(200)}
    with over(700) as runtime:
        with refusal(ContextError, "review", settings=("context", "shorten")):
            runtime.answer("sentiment_analysis", row)
        [failed] = runtime.answers("sentiment_analysis", [row])
        [cut] = runtime.answers("sentiment_analysis", [row], shorten=True)
        with refusal(ContextError, settings=("context", "shorten")):
            runtime.answer("sentiment_analysis", {"review": text(200_000)})
    assert failed.error is not None
    assert failed.error.code == "context_exceeded"
    assert failed.usage is not None
    assert failed.usage.prompt_tokens > 700
    assert failed.shortened is None
    assert cut.error is None
    assert cut.shortened is not None


@pytest.mark.parametrize(
    "name",
    [
        "product_relation_prediction",
        "multiclass_product_classification",
        "product_substitute_identification",
        "query_product_ranking",
    ],
)
def test_titles_are_not_cut(name: str) -> None:
    row = {
        key: ["t" * 3000, "b"] if key == "products" else "q" if key == "query" else "t" * 3000
        for key in (field.name for field in TASKS[name].fields)
    }
    with over(1500) as runtime:
        for shorten in (False, True):
            with pytest.raises(ContextError) as caught:
                runtime.answer(name, row, shorten=shorten)
            assert caught.value.settings == ("context",)


def test_a_row_in_the_data_sets_form_is_not_cut() -> None:
    row = {"instruction": "Rate it.", "input": text(500), "options": '["A: good", "B: bad"]'}
    with over(700) as runtime:
        for shorten in (False, True):
            with pytest.raises(ContextError) as caught:
                runtime.answer("sentiment_analysis", row, shorten=shorten)
            assert caught.value.settings == ("context",)
        assert runtime.answer("sentiment_analysis", {**row, "input": "good"}, shorten=True).shortened is None


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("sentiment_analysis", {"review": "x"}),
        ("sentiment_analysis", {"review": " " * 5000 + "x"}),
        ("sequential_recommendation", {"history": ["one"], "candidates": ["a", "b" * 600]}),
        ("attribute_value_extraction", {"title": "t" * 900, "description": "one", "attributes": ["color"]}),
        ("answer_generation", {"question": "q" * 900, "documents": ["one", "two"]}),
    ],
)
def test_a_row_that_cannot_be_made_to_fit_is_an_error(name: str, row: Row) -> None:
    with over(380) as runtime, pytest.raises(ContextError):
        runtime.answer(name, row, shorten=True)


def test_an_instruction_that_is_too_long_is_named_as_the_cause() -> None:
    with over(700) as runtime, refusal(ContextError, settings=("context",)):
        runtime.answer("sentiment_analysis", {"review": text(50)}, instruction="Rate it. " * 100, shorten=True)
