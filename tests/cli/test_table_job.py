"""Tests what `run --rows` says about an interrupted job, wrong corrections and empty cells."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import xlsxwriter

from ecellm_lite import Runtime
from ecellm_lite import runtime as runtime_module
from ecellm_lite.cli import table_job
from ecellm_lite.cli.main import run_command
from ecellm_lite.engine.fake import FakeBackend
from ecellm_lite.jobs.job_row import JobStep
from ecellm_lite.jobs.journal import Journal, journal_of
from ecellm_lite.jobs.review import CORRECTION
from tests.jobs.test_review import read, write


@contextmanager
def interrupting(*, hidden: bool) -> Iterator[Callable[[JobStep], None]]:
    def advance(step: JobStep) -> None:
        if step.number == 3:
            raise KeyboardInterrupt

    yield advance


def fake(*, context: int | None, deterministic: bool, **_: Any) -> Runtime:
    return Runtime.over(FakeBackend(cells=context or 4096), deterministic=deterministic)


@pytest.mark.parametrize("options", [[], ["--restart"]])
def test_an_interrupted_job_says_what_is_kept(
    options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(runtime_module, "Runtime", fake)
    monkeypatch.setattr(table_job, "job_progress", interrupting)
    rows, output = tmp_path / "rows.csv", tmp_path / "answers.csv"
    rows.write_text("id,review\n" + "".join(f"{number},review {number}\n" for number in range(400)))
    command = ["run", "-t", "SA", "--rows", str(rows), "--quiet"]
    assert run_command([*command, "--output", str(output), *options]) == 130
    with Journal(journal_of(output), None) as journal:
        count = journal.count()
    assert count >= 3
    error = capsys.readouterr().err
    assert f"{count} " in error
    assert str(journal_of(output)) in error
    assert ("--restart" in error) == bool(options)
    assert run_command(command) == 130
    assert "journal" not in capsys.readouterr().err


def test_a_new_row_and_a_wrong_word_stop_neither_the_corrections_nor_the_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(runtime_module, "Runtime", fake)
    rows, output, review = (tmp_path / name for name in ("rows.csv", "answers.csv", "answers.review.csv"))
    rows.write_text("id,review\n1,fine\n2,it leaks\n")
    command = ["run", "-t", "SA", "--rows", str(rows), "--output", str(output), "--quiet"]
    job, corrections = [*command, "--review-below", "1"], [*command, "--corrections", str(review)]
    assert run_command(job) == 0
    lines = read(review)
    lines[0][CORRECTION], lines[1][CORRECTION] = "E", "splendid"
    write(review, lines)
    rows.write_text("id,review\n1,fine\n2,it leaks\n3,new\n")
    capsys.readouterr()
    assert run_command(corrections) == 5
    assert "line 3 'splendid'" in capsys.readouterr().err
    assert [line["answer"] for line in read(output)][::2] == ["E: very negative", ""]
    assert run_command(job) == 0
    assert len(read(review)) == 2
    write(review, [{**read(review)[0], CORRECTION: "D"}])
    assert [run_command(corrections), run_command(job)] == [0, 0]


def test_the_error_of_an_empty_cell_names_the_option_that_leaves_it_unanswered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(runtime_module, "Runtime", fake)
    output = tmp_path / "answers.csv"
    with xlsxwriter.Workbook(tmp_path / "rows.xlsx") as book:
        sheet = book.add_worksheet()
        for place, cells in enumerate([["Nr", "Bewertung neu"], ["A1", "fine"], ["A2"], ["A3", "it leaks"]], start=3):
            sheet.write_row(place, 0, cells)
    command = ["run", "-t", "SA", "--rows", str(tmp_path / "rows.xlsx"), "--map", "review=Bewertung neu"]
    assert run_command([*command, "--output", str(output)]) == 5
    error = read(output)[1]["error"]
    assert "6" in error  # the row of the sheet
    assert "--only-where 'Bewertung neu'" in error
    assert run_command([*command, "--output", str(output), "--only-where", "Bewertung neu"]) == 0
    assert [(line["Nr"], bool(line["answer"])) for line in read(output)] == [("A1", True), ("A2", False), ("A3", True)]
