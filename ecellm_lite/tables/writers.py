"""Writes a job's results as a table: first the input's columns, unchanged, then columns for the answers.

The file's name decides its type: CSV, TSV, XLSX, Parquet, or else JSON Lines. JSON Lines are an exception: a line has
the complete answer, but not the input's columns. With several tasks, the line is
`{"id": …, "answers": {TASK: answer, …}}`.

All types are written row by row, in bounded memory. The caller opens the file and closes it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import IO, TYPE_CHECKING, Any, Protocol

from ecellm_lite.answers.answer import Answer
from ecellm_lite.errors import UsageError
from ecellm_lite.tables.cells import exact_text
from ecellm_lite.tables.results import AnswerColumns, OwnColumn
from ecellm_lite.tables.row import Table, TableRow

if TYPE_CHECKING:
    import pyarrow as pa

_FORMS = {".csv": "csv", ".tsv": "tsv", ".tab": "tsv", ".xlsx": "xlsx", ".parquet": "parquet"}
_NEAR = {".xls": ".xlsx", ".ods": ".xlsx", ".arrow": ".parquet", ".feather": ".parquet"}
_PACKED = frozenset((".gz", ".tgz", ".zst", ".zip", ".bz2", ".xz", ".lz4", ".br", ".7z"))


@dataclass(frozen=True, slots=True)
class WriteOptions:
    """Options for writing a table.

    `bom`: whether a CSV file begins with a byte-order mark, which tells Excel that the file is UTF-8. If `bom` is None,
      there is no mark, unless the method `of` fills it in.
    `safe_cells`: whether the input's cells are guarded in CSV, so that no spreadsheet runs them as formulas. Added
      cells are always guarded.
    `delimiter`: the delimiter of a CSV file.
    `utf16`: whether a CSV file is in UTF-16, with a byte-order mark.
    `decimal_comma`: whether the added numbers in a CSV file have a decimal comma. If it is None, they have a decimal
      point, unless the method `of` fills it in.
    `sheet_name`: the name of the first sheet of an XLSX file, or None for the usual one.
    """

    bom: bool | None = None
    safe_cells: bool = False
    delimiter: str = ","
    utf16: bool = False
    decimal_comma: bool | None = None
    sheet_name: str | None = None

    def of(self, table: Table) -> WriteOptions:
        """Return the options for a file that opens in the spreadsheet program that wrote `table`.

        If `bom` or `decimal_comma` is None, its value is taken from `table`. The delimiter and UTF-16 are always taken
        from `table`, with two exceptions. With `bom=False`, a CSV file is plain UTF-8. With decimal commas, cells are
        separated by semicolons instead of commas.
        """
        decimal_comma = table.decimal_comma if self.decimal_comma is None else self.decimal_comma
        return replace(
            self,
            bom=table.bom if self.bom is None else self.bom,
            delimiter=";" if decimal_comma and table.delimiter == "," else table.delimiter,
            utf16=table.utf16 and self.bom is not False,
            decimal_comma=decimal_comma,
            sheet_name=table.sheet_name,
        )


class RowWriter(Protocol):
    """Writes rows to a file of one type.

    `notes` are sentences about values that were changed because this file type cannot hold them. Read `notes` after
    `close`.
    """

    notes: list[str]

    def write(self, cells: Sequence[Any], own: Sequence[Any]) -> None:
        """Write a row: first the input's cells, then the added cells (`own`)."""

    def close(self) -> None:
        """Write the end of the table. The file itself stays open."""


def form_of(name: str) -> str:
    """Return the file type for a file's name: csv, tsv, xlsx, parquet, or jsonl for any other name.

    Raises UsageError for a file type that can be read but not written (.xls, .ods, .arrow, .feather), and for a
    compressed file, such as one that ends in .gz.
    """
    suffix = PurePath(name).suffix.lower()
    if suffix in _PACKED:
        step = f"leave {suffix} out, and pack the file when the job has ended"
        raise UsageError(f"Files ending in {suffix} are not written", step=step, settings=("output",))
    if suffix in _NEAR:
        raise UsageError(f"Files ending in {suffix} are not written", step=f"use {_NEAR[suffix]}", settings=("output",))
    return _FORMS.get(suffix, "jsonl")


class ResultWriter:
    """Writes the rows of a table, with their answers to one or several tasks.

    `columns`: the input's columns.
    `answers`: the columns to add for each task.
    `schema`: the Arrow types of the input's columns, if they are known.
    """

    def __init__(
        self,
        file: IO[bytes],
        form: str,
        columns: Sequence[str],
        answers: AnswerColumns | Sequence[AnswerColumns],
        options: WriteOptions | None = None,
        schema: pa.Schema | None = None,
    ) -> None:
        self._columns = tuple(columns)
        self._answers = (answers,) if isinstance(answers, AnswerColumns) else tuple(answers)
        self._lines = None
        self._rows: RowWriter | None = None
        if form == "jsonl":
            self._lines = file
        else:
            own = [column for each in self._answers for column in each.columns]
            self._rows = _row_writer(file, form, self._columns, own, options or WriteOptions(), schema)

    @property
    def notes(self) -> Sequence[str]:
        """Sentences about values that were changed to fit the file type. Read them after `close`."""
        return self._rows.notes if self._rows else ()

    def write(self, row: TableRow, *answers: Answer | None, more: Mapping[str, str | None] | None = None) -> None:
        """Write a row and its answer to each task. The answer is None for a task that skipped the row.

        `more`: the values of further columns. In JSON Lines, the line then also has the cells of the input's row.
        """
        if self._rows:
            cells: Mapping[str, Any] = row.cells
            parts = zip(self._answers, answers, strict=True)
            values = [value for columns, answer in parts for value in columns.values(answer, more or {})]
            self._rows.write([cells.get(column) for column in self._columns], values)
        elif self._lines:
            self._lines.write(_line(row, answers, more))

    def close(self) -> None:
        """Write the end of the table. The file itself stays open."""
        if self._rows:
            self._rows.close()


def _row_writer(
    file: IO[bytes],
    form: str,
    columns: Sequence[str],
    own: Sequence[OwnColumn],
    options: WriteOptions,
    schema: pa.Schema | None,
) -> RowWriter:
    if form == "xlsx":
        from ecellm_lite.tables.xlsx_writer import XlsxWriter

        return XlsxWriter(file, columns, own, options.sheet_name)
    if form == "parquet":
        from ecellm_lite.tables.parquet_writer import ParquetWriter

        return ParquetWriter(file, columns, own, schema)
    from ecellm_lite.tables.csv_writer import CsvWriter

    return CsvWriter(
        file,
        columns,
        own,
        delimiter="\t" if form == "tsv" else options.delimiter,
        bom=bool(options.bom),
        utf16=options.utf16,
        decimal_comma=bool(options.decimal_comma),
        safe_cells=options.safe_cells,
    )


def _line(row: TableRow, answers: Sequence[Answer | None], more: Mapping[str, str | None] | None) -> bytes:
    data: dict[str, Any] = {"row": row.number, "skipped": True}
    if len(answers) == 1 and answers[0]:
        data = answers[0].as_dict()
    elif present := [answer for answer in answers if answer]:
        data = {"id": present[0].id, "answers": {answer.task: answer.as_dict() for answer in present}}
    if more is not None:
        data = {**more, "row": row.cells, **data}
    return json.dumps(data, default=exact_text).encode("ascii") + b"\n"
