"""Tests of jobs that ask several tasks about each row.

Each task has its own columns, and text that tasks share is computed once.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ecellm_lite import TASKS, Answer, Runtime, UsageError, load_task
from ecellm_lite.engine.fake import FakeBackend
from ecellm_lite.jobs.estimate import estimate
from ecellm_lite.jobs.job import Job, JobOptions, open_job
from ecellm_lite.jobs.journal import journal_of
from ecellm_lite.jobs.preview import preview
from ecellm_lite.jobs.review import CORRECTION, TASK, review_of
from ecellm_lite.jobs.tally import Tally
from ecellm_lite.tables.columns import MapOptions
from ecellm_lite.tables.opening import open_table
from ecellm_lite.tasks.task import Task
from tests.support.gated import Gated

SENTIMENT = TASKS["sentiment_analysis"]
DESK = """
name = "{name}"
summary = "A test."
instruction = "Choose the desk."
[[fields]]
name = "review"
[[fields]]
name = "shop"
required = false
[answer]
type = "choice"
choices = [{choices}]
"""


@pytest.fixture
def tasks(tmp_path: Path) -> list[Task]:
    return [SENTIMENT, desk(tmp_path, "desk", "billing", "delivery")]


def desk(folder: Path, name: str, *choices: str) -> Task:
    path = folder / f"{name}.toml"
    path.write_text(DESK.format(name=name, choices=", ".join(f'{{ value = "{choice}" }}' for choice in choices)))
    return load_task(path)


def write_table(path: Path, count: int = 12) -> Path:
    """Write a table of reviews. The last row's review is empty."""
    lines = [(number, f"review number {number}" if number < count - 1 else "", "north") for number in range(count)]
    if path.suffix == ".jsonl":
        keys = ("id", "review", "shop")
        path.write_text("".join(json.dumps(dict(zip(keys, line, strict=True))) + "\n" for line in lines))
    else:
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([("id", "review", "Shop"), *lines])
    return path


def run(rows: Path, output: Path, tasks: Sequence[Task], runtime: Runtime | None = None, **options: Any) -> Tally:
    with (
        open_job(rows, output, tasks, JobOptions(**options)) as job,
        runtime or Runtime.over(FakeBackend(), deterministic=True) as answerer,
    ):
        return job.run(answerer)


def read(path: Path) -> list[dict[str, Any]]:
    with open_table(path) as table:
        return [dict(row.cells) for row in table.rows()]


def test_a_change_in_a_tasks_file_needs_a_restart(tmp_path: Path) -> None:
    """The test adds a description to a choice. This changes the prompt, so earlier answers must not be reused."""
    rows, output = write_table(tmp_path / "rows.csv", 3), tmp_path / "answers.csv"
    run(rows, output, [desk(tmp_path, "desk", "billing", "delivery")])
    path = tmp_path / "desk.toml"
    path.write_text(path.read_text().replace('value = "billing"', 'value = "billing", description = "invoices"'))
    with pytest.raises(UsageError) as error:
        run(rows, output, [load_task(path)])
    assert error.value.settings == ("task", "restart")
    assert run(rows, output, [load_task(path)], restart=True).rows == 3


@pytest.mark.parametrize("form", ["csv", "xlsx", "parquet"])
def test_each_task_has_its_columns(form: str, tmp_path: Path, tasks: list[Task]) -> None:
    rows, output = write_table(tmp_path / "rows.csv"), tmp_path / f"answers.{form}"
    tally = run(rows, output, tasks)
    assert (tally.rows, tally.failed, tally.reused) == (12, 1, 0)
    table = read(output)
    assert list(table[0])[:3] == ["id", "review", "Shop"]
    for task in tasks:
        alone = tmp_path / f"{task.name}.{form}"
        run(rows, alone, [task])
        for row, one in zip(table, read(alone), strict=True):
            for column in ("answer", "probability", "confidence", "abstained", "warnings", "error"):
                assert row[f"{task.name}.{column}"] == one[column]
    assert len(table[0]) == 3 + 2 * 6


def test_json_lines_have_the_answers_by_task(tmp_path: Path, tasks: list[Task]) -> None:
    rows, output = write_table(tmp_path / "rows.jsonl"), tmp_path / "answers.jsonl"
    run(rows, output, tasks)
    lines = read(output)
    assert [line["id"] for line in lines] == list(range(12))
    answers = [Answer.from_dict(line["answers"][task.name]) for line in lines for task in tasks]
    assert [answer.task for answer in answers[:2]] == ["sentiment_analysis", "desk"]
    assert [bool(answer.error) for answer in answers] == [False] * 22 + [True] * 2


def test_a_resumed_job_keeps_tasks_apart(tmp_path: Path, tasks: list[Task]) -> None:
    rows, output = write_table(tmp_path / "rows.jsonl"), tmp_path / "answers.jsonl"
    run(rows, output, tasks)
    whole = output.read_bytes()
    with open_job(rows, output, tasks) as job, Runtime.over(FakeBackend()) as unused:
        tally = job.run(unused)
    assert tally.reused == 12
    assert output.read_bytes() == whole
    with pytest.raises(UsageError) as error:
        run(rows, output, [SENTIMENT])
    assert error.value.settings == ("task", "restart")
    assert run(rows, output, [SENTIMENT], restart=True).reused == 0


def test_a_review_has_a_line_for_each_answer(tmp_path: Path, tasks: list[Task]) -> None:
    rows, output = write_table(tmp_path / "rows.csv"), tmp_path / "answers.csv"
    assert run(rows, output, tasks, review_below=1.0).to_review == 24
    lines = read(review_of(output))
    assert [line[TASK] for line in lines[:2]] == ["sentiment_analysis", "desk"]
    lines[0][CORRECTION], lines[3][CORRECTION] = "E", "delivery"
    with review_of(output).open("w", newline="") as file:
        writer = csv.DictWriter(file, lines[0])
        writer.writeheader()
        writer.writerows(lines)
    labelled = tmp_path / "labelled.jsonl"
    with open_job(rows, output, tasks) as job:
        tally = job.correct(review_of(output), labelled=labelled)
    assert (tally.corrected, tally.notes) == (2, [])
    table = read(output)
    assert table[0]["sentiment_analysis.answer"] == "E: very negative"
    assert table[1]["desk.answer"] == "delivery"
    assert [(row["task"], row["output"]) for row in read(labelled)] == [
        ("sentiment_analysis", "E: very negative"),
        ("desk", "delivery"),  # the value, and not the letter that the model writes
    ]


def test_text_that_tasks_share_is_computed_once(tmp_path: Path) -> None:
    """The two tasks differ only in their options, which are at the end of the prompt."""
    tasks = [desk(tmp_path, "desk", "billing", "delivery"), desk(tmp_path, "floor", "first", "second")]
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"review": f"{number} " + "long words " * 9}) + "\n" for number in range(30)))

    def decoded(*chosen: Task) -> int:
        backend = Gated(cells=1 << 16, sequences=256)
        waiting = 30 * len(chosen)

        class Together(Runtime):
            """A runtime that computes nothing until all rows are submitted.

            So every row can share its text with the others.
            """

            def submit(self, *arguments: Any, **options: Any) -> Any:
                nonlocal waiting
                future = super().submit(*arguments, **options)
                waiting -= 1
                if not waiting:
                    backend.gate.set()
                return future

        run(rows, tmp_path / "answers.jsonl", chosen, Together.over(backend), restart=True)
        return backend.decoded

    one, other, both = decoded(tasks[0]), decoded(tasks[1]), decoded(*tasks)
    assert both < 0.9 * (one + other)


def test_mappings_apply_to_the_tasks_that_have_the_field(tmp_path: Path, tasks: list[Task]) -> None:
    rows = write_table(tmp_path / "rows.csv")

    def mapped(*pairs: str, **more: Any) -> Job:
        with open_job(rows, None, tasks, JobOptions(map=MapOptions(map=pairs, **more))) as job:
            return job

    sentiment, own = mapped("review=Shop", "shop=Shop").tasks
    assert sentiment.columns.columns["review"] == own.columns.columns["review"] == ("Shop",)
    assert "shop" not in sentiment.columns.columns
    assert mapped(constants={"shop": "south"}).tasks[0].columns.columns["review"] == ("review",)
    for wrong in ({"pairs": ["brand=Shop"]}, {"constants": {"brand": "x"}}):
        with pytest.raises(UsageError) as error:
            mapped(*wrong.pop("pairs", ()), **wrong)
        assert error.value.settings == ("map",)


def test_a_repeated_task_and_an_instruction_for_several_are_refused(tmp_path: Path, tasks: list[Task]) -> None:
    rows, output = write_table(tmp_path / "rows.csv"), tmp_path / "answers.csv"
    with pytest.raises(UsageError):
        run(rows, output, [SENTIMENT, SENTIMENT])
    with open_job(rows, output, tasks) as job, Runtime.over(FakeBackend()) as runtime, pytest.raises(UsageError):
        job.run(runtime, instruction="Rate it.")
    assert not journal_of(output).exists()


def test_preview_and_estimate_cover_all_tasks(tmp_path: Path, tasks: list[Task]) -> None:
    rows = write_table(tmp_path / "rows.csv")
    with open_job(rows, None, tasks) as job, Runtime.over(FakeBackend()) as runtime:
        texts = list(preview(job, runtime.envelope, 2))
    assert len(texts) == 4
    assert "Choose the desk." in texts[1]
    with open_job(rows, None, tasks) as job, Runtime.over(FakeBackend()) as runtime:
        result = estimate(job, runtime)
    assert (result.rows, result.duplicates, result.answered, result.failed) == (12, 0, 12, 1)
