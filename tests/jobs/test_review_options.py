"""Tests that a review table in a spreadsheet offers the task's answers as corrections."""

from __future__ import annotations

from pathlib import Path

import pytest

from ecellm_lite.answers.predicate import Predicate
from ecellm_lite.jobs.job import JobOptions, open_job
from ecellm_lite.jobs.job_task import JobTask, job_tasks
from ecellm_lite.jobs.review import review_of
from ecellm_lite.tables.columns import MapOptions
from ecellm_lite.tasks.custom import read_task
from ecellm_lite.tasks.registry import CASLIE_TASKS, TASKS
from tests.jobs.test_review import TASK, run, runtime, write_table
from tests.tables.test_xlsx_writer import NAMES, sheet

OWN = """
name = "routing"
summary = "Which desk a review concerns."
instruction = "Choose the desk."

[[fields]]
name = "review"
example = "My parcel never came."

[answer]
type = "choice"
choices = [{ value = "delivery", description = "It came late." }, { value = "product" }]
"""


def part(task: str) -> JobTask:
    [part] = job_tasks([{**TASKS, **CASLIE_TASKS}[task]], None, MapOptions())
    return part


@pytest.mark.parametrize(
    ("task", "options"),
    [
        ("sentiment_analysis", 5),
        ("product_matching", 2),
        ("category_classification", 0),  # each row has categories of its own
        ("sequential_recommendation", 0),
        ("query_product_ranking", 0),
        ("answer_generation", 0),
    ],
)
def test_only_options_of_all_rows_are_offered(task: str, options: int) -> None:
    assert len(part(task).options) == options


def test_options_of_an_own_task_are_its_values(tmp_path: Path) -> None:
    (tmp_path / "routing.toml").write_text(OWN, "utf-8")
    task = read_task(tmp_path / "routing.toml")
    [own] = job_tasks([task], ["review"], MapOptions())
    assert own.options == ("delivery", "product")


def test_a_review_table_offers_the_answers_and_ok(tmp_path: Path) -> None:
    rows, output = write_table(tmp_path / "rows.csv", 4), tmp_path / "answers.xlsx"
    run(rows, output, runtime(), review_below=1.0)
    [offered] = sheet(review_of(output)).iterfind("dataValidations/dataValidation/formula1", NAMES)
    assert (offered.text or "").strip('"').split(",") == [*part("sentiment_analysis").options, "ok"]
    assert sheet(output).find("dataValidations", NAMES) is None


def test_a_job_with_another_form_of_the_answer_offers_no_answers_of_the_task(tmp_path: Path) -> None:
    rows, output = write_table(tmp_path / "rows.csv", 4), tmp_path / "answers.xlsx"
    with open_job(rows, output, TASK, JobOptions(review_below=1.0)) as job, runtime() as answerer:
        job.run(answerer, space=Predicate())
    assert sheet(review_of(output)).find("dataValidations", NAMES) is None
