"""Tests how a job's duration is estimated from some of its rows."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from ecellm_lite import TASKS, Answer, InputError, Runtime
from ecellm_lite.engine.fake import FakeBackend
from ecellm_lite.jobs import estimate as estimates
from ecellm_lite.jobs.estimate import Estimate, estimate
from ecellm_lite.jobs.job import open_job

TASK = TASKS["sentiment_analysis"]


class Clock(Runtime):
    """A runtime with a simulated clock: answering a row takes a microsecond for each of its characters."""

    now: float
    answered: int

    def answers(self, task: Any, rows: Any, **options: Any) -> Iterator[Answer]:
        listed = list(rows)
        self.answered = getattr(self, "answered", 0) + len(listed)
        for row in listed:
            self.now = getattr(self, "now", 0.0) + len(json.dumps({"review": row["review"]})) * 1e-6
        yield from super().answers(task, listed, **options)


def estimated(path: Path, reviews: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> tuple[Estimate, int]:
    path.write_text("".join(json.dumps({"id": n, "review": review}) + "\n" for n, review in enumerate(reviews)))
    runtime = Clock.over(FakeBackend())
    assert isinstance(runtime, Clock)
    monkeypatch.setattr(time, "perf_counter", lambda: getattr(runtime, "now", 0.0))
    with open_job(path, None, TASK) as job, runtime:
        return estimate(job, runtime), runtime.answered


def test_a_job_is_estimated_from_fifty_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"review {number} " * (1 + number % 7) for number in range(500)] + ["review 1 " * 2] * 100
    estimate, answered = estimated(tmp_path / "rows.jsonl", texts, monkeypatch)
    distinct = sum(len(json.dumps({"review": text})) for text in set(texts)) * 1e-6
    assert (estimate.rows, estimate.duplicates, estimate.counted, estimate.whole) == (600, 100, True, True)
    assert estimate.answered == answered == 50
    assert estimate.seconds == pytest.approx(distinct)
    assert estimate.least <= estimate.seconds <= estimate.most


def test_a_long_table_is_extrapolated_from_its_first_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimates, "READ", 3000)
    texts = [f"{number:06} {'word ' * 400}" for number in range(6000)]
    estimate, _ = estimated(tmp_path / "rows.jsonl", texts, monkeypatch)
    assert (estimate.counted, estimate.whole) == (False, True)
    assert estimate.rows == pytest.approx(6000, rel=0.25)  # the file is read in blocks
    assert estimate.seconds == pytest.approx(6000 * len(json.dumps({"review": texts[0]})) * 1e-6, rel=0.25)


@pytest.mark.parametrize("count", [1, 2, 3, 20])
def test_a_short_table_is_answered_whole(count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    estimate, answered = estimated(tmp_path / "rows.jsonl", [f"review {n}" for n in range(count)], monkeypatch)
    assert (estimate.rows, estimate.answered, answered) == (count, count, count)
    assert 0 < estimate.least <= estimate.seconds <= estimate.most


def test_a_table_without_rows_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError):
        estimated(tmp_path / "rows.jsonl", [], monkeypatch)
