"""Tests the errors for bad rows: each names the field and the wrong value, and shows a valid value."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.questions import refusal


@pytest.mark.parametrize(
    ("task", "row", "field", "token"),
    [
        ("attribute_value_extraction", {"title": "Mug"}, "attributes", "title"),
        ("attribute_value_extraction", {"title": "Mug", "attribute": ["Color"]}, "attributes", "'attribute'"),
        ("product_relation_prediction", {"first": "a", "product_2": "b"}, "product_1", "product_2"),
        ("product_relation_prediction", {"product_1": "a", "second": "b"}, "product_2", "product_1"),
        ("product_matching", {"left": {"title": "a"}, "right": {"title": "b"}}, "product_1", "'left', 'right'"),
        ("product_matching", {"product_1": {"title": "a"}, "right": {"title": "b"}}, "product_2", "product_1"),
        ("product_matching", {"product_1": {"name": "a"}, "product_2": {"title": "b"}}, "product_1.title", "name"),
        ("product_matching", {"product_1": {"title": "a"}, "product_2": {}}, "product_2.title", "nothing"),
        ("sentiment_analysis", {}, "review", "nothing"),
        ("sentiment_analysis", {"id": 3, "comment": "Good."}, "review", "'id', 'comment'"),
        ("sentiment_analysis", {"reviw": "Good."}, "review", "'reviw'"),
        ("sentiment_analysis", {"input": {"text": "Good."}}, "review", "text"),
        ("sequential_recommendation", {"candidates": ["a", "b"]}, "history", "candidates"),
        ("sequential_recommendation", {"history": ["a"], "candidate": ["a", "b"]}, "candidates", "'candidate'"),
        (
            "sequential_recommendation",
            {"history": [{"brand": "b"}], "candidates": ["a", "b"]},
            "history[0].title",
            "brand",
        ),
        ("sequential_recommendation", {"history": ["a"], "candidates": ["a", {}]}, "candidates[1].title", "nothing"),
        ("multiclass_product_classification", {"title": "Mug"}, "query", "title"),
        ("multiclass_product_classification", {"query": "mug"}, "title", "query"),
        ("product_substitute_identification", {"title": "Mug"}, "query", "title"),
        ("product_substitute_identification", {"query": "mug"}, "title", "query"),
        ("query_product_ranking", {"products": ["Mug"]}, "query", "products"),
        ("query_product_ranking", {"query": "mug"}, "products", "query"),
        ("query_product_ranking", {"query": "mug", "product": ["Mug"]}, "products", "'product'"),
        ("answerability_prediction", {"documents": ["a"]}, "question", "documents"),
        ("answerability_prediction", {"question": "a?"}, "documents", "question"),
        ("answer_generation", {"documents": ["a"]}, "question", "documents"),
        ("answer_generation", {"question": "a?", "document": ["a"]}, "documents", "'document'"),
    ],
)
def test_a_missing_field_is_refused(task: str, row: dict[str, Any], field: str, token: str) -> None:
    error = refusal(task, row)
    assert error.field == field
    assert token in error.message
    assert f'{{"{bare(field)}": ' in (error.step or "")


@pytest.mark.parametrize("value", [None, float("nan")])
def test_null_counts_as_missing(value: float | None) -> None:
    assert refusal("sentiment_analysis", {"review": value}).field == "review"


@pytest.mark.parametrize("row", [{"name": "Mug"}, {"title": " ", "description": ["", "\u200b"], "price": ""}])
def test_extraction_needs_at_least_one_text(row: dict[str, Any]) -> None:
    error = refusal("attribute_value_extraction", {"attributes": ["Color"], **row})
    for field in ("title", "description", "feature", "price", "brand"):
        assert field in error.message
    assert '{"title": ' in (error.step or "")


@pytest.mark.parametrize(
    ("task", "row", "field", "value"),
    [
        ("attribute_value_extraction", {"title": True, "attributes": ["a"]}, "title", "true"),
        ("attribute_value_extraction", {"description": ["a", True], "attributes": ["a"]}, "description[1]", "true"),
        ("attribute_value_extraction", {"feature": {"a": "b"}, "attributes": ["a"]}, "feature", '{"a": "b"}'),
        ("attribute_value_extraction", {"price": ["$3"], "attributes": ["a"]}, "price", '["$3"]'),
        ("attribute_value_extraction", {"price": True, "attributes": ["a"]}, "price", "true"),
        ("attribute_value_extraction", {"brand": float("inf"), "attributes": ["a"]}, "brand", "Infinity"),
        ("attribute_value_extraction", {"title": "a", "attributes": "Color"}, "attributes", '"Color"'),
        ("attribute_value_extraction", {"title": "a", "attributes": []}, "attributes", "[]"),
        ("attribute_value_extraction", {"title": "a", "attributes": ["a", None]}, "attributes[1]", "null"),
        ("product_relation_prediction", {"product_1": False, "product_2": "b"}, "product_1", "false"),
        ("product_relation_prediction", {"product_1": "a", "product_2": ["b"]}, "product_2", '["b"]'),
        ("product_matching", {"product_1": "a", "product_2": {"title": "b"}}, "product_1", '"a"'),
        ("product_matching", {"product_1": {"title": "a"}, "product_2": ["b"]}, "product_2", '["b"]'),
        ("product_matching", {"product_1": {"title": []}, "product_2": {"title": "b"}}, "product_1.title", "[]"),
        (
            "product_matching",
            {"product_1": {"title": "a"}, "product_2": {"title": "b", "description": ["c"]}},
            "product_2.description",
            '["c"]',
        ),
        (
            "product_matching",
            {"product_1": {"title": "a", "manufacturer": {"x": 1}}, "product_2": {"title": "b"}},
            "product_1.manufacturer",
            '{"x": 1}',
        ),
        (
            "product_matching",
            {"product_1": {"title": "a", "price": False}, "product_2": {"title": "b"}},
            "product_1.price",
            "false",
        ),
        ("sentiment_analysis", {"review": 10**400}, "review", "1000"),
        ("sentiment_analysis", {"review": ["Good."]}, "review", '["Good."]'),
        ("sequential_recommendation", {"history": "a", "candidates": ["a", "b"]}, "history", '"a"'),
        ("sequential_recommendation", {"history": ["a", True], "candidates": ["a", "b"]}, "history[1]", "true"),
        ("sequential_recommendation", {"history": ["a"], "candidates": ["a"]}, "candidates", '["a"]'),
        ("sequential_recommendation", {"history": ["a"], "candidates": ["a", ["b"]]}, "candidates[1]", '["b"]'),
        (
            "sequential_recommendation",
            {"history": [{"title": "a", "category": "b"}], "candidates": ["a", "b"]},
            "history[0].category",
            '"b"',
        ),
        (
            "sequential_recommendation",
            {"history": ["a"], "candidates": ["a", {"title": "b", "brand": ["c"]}]},
            "candidates[1].brand",
            '["c"]',
        ),
        ("multiclass_product_classification", {"query": ["c"], "title": "a"}, "query", '["c"]'),
        ("multiclass_product_classification", {"query": "a", "title": ["b"]}, "title", '["b"]'),
        ("product_substitute_identification", {"query": True, "title": "a"}, "query", "true"),
        ("product_substitute_identification", {"query": "a", "title": False}, "title", "false"),
        ("query_product_ranking", {"query": {}, "products": ["a"]}, "query", "{}"),
        ("query_product_ranking", {"query": "a", "products": "b"}, "products", '"b"'),
        ("query_product_ranking", {"query": "a", "products": [{"title": "b"}]}, "products[0]", '{"title": "b"}'),
        ("query_product_ranking", {"query": "a", "products": []}, "products", "[]"),
        ("answerability_prediction", {"question": True, "documents": ["a"]}, "question", "true"),
        ("answerability_prediction", {"question": "a?", "documents": "b"}, "documents", '"b"'),
        ("answer_generation", {"question": ["a?"], "documents": ["b"]}, "question", '["a?"]'),
        ("answer_generation", {"question": "a?", "documents": [False]}, "documents[0]", "false"),
    ],
)
def test_a_field_of_the_wrong_type_is_refused(task: str, row: dict[str, Any], field: str, value: str) -> None:
    error = refusal(task, row)
    assert error.field == field
    assert value in error.message
    assert f'{{"{bare(field)}": ' in (error.step or "")
    # Nested, the error is the same.
    assert str(refusal(task, {"id": 1, "task": task, "input": row})) == str(error)


def bare(field: str) -> str:
    """Return a field's own name: `brand` for `candidates[1].brand`, and `history` for `history[0]`."""
    return field.split(".")[-1].split("[")[0]


@pytest.mark.parametrize(
    ("task", "field", "row"),
    [
        ("sequential_recommendation", "candidates", {"history": ["a"], "candidates": ["b"] * 27}),
        ("query_product_ranking", "products", {"query": "a", "products": ["b"] * 27}),
    ],
)
def test_more_than_26_options_are_refused(task: str, field: str, row: dict[str, Any]) -> None:
    error = refusal(task, row)
    assert error.field == field
    assert "27" in error.message
    assert "26" in (error.step or "")


@pytest.mark.parametrize("row", ["Good.", 3, None, ["Good."]])
def test_a_row_that_is_not_an_object_is_refused(row: Any) -> None:
    error = refusal("sentiment_analysis", row)
    assert "sentiment_analysis" in error.message
    assert {"Good.": '"Good."', "3": "3", "None": "null"}.get(str(row), '["Good."]') in error.message
    assert "review" in (error.step or "")
