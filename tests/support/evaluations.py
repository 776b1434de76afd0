"""Labelled rows, answers to them, and evaluations of these answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ecellm_lite.answers.answer import Answer, ModelName
from ecellm_lite.evaluate.evaluation import evaluate, results
from ecellm_lite.evaluate.labelled import Labelled, labelled
from ecellm_lite.evaluate.results import (
    DataFile,
    EvaluationSettings,
    Results,
    TaskResult,
)
from ecellm_lite.tasks.registry import get_task
from tests.support.labelled_rows import row

MODEL = ModelName("fake", "00")


def rows_of(task: str, count: int) -> list[Labelled]:
    return [labelled(get_task(task), line + 1, row(get_task(task).name, line)) for line in range(count)]


def answer_of(labelled_row: Labelled, text: str | None, probability: float | None = 0.5, **other: Any) -> Answer:
    value = {"yes": True, "no": False}.get(text or "")
    shares = None
    if value is not None and probability is not None:
        yes = probability if value else 1 - probability
        shares = {"yes": yes, "no": 1 - yes}
    answer = Answer(
        id=labelled_row.id,
        task=labelled_row.task.name,
        type="predicate",
        value=value,
        text=text,
        probability=probability,
        probabilities=shares,
        confidence=None,
        coverage=1.0,
        abstained=False,
        usage=None,
        seconds=0.5,
        model=MODEL,
        envelope="alpaca",
    )
    return replace(answer, **other)


def result_of(rows: Sequence[Labelled], answers: Sequence[Answer]) -> TaskResult:
    return evaluate(rows[0].task, rows, answers, seconds=2.0, prompt=lambda one: f"prompt of {one.line}")


def whole(tasks: dict[str, TaskResult], **other: Any) -> Results:
    complete = results(
        MODEL,
        "alpaca",
        data=[DataFile("rows.jsonl", "ab")],
        settings=EvaluationSettings(None, "test", "IND_Diverse_Instruction", deterministic=False, instruction=None),
        seconds=2.0,
        unreadable=[],
        tasks=tasks,
    )
    return replace(complete, **other)


def written(path: Path, content: Results) -> Path:
    path.write_text(json.dumps(content.as_dict()))
    return path
