"""Tests the best constant answer (the same answer for every row), which a useful model must beat."""

from __future__ import annotations

import json

import pytest

from ecellm_lite.evaluate.baselines import best_constant, constants, majority
from ecellm_lite.evaluate.labelled import Labelled, labelled
from ecellm_lite.evaluate.metrics.kinds import measure
from ecellm_lite.tasks.registry import get_task
from tests.support.labelled_rows import row


def rows_of(task: str, count: int = 4) -> list[Labelled]:
    return [labelled(get_task(task), line, row(get_task(task).name, line)) for line in range(count)]


@pytest.mark.parametrize(
    ("task", "text"),
    [("AVE", None), ("QPR", "A,B,C"), ("PM", "yes"), ("SR", "B"), ("AG", "It is loud.")],
)
def test_the_majority_answer_is_the_commonest_gold_answer(task: str, text: str | None) -> None:
    rows = rows_of(task, 5)
    constant = majority(rows)
    if text:
        assert {pair.text for pair in constant.pairs(rows)} == {text}
    else:
        entries = [json.loads(pair.text or "") for pair in constant.pairs(rows)]
        assert all([entry["value"] for entry in row] == ["None", "None"] for row in entries)
    best = best_constant(rows)
    if task != "AG":
        values = [measure(get_task(task), one.pairs(rows)) for one in (constant, best)]
        assert values[1].values()[1][values[1].primary] >= values[0].values()[1][values[0].primary]


def test_the_best_constant_for_f1_is_yes_even_if_yes_is_rare() -> None:
    rows = [row for row in rows_of("PSI", 9) if row.gold == "no" or row.line == 1]
    space = rows[0].space
    assert majority(rows).text(space) == "no"
    assert best_constant(rows).text(space) == "yes"
    assert [constant.text(space) for constant in constants(rows)] == ["no", "yes"]


def test_free_text_has_two_constants_the_commonest_and_the_empty_text() -> None:
    rows = rows_of("AG", 5)
    assert [constant.text(rows[0].space) for constant in constants(rows)] == ["It is loud.", ""]
