"""Tests that tables of results keep the input's columns unchanged, and that no added cell is a spreadsheet formula."""

from __future__ import annotations

import csv
import gc
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ecellm_lite import Runtime
from ecellm_lite.answers.answer import Answer, AnswerWarning, ModelName, RowError
from ecellm_lite.answers.attribute_forms import AttributeForm
from ecellm_lite.answers.typed_values import NumberReader
from ecellm_lite.engine.fake import FakeBackend
from ecellm_lite.errors import UsageError
from ecellm_lite.tables import xlsx_writer
from ecellm_lite.tables.columns import ColumnMap, MapOptions
from ecellm_lite.tables.opening import open_table
from ecellm_lite.tables.results import AnswerColumns
from ecellm_lite.tables.row import TableRow
from ecellm_lite.tables.writers import ResultWriter, WriteOptions, form_of
from ecellm_lite.tasks.attributes import Attribute
from ecellm_lite.tasks.registry import TASKS
from tests.tables.reading import cells, read

COLUMNS = ["sku", "title", "answer"]
INPUT: list[dict[str, str | None]] = [
    {"sku": "0012", "title": '=1+1 "x"\r\ny, z', "answer": "-5"},
    {"sku": "+1", "title": "Lamp é 日本", "answer": None},
    {"sku": "3", "title": "\t", "answer": "old"},
]


def answer(value: Any = True, text: str | None = "yes", kind: str = "predicate", **more: Any) -> Answer:
    fields: dict[str, Any] = {
        "id": None, "task": "t", "type": kind, "value": value, "text": text, "probability": 0.8123456789,
        "probabilities": None, "confidence": 0.6, "coverage": 1.0, "abstained": False, "usage": None, "seconds": None,
        "model": ModelName("demo", "0"), "envelope": "alpaca",
    }  # fmt: skip
    return Answer(**{**fields, **more})


FAILED = answer(None, None, probability=None, confidence=None, error=RowError("input", "No title."))
ANSWERS = [answer(warnings=[AnswerWarning("html_removed", "HTML was read.")], shortened="its title"), FAILED, None]


def written(
    path: Path,
    rows: Sequence[Mapping[str, Any]] = INPUT,
    answers: Sequence[Answer | None] = ANSWERS,
    columns: Sequence[str] = COLUMNS,
    own: AnswerColumns | None = None,
    schema: Any = None,
    **options: Any,
) -> Path:
    with path.open("wb") as file:
        writer = ResultWriter(
            file, form_of(path.name), columns, own or AnswerColumns(columns), WriteOptions(**options), schema
        )
        for number, (row, one) in enumerate(zip(rows, answers, strict=True), 1):
            writer.write(TableRow(number, number, row), one)
        writer.close()
        assert not file.closed
    return path


OWN = ["answer (2)", "probability", "confidence", "abstained", "warnings", "error"]


@pytest.mark.parametrize("ending", ["csv", "tsv", "xlsx", "parquet"])
def test_the_inputs_columns_come_first_and_unchanged(tmp_path: Path, ending: str) -> None:
    _, rows = read(written(tmp_path / f"x.{ending}"))
    result = cells(rows)
    empty = "" if ending in {"csv", "tsv"} else None
    for row, source in zip(result, INPUT, strict=True):
        assert [row[name] for name in COLUMNS] == [source[name] or empty for name in COLUMNS]
        assert list(row) == [*COLUMNS, *OWN]
    first, second, third = ([row[name] for name in OWN] for row in result)
    probability = "0.8123456789" if ending == "parquet" else "0.8123"
    assert [str(cell).lower() for cell in first] == [
        "yes", probability, "0.6", "false", "shortened: its title; html was read.", str(empty).lower(),
    ]  # fmt: skip
    assert second[-1] == "No title."
    assert second[0] == second[1] == empty
    assert third == [empty] * 6


def test_json_lines_contain_the_answers(tmp_path: Path) -> None:
    lines = [json.loads(line) for line in written(tmp_path / "x.jsonl").read_text().splitlines()]
    assert ANSWERS[0] is not None
    assert lines[:2] == [json.loads(json.dumps(one.as_dict())) for one in (ANSWERS[0], FAILED)]
    assert lines[2] == {"row": 3, "skipped": True}


@pytest.mark.parametrize("ending", ["csv", "tsv", "xlsx", "parquet"])
def test_an_extraction_has_columns_for_each_attribute(tmp_path: Path, ending: str) -> None:
    value = [
        {"attribute": "Color", "value": "blue", "source": "title", "probability": 0.9, "written": "BLUE"},
        {"attribute": "Size", "value": None, "source": None, "probability": 0.9, "written": None},
    ]
    one = answer(value, "text", "extraction")
    own = AnswerColumns(["sku"], attributes=[Attribute("Color"), Attribute("Size")])
    [row] = cells(read(written(tmp_path / f"x.{ending}", [{"sku": "1"}], [one], ["sku"], own))[1])
    assert (row["Color"], row["Color.written"]) == ("blue", "BLUE")
    assert (row["Size"] or None, row["Size.written"] or None) == (None, None)
    assert "answer" not in row
    assert AnswerColumns(["sku"]).values(one)[0] == '{"Color": "blue", "Size": null}'
    assert own.values(FAILED)[:4] == (None,) * 4


def test_rankings_and_scores_have_readable_cells() -> None:
    assert AnswerColumns([]).values(answer(["a", "b"], "a, b", "labels"))[0] == "a, b"
    assert AnswerColumns([]).values(answer([], "none", "labels"))[0] == "none"
    assert AnswerColumns([]).values(answer(["B", "A"], "B,A", "ranking"))[0] == "B, A"
    assert AnswerColumns([]).values(answer("delivery", "B", "choice"))[0] == "delivery"
    assert AnswerColumns([]).values(answer("B", "B: positive", "choice"))[0] == "B: positive"
    assert AnswerColumns([], scores=True).values(answer(2.5, "3", "score"))[0] == 2.5


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet", "xlsx"])
def test_a_table_of_all_kinds_of_rows_is_written(tmp_path: Path, ending: str) -> None:
    """The table has a good row, a broken row and a skipped row."""
    source, task = tmp_path / "x.csv", TASKS["sentiment_analysis"]
    source.write_text('Handle;Body\na;"<p>Soft &amp; warm</p>"\nb;x;y\nc;\n')
    target = tmp_path / f"out.{ending}"
    with Runtime.over(FakeBackend()) as answerer, open_table(source) as table, target.open("wb") as file:
        columns = ColumnMap(task, table.columns, MapOptions(map=["review=Body", "id=Handle"], only_where="Body"))
        names = table.all_columns()
        writer = ResultWriter(file, form_of(target.name), names, AnswerColumns(names), schema=table.schema)
        for row in columns.rows(table):
            answers = () if row.skipped else answerer.answers(task, [row.request])
            writer.write(row.source, next((row.warned(answer) for answer in answers), None))
        writer.close()
    rows = cells(read(target)[1])
    assert len(rows) == 3
    assert "HTML" in str(rows[0]["warnings"])
    if ending == "jsonl":
        assert [row.get("id") for row in rows] == ["a", None, None]
        assert rows[1]["error"]["code"] == "input"
    else:
        assert [row["Handle"] for row in rows] == ["a", "b", "c"]
        assert [bool(row["answer"]) for row in rows] == [True, False, False]
        assert [bool(row["error"]) for row in rows] == [False, True, False]


FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\uff1d1", '=HYPERLINK("http://x","y")']


@pytest.mark.parametrize("formula", FORMULAS)
def test_no_cell_that_we_add_is_a_formula(tmp_path: Path, formula: str) -> None:
    one = answer(formula, formula, "text", error=RowError("input", formula))
    path = written(tmp_path / "x.csv", [{"sku": formula}], [one], ["sku"])
    with path.open(encoding="utf-8", newline="") as file:
        [_, row] = csv.reader(file)
    assert row[0] == formula
    assert row[1] == row[-1] == f"'{formula}"


def test_safe_cells_guards_input_cells_except_numbers(tmp_path: Path) -> None:
    rows = [{"sku": "=1+1", "price": "-5.00"}, {"sku": "-1+1", "price": "+3%"}]
    path = written(tmp_path / "x.csv", rows, [None, None], ["sku", "price"], safe_cells=True)
    result = cells(read(path)[1])
    assert [(row["sku"], row["price"]) for row in result] == [("'=1+1", "-5.00"), ("'-1+1", "+3%")]


def test_a_byte_order_mark_is_written_on_request(tmp_path: Path) -> None:
    assert written(tmp_path / "x.csv", bom=True).read_bytes().startswith(b"\xef\xbb\xbfsku")
    assert written(tmp_path / "x.csv").read_bytes().startswith(b"sku")


@pytest.mark.parametrize("decimal_comma", [False, True])
def test_csv_has_the_decimal_sign_on_request_in_added_numbers_alone(tmp_path: Path, decimal_comma: bool) -> None:
    one = answer(1.23456789, "1", "score", probability=0.00004, confidence=None)
    own = AnswerColumns(["price"], scores=True)
    path = written(
        tmp_path / "x.csv", [{"price": 2.5}], [one], ["price"], own, delimiter=";", decimal_comma=decimal_comma
    )
    [row] = csv.DictReader(path.read_text("utf-8").splitlines(), delimiter=";")
    expected = ["2.5", "1,2346", "0,0", ""] if decimal_comma else ["2.5", "1.2346", "0.0", ""]
    assert [row[name] for name in ("price", "answer", "probability", "confidence")] == expected


@pytest.mark.parametrize(("number", "text"), [(9.0718474, "9,0718474"), (-5, "-5"), (-5.5, "-5,5")])
def test_a_typed_number_of_an_extraction_is_an_exact_number(tmp_path: Path, number: float, text: str) -> None:
    entry = {"attribute": "Weight", "value": "20 lb", "source": "title", "probability": 0.9, "written": "20 lb"}
    value = [{**entry, "place": None, "normalized": number}]
    own = AnswerColumns([], attributes=[Attribute("Weight", AttributeForm(reader=NumberReader()))])
    path = written(tmp_path / "x.csv", [{}], [answer(value, "text", "extraction")], [], own, decimal_comma=True)
    [row] = csv.DictReader(path.read_text("utf-8").splitlines())
    assert (row["Weight.number"], row["probability"]) == (text, "0,8123")


def test_parquet_keeps_types_even_if_nulls_come_first(tmp_path: Path) -> None:
    schema = pa.schema([("n", pa.int32()), ("tags", pa.list_(pa.string())), ("at", pa.timestamp("ns"))])
    rows: list[dict[str, Any]] = [
        {"n": 1, "tags": ["a"], "at": "1970-01-01 00:00:00.000000001"},
        {"n": None, "tags": None, "at": None},
    ]
    path = written(tmp_path / "x.parquet", rows, [None, ANSWERS[0]], ["n", "tags", "at"], schema=schema)
    table = pq.read_table(path)
    assert table.schema.field("n").type == pa.int32()
    assert table.schema.field("at").type == pa.timestamp("ns")
    assert table["at"][0].value == 1
    assert table["answer"].to_pylist() == [None, "yes"]
    assert [str(table.schema.field(name).type) for name in OWN[1:]] == ["double", "double", "bool", "string", "string"]


def test_an_unfinished_parquet_table_ends_without_a_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ignored: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", ignored.append)
    with (tmp_path / "x.parquet").open("wb") as file:
        writer = ResultWriter(file, "parquet", ["a"], AnswerColumns(["a"]))
        writer.write(TableRow(1, 1, {"a": "x"}), None)
    del writer
    gc.collect()
    assert ignored == []


def test_numbers_of_json_lines_keep_their_spelling(tmp_path: Path) -> None:
    text = '{"price": 19.50, "more": {"net": 1.10, "all": [1e2, {"x": 2.0}], "é": true}, "n": 12345678901234567890}\n'
    source = tmp_path / "x.jsonl"
    source.write_text(text, "utf-8")
    _, rows = read(source)
    path = written(tmp_path / "x.csv", [rows[0].cells], [None], ["price", "more", "n"])
    [row] = cells(read(path)[1])
    assert row["price"] == "19.50"
    assert row["more"] == '{"net": 1.10, "all": [1e2, {"x": 2.0}], "é": true}'
    assert row["n"] == "12345678901234567890"
    mapped = ColumnMap(TASKS["sentiment_analysis"], None, MapOptions(map=["id=price", "review=price"])).row(rows[0])
    assert mapped.row == {"id": "19.50", "review": "19.50"}


@pytest.mark.parametrize("levels", [10, 700])
def test_nested_json_is_written(tmp_path: Path, levels: int) -> None:
    source = tmp_path / "x.jsonl"
    source.write_text('{"a": ' + "[" * levels + "]" * levels + "}\n")
    path = written(tmp_path / "x.csv", [row.cells for row in read(source)[1]], [None], ["a"])
    assert cells(read(path)[1])[0]["a"] == "[" * levels + "]" * levels


def test_whole_numbers_that_a_data_frame_made_fractions_stay_different_ids() -> None:
    numbers = [1234567890123451.0, 1234567890123452.0, 12345678901234568000.0, 12345678901234570000.0]
    columns = ColumnMap(TASKS["sentiment_analysis"], ["id", "review"])
    ids = [(columns.row(TableRow(1, 1, {"id": number, "review": "x"})).row or {})["id"] for number in numbers]
    assert ids[:2] == ["1234567890123451", "1234567890123452"]
    assert len(set(ids)) == 4


def test_a_cell_too_long_for_a_spreadsheet_is_cut_with_a_note(tmp_path: Path) -> None:
    with (tmp_path / "x.xlsx").open("wb") as file:
        writer = ResultWriter(file, "xlsx", ["a"], AnswerColumns(["a"]))
        writer.write(TableRow(1, 1, {"a": "x" * 40_000}), None)
        writer.close()
    assert len(writer.notes) == 1
    [row] = cells(read(tmp_path / "x.xlsx")[1])
    assert row["a"] == "x" * 32_767


def test_a_full_sheet_continues_on_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xlsx_writer, "ROWS", 3)
    path = written(tmp_path / "x.xlsx")
    assert [row["sku"] for sheet in ("1", "2") for row in cells(read(path, sheet=sheet)[1])] == ["0012", "+1", "3"]


def test_numbers_too_precise_for_a_spreadsheet_are_texts(tmp_path: Path) -> None:
    big = 123456789012345678901
    assert cells(read(written(tmp_path / "x.xlsx", [{"a": big}], [None], ["a"]))[1])[0]["a"] == str(big)


@pytest.mark.parametrize("name", ["x.xls", "x.ods", "x.feather", "x.csv.gz", "x.jsonl.ZST", "x.zip"])
def test_unsupported_file_endings_are_refused(name: str) -> None:
    with pytest.raises(UsageError):
        form_of(name)
