"""A fixture for these tests: the results of an evaluation of all tasks."""

from __future__ import annotations

import pytest

from ecellm_lite import Runtime
from ecellm_lite.engine.fake import FakeBackend
from ecellm_lite.evaluate.results import Results
from ecellm_lite.tasks.registry import TASKS
from tests.support.evaluations import result_of, rows_of, whole


@pytest.fixture(scope="module")
def fake() -> Results:
    """Return the results of an evaluation of all tasks with the fake engine."""
    pytest.importorskip("rouge_score", reason="free text is measured by rouge-score (extra 'eval')")
    tasks = {}
    with Runtime.over(FakeBackend()) as runtime:
        for name, task in TASKS.items():
            rows = rows_of(name, 12)
            answers = list(runtime.answers(task, (one.row for one in rows)))
            tasks[name] = result_of(rows, answers)
    return whole(tasks)
