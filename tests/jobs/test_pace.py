"""Tests that short, long and repeated rows do not distort the estimate of a job's remaining time."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path

import pytest

from ecellm_lite.answers.answer import Answer, ModelName, RowError, Usage
from ecellm_lite.jobs.job_row import JobStep
from ecellm_lite.jobs.pace import Pace
from ecellm_lite.tables.opening import open_table


def answer(tokens: int, cached: int = 0, error: RowError | None = None) -> Answer:
    usage = None if error else Usage(tokens + cached, cached, 0, 0)
    return Answer(
        None, "t", "text", "x", "x", None, None, None, None, False, usage, None, ModelName("demo", "0"), "alpaca",
        error=error,
    )  # fmt: skip


def test_long_rows_count_for_more_than_short_ones() -> None:
    pace = Pace(0.0)
    # Ten short rows are a tenth of the table's tokens; a row of 900 makes it the whole.
    for number in range(1, 11):
        pace.add(JobStep(answer(10, cached=50), number, number / 100, False))
    assert pace.total_tokens == pytest.approx(1000)
    assert pace.total_rows == 100
    assert pace.seconds_left(5.0) == pytest.approx(45.0)
    pace.add(JobStep(answer(900), 11, 1.0, False))
    assert pace.seconds_left(50.0) == 0.0
    assert pace.total_rows == 11


def test_reused_answers_count_as_done_but_not_for_the_rate() -> None:
    pace = Pace(0.0)
    for number in range(1, 91):
        pace.add(JobStep(answer(10), number, number / 200, True))
    assert pace.seconds_left(0.1) is None
    for number in range(91, 101):
        pace.add(JobStep(answer(10), number, number / 200, False))
    assert pace.seconds_left(2.0) == pytest.approx(20.0)  # a hundred rows, at five a second


def test_a_table_of_unknown_length_has_no_time_left() -> None:
    pace = Pace(0.0)
    pace.add(JobStep(answer(10), 1, None, False))
    assert (pace.total_rows, pace.total_tokens, pace.seconds_left(1.0)) == (None, None, None)


def test_failed_rows_count_no_tokens() -> None:
    pace = Pace(0.0)
    pace.add(JobStep(answer(10, error=RowError("input", "No.")), 1, 0.5, False))
    assert (pace.failed, pace.tokens) == (1, 0)


@pytest.mark.parametrize("ending", ["csv", "csv.gz"])
def test_the_share_read_follows_the_rows_in_a_small_table(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"rows.{ending}"
    opened = gzip.open if ending.endswith("gz") else open
    with opened(path, "wt", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("id", "text"), *((number, f"some text {number}") for number in range(20_000))])
    with open_table(path) as table:
        shares = [table.share or 0.0 for row in table.rows() if row.number % 5000 == 0]
    assert shares == pytest.approx([0.25, 0.5, 0.75, 1.0], abs=0.05)
