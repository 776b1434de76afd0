"""Tests that labelled rows are read or refused, and that a row with a held-out row's input is not learned."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecellm_lite.cli.main import run_command
from ecellm_lite.errors import InputError, UsageError
from ecellm_lite.tasks.registry import TASKS
from ecellm_lite.training.rows import leave_out, read_rows, split_rows, write_rows
from tests.support.labelled_rows import write_lines
from tests.support.lesson_rows import training_row
from tests.support.refusals import refusal

TASK = "sentiment_analysis"


def test_a_source_covers_its_parts_and_must_exist() -> None:
    sources = ["wdc/watches", "wdc/shoes", "wdcx", ""]
    rows = {
        TASK: [{"id": name, "input": {"review": name or "?"}, **({"source": name} if name else {})} for name in sources]
    }
    others, left_out = leave_out(rows, ["wdc"])
    assert [row["id"] for row in left_out[TASK]] == ["wdc/watches", "wdc/shoes"]
    assert [row["id"] for row in others[TASK]] == ["wdcx", ""]
    assert leave_out(rows, []) == (rows, {})
    with refusal(UsageError, "watches"):
        leave_out(rows, ["watches"])
    with refusal(UsageError, TASK):
        leave_out({TASK: rows[TASK][:2]}, ["wdc"])


@pytest.mark.parametrize(
    ("line", "value", "field"),
    [
        ("{", "", None),
        ('{"input": "Works.", "output": "C: neutral"}', "", None),
        ('{"input": {"review": "Works."}}', "", None),
        ('{"input": {"review": "Works."}, "output": "fine"}', "'fine'", None),
        ('{"input": {"text": "Works."}, "output": "C: neutral"}', "'text'", "review"),
        ('{"task": "product_matching", "input": {}, "output": "yes"}', "'product_matching'", "task"),
        ('{"input": {"review": "Works."}, "output": "C: neutral", "source": {"shop": 3}}', "shop", "source"),
    ],
)
def test_an_invalid_row_is_reported_with_its_line(
    line: str, value: str, field: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = json.dumps(training_row("sentiment_analysis", 1))
    path = write_lines(tmp_path / "sentiment_analysis" / "train.jsonl", [good, line])
    with refusal(InputError, value, line=2, field=field, file=str(path)):
        read_rows(tmp_path)
    output = str(tmp_path / "lessons.npz")
    assert run_command(["train", "lessons", "--data", str(tmp_path), "-o", output]) == 3
    assert str(path) in capsys.readouterr().err
    assert not (tmp_path / "lessons.npz").exists()


def test_a_row_without_a_source_may_say_null() -> None:
    rows = {TASK: [{"input": {"review": str(number)}, "source": source} for number, source in enumerate((None, "a"))]}
    with refusal(UsageError, "one of a"):
        leave_out(rows, ["b"])
    assert leave_out(rows, ["a"])[0] == {TASK: rows[TASK][:1]}


def test_a_folder_without_rows_is_refused(tmp_path: Path) -> None:
    with refusal(InputError, "train.jsonl", file=str(tmp_path)):
        read_rows(tmp_path)


def test_unicode_line_separators_do_not_end_a_row(tmp_path: Path) -> None:
    row = training_row("sentiment_analysis", 1)
    row["input"] = {"review": "Good\u2028and loud\x85."}
    path = tmp_path / "sentiment_analysis" / "train.jsonl"
    path.parent.mkdir()
    path.write_text(json.dumps(row, ensure_ascii=False) + "\n", "utf-8")
    assert read_rows(tmp_path)["sentiment_analysis"] == [row]


@given(counts=st.dictionaries(st.sampled_from(list(TASKS)), st.integers(0, 60), max_size=3), seed=st.integers(0, 9))
def test_every_row_is_learned_or_held_out(counts: dict[str, int], seed: int) -> None:
    rows = {task: [training_row(task, number) for number in range(count)] for task, count in counts.items()}
    learned, held_out = split_rows(rows, Random(seed))
    assert (learned, held_out) == split_rows(rows, Random(seed))
    for task, count in counts.items():
        assert len(held_out[task]) == count // 10
        assert sorted(row["id"] for row in (*learned[task], *held_out[task])) == sorted(
            f"r{number}" for number in range(count)
        )


def test_the_number_of_held_out_rows_is_limited() -> None:
    learned, held_out = split_rows(
        {TASK: [{"id": number, "input": {"review": str(number)}} for number in range(5000)]}, Random(0)
    )
    assert (len(learned[TASK]), len(held_out[TASK])) == (4750, 250)


def test_rows_are_written_unchanged(tmp_path: Path) -> None:
    rows = {"sentiment_analysis": [training_row("sentiment_analysis", 1) | {"id": None, "note": "é\u2028"}]}
    write_rows(tmp_path, {**rows, "product_matching": []})
    written = (tmp_path / "sentiment_analysis" / "test.jsonl").read_text("utf-8").split("\n")
    assert [json.loads(line) for line in written if line] == rows["sentiment_analysis"]
    assert not (tmp_path / "product_matching").exists()


def test_duplicates_of_held_out_rows_are_not_learned() -> None:
    rows = {"sentiment_analysis": [{"id": number, "input": {"review": str(number % 50)}} for number in range(100)]}
    learned, held_out = split_rows(rows, Random(3))
    reviews = {row["input"]["review"] for row in held_out["sentiment_analysis"]}
    assert len(held_out["sentiment_analysis"]) == 10
    assert reviews.isdisjoint(row["input"]["review"] for row in learned["sentiment_analysis"])


def pair_or_swapped(number: int) -> dict[str, Any]:
    products = [{"title": f"red mug {number // 2}"}, {"title": f"blue cup {number // 2}"}]
    first, second = products if number % 2 else products[::-1]
    return {"product_1": first, "product_2": second}


def listed_or_reversed(key: str, items: list[str], number: int, **others: Any) -> dict[str, Any]:
    return {
        key: items if number % 2 else items[::-1],
        **{name: f"{text} {number // 2}" for name, text in others.items()},
    }


TWINS: dict[str, Callable[[int], dict[str, Any]]] = {
    "product_matching": pair_or_swapped,
    "product_relation_prediction": pair_or_swapped,
    "attribute_value_extraction": lambda number: listed_or_reversed(
        "attributes", ["Color", "Size"], number, title="Navy shirt"
    ),
    "query_product_ranking": lambda number: listed_or_reversed("products", ["mat", "mouse"], number, query="mouse"),
    "sequential_recommendation": lambda number: {
        "history": [f"tent {number // 2}"],
        "candidates": ["stove", "lamp"] if number % 2 else ["lamp", "stove"],
    },
    # A key that is no field of the task, and a number that is written as a text.
    "sentiment_analysis": lambda number: (
        {"review": number // 2, "stars": 3} if number % 2 else {"review": str(number // 2)}
    ),
}


@pytest.mark.parametrize("task", TWINS)
def test_a_row_that_is_a_held_out_row_in_another_order_is_not_learned(task: str) -> None:
    rows = {task: [{"id": number, "input": TWINS[task](number)} for number in range(80)]}
    learned, held_out = split_rows(rows, Random(3))
    pairs = {row["id"] // 2 for row in held_out[task]}
    assert len(held_out[task]) == 8
    assert {row["id"] // 2 for row in learned[task]} == {*range(40)} - pairs


def test_rows_of_other_sources_with_the_same_input_are_left_out_too() -> None:
    task = "product_matching"
    rows = [{"input": pair_or_swapped(number), "source": "ab"[number % 2]} for number in range(20)]
    others, left_out = leave_out({task: [*rows, {"input": pair_or_swapped(40), "source": "b"}]}, ["a"])
    assert [row["source"] for row in left_out[task]] == ["a"] * 10
    assert [row["input"] for row in others[task]] == [pair_or_swapped(40)]
    with refusal(UsageError, task):
        leave_out({task: rows}, ["a"])
