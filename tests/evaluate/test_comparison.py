"""Tests the comparison of two files of results."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ecellm_lite.errors import InputError
from ecellm_lite.evaluate.comparison import compare
from ecellm_lite.evaluate.results import (
    DataFile,
    Results,
)
from tests.support.evaluations import answer_of, result_of, rows_of, whole
from tests.support.refusals import refusal


def predicates(texts: str, **other: Any) -> Results:
    """Return results for rows whose labels alternate between "yes" and "no".

    `texts` has a letter for each row's answer: "y" for "yes", "n" for "no", "-" for none.
    """
    rows = rows_of("PM", len(texts))
    words = {"y": "yes", "n": "no", "-": None}
    answers = [answer_of(one, words[letter]) for one, letter in zip(rows, texts, strict=True)]
    return whole({"product_matching": result_of(rows, answers)}, **other)


def test_a_comparison_is_as_computed_by_hand() -> None:
    comparison = compare(predicates("ynyn" * 10 + "nnnn"), predicates("ynyn" * 10 + "yny-"))
    task = comparison.tasks["product_matching"]
    assert (task.rows, task.left_out, task.metric) == (44, 0, "f1")
    assert [task.before, task.after] == pytest.approx([2 * 20 / (20 + 22), 1])
    assert task.difference == pytest.approx(1 - 40 / 42)
    assert task.interval.low <= task.difference <= task.interval.high
    assert (task.better.count, task.better.rows) == (2, ["r40", "r42"])
    assert (task.worse.count, task.worse.rows) == (1, ["r43"])
    assert comparison.warnings == []


def test_equal_results_have_no_difference(fake: Results) -> None:
    comparison = compare(fake, fake)
    for name, task in comparison.tasks.items():
        assert task.before == pytest.approx(fake.tasks[name].metrics.all[fake.tasks[name].primary])
        assert (task.difference, task.interval.low, task.interval.high) == (0, 0, 0)
        assert (task.better.count, task.worse.count) == (0, 0)


def test_only_common_rows_are_compared() -> None:
    before, after = predicates("ynyn"), predicates("ynynyn", data=[DataFile("rows.jsonl", "cd")], envelope="mistral")
    records = after.tasks["product_matching"].records
    records[0] = replace(records[0], gold="no")  # not the same row
    comparison = compare(before, after)
    assert (comparison.tasks["product_matching"].rows, comparison.tasks["product_matching"].left_out) == (3, 4)
    of_files, of_envelope = comparison.warnings
    assert "alpaca" not in of_files
    assert of_envelope.index("alpaca") < of_envelope.index("mistral")
    with pytest.raises(InputError):
        compare(before, whole({}))


def test_edited_results_are_refused(fake: Results) -> None:
    for name, change in (
        ("sentiment_analysis", {"gold": "splendid"}),
        ("product_matching", {"gold": "maybe"}),
        ("query_product_ranking", {"score": [1, 1, 1]}),
    ):
        task = fake.tasks[name]
        edited = [replace(record, **change) for record in task.records]
        before = edited if "gold" in change else task.records
        sides = [replace(fake, tasks={name: replace(task, records=records)}) for records in (before, edited)]
        with refusal(InputError, "'splendid'" if name == "sentiment_analysis" else ""):
            compare(*sides)


def test_results_with_another_metric_are_not_compared(fake: Results) -> None:
    other = replace(fake.tasks["answer_generation"], primary="bertscore_f1")
    comparison = compare(fake, replace(fake, tasks={**fake.tasks, "answer_generation": other}))
    assert "answer_generation" not in comparison.tasks
    [warning] = comparison.warnings
    assert warning.index("rouge_l") < warning.index("bertscore_f1")
