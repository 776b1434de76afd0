"""Tests that a job never overwrites its input or another of its files, and that its output may be a link or a pipe."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from ecellm_lite import TASKS, Runtime, UsageError
from ecellm_lite.engine.fake import FakeBackend
from ecellm_lite.jobs.corrections import write_labelled
from ecellm_lite.jobs.job import JobOptions, open_job
from ecellm_lite.jobs.job_row import JobStep
from ecellm_lite.jobs.journal import journal_of
from ecellm_lite.jobs.review import CORRECTION, KEY
from ecellm_lite.tables.opening import open_table

TASK = TASKS["sentiment_analysis"]


def run(rows: Path, output: Path, progress: Any = None, **options: Any) -> None:
    with open_job(rows, output, TASK, JobOptions(**options)) as job, Runtime.over(FakeBackend()) as runtime:
        job.run(runtime, progress=progress)


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.csv"
    path.write_text("id,review\n1,It is ok\n2,Great\n")
    return path


@pytest.fixture
def finished(rows: Path, tmp_path: Path) -> dict[str, Path]:
    """Return the files of a finished job with a correction that is not applied yet."""
    output, corrections = tmp_path / "answers.csv", tmp_path / "mine.csv"
    run(rows, output, review_below=1.0)
    review = tmp_path / "answers.review.csv"
    with open_table(review) as table:
        key = next(iter(table.rows())).cells[KEY]
    corrections.write_text(f"{KEY},{CORRECTION}\n{key},B\n")
    link = tmp_path / "link.csv"
    link.symlink_to(output)
    return {
        "rows": rows,
        "output": output,
        "link": link,
        "unfinished": tmp_path / "answers.csv.part",
        "review": review,
        "journal": journal_of(output),
        "corrections": corrections,
    }


def contents(files: dict[str, Path]) -> dict[str, bytes]:
    return {name: path.read_bytes() for name, path in files.items() if path.exists()}


@pytest.mark.parametrize("name", ["rows", "output", "link", "unfinished", "review", "journal", "corrections"])
@pytest.mark.parametrize("setting", ["labelled", "report"])
def test_corrected_rows_and_the_report_replace_no_other_file(
    setting: str, name: str, finished: dict[str, Path]
) -> None:
    if setting == "report":
        pytest.importorskip("jinja2", reason="the report needs the extra eval")
    before = contents(finished)
    options = JobOptions(report=finished[name] if setting == "report" else None)
    labelled = finished[name] if setting == "labelled" else None
    with pytest.raises(UsageError) as error, open_job(finished["rows"], finished["output"], TASK, options) as job:
        job.correct(finished["corrections"], labelled=labelled)
    assert error.value.settings == (setting,)
    assert contents(finished) == before


def test_the_output_does_not_replace_the_corrections(finished: dict[str, Path]) -> None:
    before = contents(finished)
    with pytest.raises(UsageError) as error, open_job(finished["rows"], finished["output"], TASK) as job:
        job.correct(finished["output"])
    assert error.value.settings == ("output",)
    assert contents(finished) == before


def test_the_report_and_the_corrected_rows_are_two_files(finished: dict[str, Path], tmp_path: Path) -> None:
    pytest.importorskip("jinja2", reason="the report needs the extra eval")
    both = tmp_path / "both"
    with (
        pytest.raises(UsageError) as error,
        open_job(finished["rows"], finished["output"], TASK, JobOptions(report=both)) as job,
    ):
        job.correct(finished["corrections"], labelled=both)
    assert error.value.settings == ("report", "labelled")
    assert not both.exists()


def test_the_review_table_does_not_replace_the_rows(tmp_path: Path) -> None:
    rows = tmp_path / "jan.review.csv"
    rows.write_text("id,review\n1,Great\n")
    with (
        pytest.raises(UsageError) as error,
        open_job(rows, tmp_path / "jan.csv", TASK, JobOptions(review_below=0.6)),
    ):
        pass
    assert error.value.settings == ("output",)
    with open_job(rows, tmp_path / "jan.csv", TASK):  # without a review table, nothing replaces the rows
        pass


def test_corrected_rows_go_through_a_link(tmp_path: Path) -> None:
    link, target = tmp_path / "link", tmp_path / "target"
    link.symlink_to(target)
    write_labelled(link, [{"output": "B"}])
    assert link.is_symlink()
    assert json.loads(target.read_text()) == {"output": "B"}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this platform has no pipes with a name")
def test_corrected_rows_go_through_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    texts: list[str] = []
    reader = threading.Thread(target=lambda: texts.append(pipe.read_text()), daemon=True)
    reader.start()
    write_labelled(pipe, [{"output": "B"}])
    reader.join(30)
    assert pipe.is_fifo()
    assert [json.loads(text) for text in texts] == [{"output": "B"}]


def test_two_jobs_cannot_write_to_one_output_through_a_link(rows: Path, tmp_path: Path) -> None:
    output, link = tmp_path / "real.csv", tmp_path / "link.csv"
    link.symlink_to(output)
    errors: list[tuple[str, ...]] = []

    def second(_: JobStep) -> None:
        with pytest.raises(UsageError) as error:
            run(rows, link)
        errors.append(tuple(error.value.settings))

    run(rows, output, progress=second)
    assert errors == [("output",)] * 2
    with open_table(output) as table:
        assert [row.cells["id"] for row in table.rows()] == ["1", "2"]


def test_the_unfinished_file_of_a_links_target_is_not_replaced(tmp_path: Path) -> None:
    link, unfinished = tmp_path / "link.csv", tmp_path / "real.csv.part"
    link.symlink_to(tmp_path / "real.csv")
    unfinished.write_text("id,review\n1,Great\n")
    with pytest.raises(UsageError) as error, open_job(unfinished, link, TASK):
        pass
    assert error.value.settings == ("output",)
