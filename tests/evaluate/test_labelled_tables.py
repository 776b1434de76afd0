"""Tests that `eval`, `calibrate` and training read the same rows from a table as from JSON Lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import xlsxwriter

from ecellm_lite import Runtime
from ecellm_lite.engine.fake import FakeBackend
from ecellm_lite.errors import InputError
from ecellm_lite.evaluate.calibrating import calibrate_task, read_tasks
from ecellm_lite.evaluate.run import prepare_evaluation
from ecellm_lite.tables.columns import MapOptions
from ecellm_lite.tables.labelled_table import LabelledOptions
from ecellm_lite.tasks.registry import get_task
from ecellm_lite.training.rows import read_rows
from tests.support.drawn_cases import MODEL
from tests.support.labelled_rows import row, write_lines
from tests.support.refusals import refusal

SA = get_task("SA")
LETTERS = "AC"
READING = LabelledOptions(map=MapOptions(map=["review=Text"]), answer_column="Urteil")


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    return write_lines(tmp_path / "rows.jsonl", [row("sentiment_analysis", number) for number in range(24)])


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Write the rows of the fixture `lines` to a spreadsheet, each labelled with a letter, and return its path."""
    path = tmp_path / "rows.xlsx"
    with xlsxwriter.Workbook(path) as book:
        sheet = book.add_worksheet()
        sheet.write_row(0, 0, ("id", "Text", "Urteil"))
        for number in range(24):
            each = row("sentiment_analysis", number)
            sheet.write_row(number + 1, 0, (each["id"], each["input"]["review"], LETTERS[number % 2]))
    return path


def test_eval_and_calibrate_give_the_same_from_a_table_and_from_json_lines(lines: Path, table: Path) -> None:
    pytest.importorskip("scipy", reason="fitting a temperature needs the extra 'eval'")
    evaluated: list[Any] = []
    calibrated: list[Any] = []
    for path, reading in ((lines, None), (table, READING)):
        with Runtime.over(FakeBackend(), name=MODEL) as runtime:
            result = prepare_evaluation(path, [SA], reading=reading).run(runtime).tasks[SA.name]
            [(task, rows, data)], rows_read = read_tasks(path, [SA], reading=reading)
            fitted = calibrate_task(runtime, task, rows, data, target_precision=0.6).as_dict()
        evaluated.append(
            (result.rows, result.metrics, result.interval, [each.gold for each in rows], rows_read.unreadable)
        )
        calibrated.append({name: value for name, value in fitted.items() if name != "data"})
    assert evaluated[0] == evaluated[1]
    assert calibrated[0] == calibrated[1]


def test_a_wrong_answer_is_reported_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("review,label\nGood.,A\nBad.,rotten\nFine.,\n")
    rows = prepare_evaluation(path, [SA]).rows
    assert len(rows.rows[SA.name]) == 1
    lines = {each.line: each.message for each in rows.unreadable[SA.name]}
    assert list(lines) == [3, 4]
    assert "'rotten'" in lines[3]
    assert "'label'" in lines[4]


def test_a_table_has_the_rows_of_one_task(table: Path) -> None:
    with refusal(InputError, "rows.xlsx", settings=("tasks",)):
        prepare_evaluation(table, [SA, get_task("PM")])


def test_a_split_column_selects_rows_as_in_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("review,label,split\nGood.,A,train\nBad.,D,test\nFine.,B,\n")
    assert [each.line for each in prepare_evaluation(path, [SA]).rows.rows[SA.name]] == [3, 4]


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_rows_of_another_task_or_split_are_left_out_even_if_this_task_cannot_read_them(
    form: str, tmp_path: Path
) -> None:
    path = tmp_path / f"rows.{form}"
    names = ("task", "split", "review", "label")
    rows = [
        ("sentiment_analysis", "test", "Good.", "A"),
        ("routing", "test", "Late.", "delivery"),
        ("routing", "test", "", ""),
        ("SA", "train", "Not labelled yet.", ""),
        ("", "", "Bad.", "rotten"),
    ]
    if form == "csv":
        path.write_text("".join(";".join(each) + "\n" for each in (names, *rows)))
    else:
        write_lines(path, [dict(zip(names, each, strict=True)) for each in rows])
    read = prepare_evaluation(path, [SA]).rows
    assert [each.row["input"]["review"] for each in read.rows[SA.name]] == ["Good."]
    assert ["'rotten'" in each.message for each in read.unreadable[SA.name]] == [True]
    assert read.others == {"routing": 2}


def test_a_folder_may_have_tables(tmp_path: Path) -> None:
    for name in ("train", "test"):
        path = tmp_path / SA.name / f"{name}.csv"
        path.parent.mkdir(exist_ok=True)
        path.write_text("review;label\nGood.;A\nBad.;very negative\n", "cp1252")
    evaluation = prepare_evaluation(tmp_path, [SA, get_task("PM")])
    assert evaluation.data[0].name == f"{tmp_path.name}/{SA.name}/test.csv"
    [[first, second]] = read_rows(tmp_path).values()
    assert (first["input"], first["output"]) == ({"review": "Good."}, "A: very positive")
    assert second["output"] == "E: very negative"
    path.with_name("train.csv").write_text("review;label\nGood.;rotten\n", "cp1252")
    with refusal(InputError, "'rotten'", "train.csv", line=2):
        read_rows(tmp_path)


def test_a_table_of_caslies_task_is_read(tmp_path: Path) -> None:
    pytest.importorskip("scipy", reason="fitting a temperature needs the extra 'eval'")
    task = get_task("category_classification")
    example = task.example()
    answer = task.question(example).space.alternatives[0]
    path = write_lines(tmp_path / "rows.jsonl", [{**example, "label": answer}])
    [(_, rows, _)], rows_read = read_tasks(path, [task])
    assert ([each.gold for each in rows], rows_read.unreadable) == ([answer], {})
