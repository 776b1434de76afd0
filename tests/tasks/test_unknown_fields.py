"""Tests the warning about keys of a row that are probably misspelt names of fields."""

from __future__ import annotations

from typing import Any

import pytest

from ecellm_lite import Answer, Runtime
from ecellm_lite.engine.fake import FakeBackend
from ecellm_lite.pipe.child_runtime import ChildRuntime
from ecellm_lite.tasks.registry import get_task
from ecellm_lite.tasks.unknown_fields import misspelt_keys
from tests.pipe.host import FAKE_PIPE
from tests.support.answer_checks import EXAMPLES

PAN = {"title": "Lodge pan", "descripton": "20 cm", "prise": 5}
OTHERS = {"id": 7, "gold": "B", "notes": "new", "rating": 4, "sku": "A1", "image_path": "a.png", "price_old": 3, 5: 6}


def answered(task: str, row: Any, **options: Any) -> Answer:
    with Runtime.over(FakeBackend()) as runtime:
        return runtime.answer(task, row, **options)


def messages(answer: Answer) -> list[str]:
    return [warning.message for warning in answer.warnings or () if warning.code == "unknown_field"]


@pytest.mark.parametrize(
    ("task", "row", "places"),
    [
        (
            "product_matching",
            {"product_1": PAN, "product_2": {"title": "a"}},
            {"product_1.descripton": "description", "product_1.prise": "price"},
        ),
        (
            "product_matching",
            {"product_1": {"title": "a", "PRICE": 5}, "product_2": {"title": "b"}},
            {"product_1.PRICE": "price"},
        ),
        (
            "attribute_value_extraction",
            {"title": "a", "attributes": ["Color"], "features": "b"},
            {"features": "feature"},
        ),
        ("sentiment_analysis", {"input": {"review": "a", "image_captions": "b"}}, {"image_captions": "image_caption"}),
        (
            "sequential_recommendation",
            {"history": ["a", {"title": "b", "brnad": "c"}], "candidates": ["a", "b"]},
            {"history[1].brnad": "brand"},
        ),
        (
            "product_relation_prediction",
            {"product_1": "a", "product_2": {"title": "b", "Image_Caption": "c"}},
            {"product_2.Image_Caption": "image_caption"},
        ),
    ],
)
def test_a_misspelt_key_is_named_with_its_place_and_the_field(task: str, row: Any, places: dict[str, str]) -> None:
    [message] = messages(answered(task, row))
    words = [word.strip("(),.") for word in message.split()]
    for place, field in places.items():
        assert {place, field} <= set(words)
    assert sum("prise" in word for word in words) == ("product_1.prise" in places)


@pytest.mark.parametrize("task", EXAMPLES)
def test_other_keys_are_no_mistakes(task: str) -> None:
    assert not messages(answered(task, {**EXAMPLES[task], **OTHERS}))


def test_a_key_like_a_field_that_the_row_has_is_no_mistake() -> None:
    record = {"title": "a", "description": None, "descriptions": "b", "title2": "c", "manufacturer": "d"}
    assert not messages(answered("product_matching", {"product_1": record, "product_2": {"title": "b"}}))


def test_a_row_in_the_data_sets_form_has_no_fields_to_misspell() -> None:
    row = {"instruction": "i", "input": "a", "options": '["A: x", "B: y"]', "image_captoin": "b"}
    assert not messages(answered("sentiment_analysis", row))


def test_a_shortened_row_keeps_the_warning() -> None:
    row = {"title": "a", "description": "long " * 5000, "brnad": "b", "attributes": ["Color"]}
    answer = answered("attribute_value_extraction", row, shorten=True)
    assert answer.shortened
    assert len(messages(answer)) == 1


def test_the_warning_is_the_same_from_a_child_process() -> None:
    rows: list[tuple[str, Any]] = [
        ("product_matching", {"product_1": PAN, "product_2": {"title": "a"}}),
        ("sentiment_analysis", {"review": "a", "image_captoin": {1, 2}}),
    ]
    with ChildRuntime(command=FAKE_PIPE) as child:
        for task, row in rows:
            assert messages(child.answer(task, row)) == messages(answered(task, row)) != []


def test_of_very_many_keys_and_objects_only_some_are_searched() -> None:
    task = get_task("sentiment_analysis")
    many = {f"key {number}": 1 for number in range(100)}
    assert misspelt_keys(task.fields, {"review": "a", "image_captoin": 1, **many})
    assert not misspelt_keys(task.fields, {"review": "a", **many, "image_captoin": 1})

    task = get_task("sequential_recommendation")
    items = [{"title": "a"}] * 100
    misspelt = [{"title": "a", "brnad": "b"}] * 7
    assert task.warnings({"history": [*misspelt, *items], "candidates": ["a", "b"]})
    assert not task.warnings({"history": [*items, *misspelt], "candidates": ["a", "b"]})
