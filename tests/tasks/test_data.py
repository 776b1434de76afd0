"""Tests with the labelled rows, if they are present. Each row must be valid, and its label must be a valid answer.

The demo answers a few of the rows.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ecellm_lite import Runtime
from ecellm_lite.answers.extraction import Extraction
from ecellm_lite.answers.spans import SourceText
from ecellm_lite.tasks.registry import TASKS
from tests.support.answer_checks import check

pytestmark = pytest.mark.data

QUICK = ("product_relation_prediction", "sentiment_analysis")


def rows_of(data: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (data / name / "test.jsonl").read_text("utf-8").splitlines()]


@pytest.mark.parametrize("name", TASKS)
def test_every_row_is_valid_and_its_gold_answer_is_parsed(name: str, data: Path) -> None:
    for row in rows_of(data, name):
        question = TASKS[name].question(row)
        value = question.space.parse(row["output"])
        assert value not in (None, "")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in TASKS]
)
def test_a_few_rows_get_answers_from_their_answer_sets(name: str, data: Path, demo: Runtime) -> None:
    rows = rows_of(data, name)[:3]
    for row, answer in zip(rows, demo.answers(name, rows), strict=True):
        assert answer.id == row["id"]
        check(answer, row, TASKS[name].question(row).space)


def test_most_gold_values_are_spans(data: Path) -> None:
    """The model can choose a value only if it is a span: consecutive words of a product's text (see answers/spans.py).

    More than 97% of the values that people marked are spans.
    """
    marked = offered = 0
    for line in (data / "attribute_value_extraction" / "train.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        space = TASKS["attribute_value_extraction"].question(row).space
        assert isinstance(space, Extraction)
        texts = [SourceText(source, text) for source, text in space.sources.items()]
        spans = {span.value for text in texts for word in range(len(text.starts)) for span in text.spans(word)}
        golds = [entry["value"] for entry in json.loads(row["output"]) if entry["value"] != "None"]
        marked += len(golds)
        offered += sum(gold in spans for gold in golds)
    assert offered / marked > 0.97
