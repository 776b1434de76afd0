"""Tests the demo's answers to the tasks' examples, and to products as shops describe them.

The twenty rows of written_products.jsonl were written by hand for this test. No model was trained on them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ecellm_lite import Runtime
from ecellm_lite.tasks.registry import TASKS

WRITTEN = Path(__file__).parent / "written_products.jsonl"
HARD_CASES = Path(__file__).parent / "hard_cases.jsonl"
RIGHT = 30  # of the hard cases
pytestmark = pytest.mark.slow


def test_two_listings_of_the_same_product_match(demo: Runtime) -> None:
    answer = demo.answer("product_matching", TASKS["product_matching"].example(), calibration=False)
    assert answer.value is True
    assert answer.probability is not None
    assert answer.probability > 0.9


def test_a_satisfied_review_is_positive(demo: Runtime) -> None:
    answer = demo.answer("sentiment_analysis", TASKS["sentiment_analysis"].example(), calibration=False)
    assert answer.text == "B: positive"
    assert answer.probability is not None
    assert answer.probability > 0.7


def test_a_jackets_attributes_are_extracted_from_its_texts(demo: Runtime) -> None:
    answer = demo.answer("attribute_value_extraction", TASKS["attribute_value_extraction"].example(), calibration=False)
    assert {entry["attribute"]: entry["value"] for entry in answer.value} == {
        "Brand Name": "harborline",
        "Gender": "men",
        "Material": "waxed cotton",
        "Hooded": None,
    }
    assert all(entry["probability"] > 0.5 for entry in answer.value)


def test_attributes_are_extracted_from_real_looking_products(demo: Runtime) -> None:
    rows = [json.loads(line) for line in WRITTEN.read_text("utf-8").splitlines()]
    right = total = 0
    for answer, row in zip(
        demo.answers("attribute_value_extraction", (row["input"] for row in rows)), rows, strict=True
    ):
        gold = {entry["attribute"]: (entry["value"], entry["source"]) for entry in json.loads(row["output"])}
        values = {
            entry["attribute"].lower(): (entry["value"] or "None", entry["source"] or "None") for entry in answer.value
        }
        right += sum(values[name] == entry for name, entry in gold.items())
        total += len(gold)
    assert total == 71
    assert right / total > 0.8


def test_hard_cases_written_by_hand(demo: Runtime) -> None:
    """The demo answers 32 of the 40 hard cases correctly. A shop would want at least 34.

    The test requires only 30 correct answers, because another processor rounds differently. The cases were written by
    hand, and no model was trained on them.
    """
    rows = [json.loads(line) for line in HARD_CASES.read_text("utf-8").splitlines()]
    assert len({json.dumps(row["input"]) for row in rows}) == 40
    right = [row["id"] for row in rows if _is_right(demo, row)]
    assert len(right) >= RIGHT, right


def _is_right(demo: Runtime, row: dict[str, Any]) -> bool:
    answer = demo.answer(row["task"], row["input"])
    if row["task"] != "attribute_value_extraction":
        return answer.text in row["accepted"]
    values = [entry["value"] for entry in answer.value]
    return all(value in accepted for value, accepted in zip(values, row["accepted"], strict=True))
