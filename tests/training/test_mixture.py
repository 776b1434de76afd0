"""Tests that a mixture of training rows has the given number of rows from each source, and no held-out rows."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random

import pytest

from benchmarks.demo_rows.held_out import divided
from benchmarks.demo_rows.mixture import drawn
from tests.support.labelled_rows import write_lines
from tests.support.lesson_rows import training_rows

TASK = "sentiment_analysis"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rows = training_rows(90, [TASK])[TASK]
    write_lines(tmp_path / TASK / "train.jsonl", rows[:30])
    sources = [row | {"source": f"shop/{number % 2}"} for number, row in enumerate(rows[30:])]
    write_lines(tmp_path / "more" / TASK / "train.jsonl", sources)
    return tmp_path


def test_rows_are_drawn_by_source(data: Path) -> None:
    (own, own_held_out), (others, others_held_out) = divided(data), divided(data / "more")
    assert (len(own_held_out[TASK]), len(others_held_out[TASK])) == (3, 6)
    mixture = {TASK: {"shop/1": 70, "shop": 10, "data": 5, "hard": 4}}
    rows = drawn(mixture, own, others, Random(1))[TASK]
    assert Counter(row["source"] for row in rows[:70]) == {"shop/1": 70}
    times = Counter(row["id"] for row in rows[:70])
    assert max(times.values()) - min(times.values()) == 1  # the same row more than once, but evenly
    assert Counter(row["source"].split("/")[0] for row in rows[70:80]) == {"shop": 10}
    assert all("source" not in row and row in own[TASK] for row in rows[80:85])
    assert len(rows) == 70 + 10 + 5 + 4
    held_out = {row["id"] for row in (*own_held_out[TASK], *others_held_out[TASK])}
    assert not held_out & {row["id"] for row in rows[:85]}


def test_a_source_without_rows_is_refused(data: Path) -> None:
    (own, _), (others, _) = divided(data), divided(data / "more")
    with pytest.raises(SystemExit):
        drawn({TASK: {"another": 1}}, own, others, Random(1))
