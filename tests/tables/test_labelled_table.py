"""Tests that labelled rows are read from tables in several file formats, and that wrong answers are reported."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import xlsxwriter

from ecellm_lite.errors import InputError, UsageError
from ecellm_lite.tables.columns import MapOptions
from ecellm_lite.tables.labelled_table import LabelledOptions, labelled_file, labelled_rows
from ecellm_lite.tables.row import TableOptions
from ecellm_lite.tasks.registry import get_task, load_task
from ecellm_lite.tasks.task import Task
from tests.support.own_tasks import ANSWERS, FIELDS
from tests.support.refusals import refusal

SA = get_task("SA")
REVIEWS = [
    ("A1", "Schön und groß.", "sehr", "A"),
    ("A2", "Naja; „geht“ so.", "", "neutral"),
    ("A3", "Kaputt.", "", "D"),
]
OUTPUTS = ["A: very positive", "C: neutral", "D: negative"]


def read(path: Path, task: Task = SA, **options: Any) -> list[tuple[int, Any]]:
    return list(labelled_rows(path, task, LabelledOptions(**options)))


def own_task(folder: Path, answer: str) -> Task:
    path = folder / "own.toml"
    path.write_text(f'name = "own"\nsummary = "x"\ninstruction = "Say."\n{FIELDS}\n[answer]\n{ANSWERS[answer]}\n')
    return load_task(path)


def write_csv(path: Path, rows: Sequence[Sequence[str]], encoding: str = "utf-8", delimiter: str = ";") -> Path:
    path.write_bytes("".join(delimiter.join(f'"{cell}"' for cell in row) + "\r\n" for row in rows).encode(encoding))
    return path


def write_xlsx(path: Path, rows: Sequence[Sequence[object]]) -> Path:
    with xlsxwriter.Workbook(path) as book:
        sheet = book.add_worksheet()
        for place, row in enumerate(rows):
            sheet.write_row(place, 0, row)
    return path


@pytest.mark.parametrize("form", ["cp1252", "utf-8-sig", "tsv", "xlsx", "jsonl"])
def test_every_form_of_table_gives_the_same_rows(form: str, tmp_path: Path) -> None:
    head, path = ("id", "review", "Note", "Label"), tmp_path / f"rows.{form}"
    if form == "xlsx":
        write_xlsx(path, [head, *REVIEWS])
    elif form == "jsonl":
        path.write_text("".join(json.dumps(dict(zip(head, row, strict=True))) + "\n" for row in REVIEWS))
    elif form == "tsv":
        write_csv(path, [head, *REVIEWS], delimiter="\t")
    else:
        write_csv(path, [head, *REVIEWS], encoding=form)
    rows = read(path)
    assert [line for line, _ in rows] == ([1, 2, 3] if form == "jsonl" else [2, 3, 4])
    assert [(row["id"], row["input"]["review"]) for _, row in rows] == [(each[0], each[1]) for each in REVIEWS]
    assert [row["output"] for _, row in rows] == OUTPUTS


def test_columns_are_mapped_as_for_a_job(tmp_path: Path) -> None:
    rows = [("Nr", "Text", "Urteil", "answer"), ("1", "Gut.", "B", "A"), ("2", "", "", ""), ("3", "Mies.", "", "E")]
    path, sentences = write_csv(tmp_path / "rows.csv", rows), list[str]()
    options = MapOptions(map=["review=Text", "id=Nr"], only_where="Text")
    (line, row), (last, error) = read(path, map=options, answer_column="urteil", describe=sentences.append)
    assert (line, row["id"], row["input"], row["output"]) == (2, "1", {"review": "Gut."}, "B: positive")
    assert (last, type(error), error.field, error.settings) == (4, InputError, "output", ("only_where",))
    assert "'Text'" in sentences[0]
    assert "'Urteil'" in sentences[0]


def test_a_wrong_answer_is_reported_and_costs_no_other_row(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "rows.csv", [("review", "label"), ("Gut.", "splendid"), ("Gut.", "b")])
    (line, error), (_, row) = read(path)
    assert (line, type(error)) == (2, InputError)
    assert "'splendid'" in str(error)
    assert row["output"] == "B: positive"


@pytest.mark.parametrize(
    ("head", "values"), [(("review", "Label", "gold"), ("'Label'", "'gold'")), (("review", "mood"), ("'mood'", "gold"))]
)
def test_no_column_or_several_for_the_answer_are_refused(
    head: tuple[str, ...], values: tuple[str, ...], tmp_path: Path
) -> None:
    path = write_csv(tmp_path / "rows.csv", [head, *[("Gut.", "A", "B")[: len(head)]] * 2])
    with refusal(UsageError, *values, settings=("answer_column",)):
        read(path)
    with refusal(UsageError, "'rating'", *values[:1], settings=("answer_column",)):
        read(path, answer_column="rating")


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_a_jobs_answers_are_not_taken_as_right_answers(form: str, tmp_path: Path) -> None:
    def written(name: str, **cells: Any) -> Path:
        row = {"review": "Gut.", "answer": "B: positive", "probability": 0.9, "confidence": 0.9, "abstained": False}
        row |= cells
        path = tmp_path / f"{name}.{form}"
        if form == "jsonl":
            path.write_text(f"{json.dumps(row)}\n" * 2)
            return path
        return write_csv(path, [[*row], *[[str(cell) for cell in row.values()]] * 2])

    with refusal(UsageError, "'answer'", "'probability'", settings=("answer_column",)):
        read(written("job"))
    assert [row["output"] for _, row in read(written("job"), answer_column="answer")] == ["B: positive"] * 2
    assert [row["output"] for _, row in read(written("labelled", gold="E"))] == ["E: very negative"] * 2
    with refusal(UsageError, "'gold'", "'label'", settings=("answer_column",)):
        read(written("twice", gold="E", label="E"))


def test_a_jobs_extracted_values_are_not_taken_as_right_values(tmp_path: Path) -> None:
    head = ("title", "Color", "probability", "abstained")
    path = write_csv(tmp_path / "rows.csv", [head, *[("Red mug", "red", "0.9", "FALSE")] * 2])
    options = MapOptions(constants={"attributes": "Color"})
    with refusal(UsageError, "'Color'", "'probability'"):
        read(path, get_task("AVE"), map=options)


def test_columns_like_a_jobs_may_be_fields(tmp_path: Path) -> None:
    head = ("probability", "abstained", "answer")
    path = write_csv(tmp_path / "rows.csv", [head, *[("Gut.", "no", "A")] * 2])
    rows = read(path, map=MapOptions(map=["review=probability"]))
    assert [row["output"] for _, row in rows] == ["A: very positive"] * 2


def test_a_column_that_is_a_field_is_not_the_answer(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "rows.csv", [("label", "output"), ("Gut.", "A"), ("Mies.", "E")])
    rows = read(path, map=MapOptions(map=["review=label"]))
    assert [(row["input"], row["output"]) for _, row in rows] == [
        ({"review": "Gut."}, "A: very positive"),
        ({"review": "Mies."}, "E: very negative"),
    ]


@pytest.mark.parametrize(
    ("answer", "cells", "outputs"),
    [
        ("predicate", (True, "No"), ["yes", "no"]),
        ("labels", ("ab, A", "none"), [["A", "AB"], []]),
        ("score", ("Good", "very bad"), ["good", "very bad"]),
        ("ranking", ("b > a", "A,B"), ["B,A", "A,B"]),
    ],
)
def test_answers_are_read_as_a_person_writes_them(
    answer: str, cells: tuple[object, object], outputs: list[Any], tmp_path: Path
) -> None:
    task = own_task(tmp_path, answer)
    notes = json.dumps(["a lamp", "a chair"])
    path = write_xlsx(
        tmp_path / "rows.xlsx", [("question", "notes", "gold"), *[("Lamp?", notes, cell) for cell in cells]]
    )
    rows = [row for _, row in read(path, task)]
    spaces = [task.question(row).space for row in rows]
    texts = [space.written(row["output"]) for space, row in zip(spaces, rows, strict=True)]
    assert texts == [space.written(output) for space, output in zip(spaces, outputs, strict=True)]


def test_an_extraction_has_a_column_for_each_attribute(tmp_path: Path) -> None:
    task = get_task("AVE")
    head = ("title", "Color", "Size")
    path = write_csv(tmp_path / "rows.csv", [head, ("Navy shirt", "Navy", ""), ("Mug", "red", "")])
    options = MapOptions(constants={"attributes": "Color,Size"})
    (_, row), (line, error) = read(path, task, map=options)
    values = {entry["attribute"].lower(): entry["value"] for entry in json.loads(row["output"])}
    assert values == {"color": "navy", "size": "None"}
    assert (line, type(error)) == (3, InputError)
    assert "'red'" in str(error)
    with refusal(UsageError, "'Weight'"):
        read(path, task, map=MapOptions(constants={"attributes": "Color,Weight"}))


def test_a_row_in_the_projects_format_stays_as_it_is(tmp_path: Path) -> None:
    line = {"id": 7, "input": {"review": "Gut."}, "output": "C: neutral", "label": "A"}
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(line) + "\n")
    assert read(path) == [(1, line)]


def test_options_of_a_table_hold(tmp_path: Path) -> None:
    path = tmp_path / "rows.txt"
    path.write_bytes("Export\nreview~label\nGroß~A\n".encode("cp850"))
    [(line, row)] = read(path, table=TableOptions(encoding="cp850", delimiter="~", header_row=2))
    assert (line, row["input"]["review"]) == (3, "Groß")


def test_a_folder_has_one_file_of_a_split(tmp_path: Path) -> None:
    assert labelled_file(tmp_path, "test") is None
    (tmp_path / "test.csv").write_text("")
    assert labelled_file(tmp_path, "test") == tmp_path / "test.csv"
    (tmp_path / "test.jsonl").write_text("")
    with refusal(UsageError, "test.csv", "test.jsonl"):
        labelled_file(tmp_path, "test")
