"""Tests of captions of pictures: a row with a caption gets CASLIE's prompt, and any other row gets ECInstruct's."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ecellm_lite.errors import InputError
from ecellm_lite.tasks.captions import KEY
from ecellm_lite.tasks.registry import get_task, task_names
from tests.support.refusals import refusal

ROWS: dict[str, dict[str, Any]] = {
    "SA": {"review": "It works."},
    "MPC": {"query": "mouse", "title": "Mouse"},
    "PSI": {"query": "mouse", "title": "Mouse"},
    "AP": {"question": "Loud?", "documents": ["Quiet."]},
}
INPUTS: dict[str, dict[str, Any]] = {
    "SA": {"review": "It works."},
    "MPC": {"query": "mouse", "product title": "Mouse"},
    "PSI": {"query": "mouse", "product title": "Mouse"},
    "AP": {"question": "Loud?", "document": ["Quiet."]},
}


@pytest.mark.parametrize("task", ROWS)
@pytest.mark.parametrize(
    ("caption", "value"), [("A mouse.", "A mouse."), (None, None), ("", None), (" \n", None), (float("nan"), None)]
)
def test_a_caption_is_the_last_key_of_the_input(task: str, caption: object, value: str | None) -> None:
    question = get_task(task).question({**ROWS[task], "image_caption": caption})
    assert question.text == json.dumps({**INPUTS[task], KEY: value})
    plain = get_task(task).question(ROWS[task])
    assert (question.options, question.instruction, question.space) == (plain.options, plain.instruction, plain.space)
    assert KEY not in plain.text


def test_two_products_have_a_caption_each() -> None:
    ask = get_task("PRP").question
    row: dict[str, Any] = {"product_1": {"title": "Cable", "image_caption": "A cable."}, "product_2": "Plug"}
    assert json.loads(ask(row).text) == {
        "product 1": "Cable",
        "product 2": "Plug",
        "product 1 information extracted from image": "A cable.",
        "product 2 information extracted from image": None,
    }
    plain = ask({"product_1": {"title": "Cable"}, "product_2": "Plug"})
    assert (
        plain.text
        == ask({"product_1": "Cable", "product_2": "Plug"}).text
        == '{"Product 1:": "Cable", "Product 2:": "Plug"}'
    )


def test_an_items_caption_follows_its_text() -> None:
    items = ["Tent", {"title": "Stove", "image_caption": 'It\'s "red".'}, {"title": "Mat", "image_caption": None}]
    question = get_task("SR").question({"history": items, "candidates": items})
    assert json.loads(question.text) == ["1st: Tent", '2nd: Stove. It\'s "red".', "3rd: Mat."]
    assert json.loads(question.options or "") == ["A: Tent", 'B: Stove. It\'s "red".', "C: Mat."]
    assert get_task("SR").question({"history": ["Tent"], "candidates": ["a", "b"]}).text == "['1st: Tent']"


def test_a_category_is_chosen_by_its_letter() -> None:
    task = get_task("CC")
    question = task.question({"title": "Mouse", "categories": ["Mice", "Cats"]})
    assert json.loads(question.text) == {"title": "Mouse", KEY: None}
    assert question.options == '["A: Mice", "B: Cats"]'
    assert question.space.alternatives == ("A", "B")
    assert task.question(task.example()).space.alternatives == ("A", "B", "C")
    assert task.name in task_names()


def test_a_row_in_the_data_sets_form_is_unchanged() -> None:
    text = json.dumps({"review": "It works.", KEY: "A mouse."})
    row = {"instruction": "Do.", "input": text, "options": '["A: good", "B: bad"]'}
    assert get_task("SA").question(row).text == text


@pytest.mark.parametrize("caption", [True, ["A mouse."], {"text": "A mouse."}])
def test_invalid_captions_are_refused(caption: object) -> None:
    with refusal(InputError, "image_caption", "text or null", field="image_caption"):
        get_task("SA").question({"review": "It works.", "image_caption": caption})
    with pytest.raises(InputError) as caught:
        get_task("PRP").question({"product_1": {"title": "a", "image_caption": caption}, "product_2": "b"})
    assert caught.value.field == "product_1.image_caption"
