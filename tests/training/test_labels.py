"""Tests that a labelled row's output becomes the answer that a model writes, or is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ecellm_lite.errors import InputError
from ecellm_lite.tasks.registry import get_task
from ecellm_lite.training.labels import read_label
from ecellm_lite.training.rows import read_rows
from tests.support.labelled_rows import COLOR, NO_SIZE, ROWS, write_lines
from tests.support.refusals import refusal

EXTRACTION = "attribute_value_extraction"
FIELDS = {"title": "Navy shirt", "attributes": ["Color", "Size"]}


@pytest.mark.parametrize("task", ROWS)
def test_a_label_in_a_models_form_stays_as_it_is(task: str) -> None:
    fields, outputs = ROWS[task]
    space = get_task(task).question({"input": fields}).space
    assert [read_label(space, output) for output in outputs] == outputs


@pytest.mark.parametrize(
    ("entries", "label"),
    [
        ([{**COLOR, "attribute": "Color"}], [COLOR]),
        ([COLOR, {"attribute": "SIZE", "value": None, "source": None}], [COLOR, NO_SIZE]),
        ([{"attribute": "size", "value": "", "source": "product title"}], [NO_SIZE]),
        ([COLOR, {**COLOR, "value": "blue"}], [COLOR, {**COLOR, "value": "blue"}]),
        ([], []),
    ],
)
def test_an_extraction_gets_a_models_form(entries: list[Any], label: list[Any]) -> None:
    space = get_task(EXTRACTION).question({"input": FIELDS}).space
    assert read_label(space, json.dumps(entries, separators=(",", ":"))) == json.dumps(label)


@pytest.mark.parametrize(
    ("changed", "value"),
    [
        ({"attribute": ["x"]}, "x"),
        ({"attribute": {"a": 1}}, "a"),
        ({"attribute": 1}, "1"),
        ({"attribute": None}, "null"),
        ({"attribute": "brand"}, "brand"),
        ({"value": ["Red"]}, "Red"),
        ({"value": 5}, "5"),
        ({"source": 3}, "3"),
    ],
)
def test_an_extraction_with_wrong_values_is_refused_with_its_line(
    changed: dict[str, Any], value: str, tmp_path: Path
) -> None:
    good, bad = ({"input": FIELDS, "output": json.dumps([entry])} for entry in (COLOR, COLOR | changed))
    path = write_lines(tmp_path / EXTRACTION / "train.jsonl", [good, bad])
    with refusal(InputError, value, line=2, field="output", file=str(path)):
        read_rows(tmp_path)


@pytest.mark.parametrize("output", ["", " ", "\n"])
def test_a_blank_output_is_refused_with_its_line(output: str, tmp_path: Path) -> None:
    row = {"input": {"question": "Is it loud?", "documents": ["No."]}, "output": output}
    path = write_lines(tmp_path / "answer_generation" / "train.jsonl", [row])
    with refusal(InputError, line=1, field="output", file=str(path)):
        read_rows(tmp_path)


def test_white_space_around_an_answer_is_not_learned() -> None:
    space = get_task("answer_generation").question({"input": ROWS["answer_generation"][0]}).space
    assert read_label(space, "\nIt lasts. ") == "It lasts."
