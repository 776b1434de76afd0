"""Writes XLSX row by row. A text is always written as a text, never as a formula."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, time
from decimal import Decimal
from typing import IO, Any

from ecellm_lite.errors import UsageError
from ecellm_lite.tables.cells import EXACT, cell_text
from ecellm_lite.tables.extras import library
from ecellm_lite.tables.results import OwnColumn
from ecellm_lite.tasks.fields import encodable

CELL_CHARACTERS = 32_767
ROWS = 1_048_576
COLUMNS = 16_384
_FIRST_YEAR = 1900


class XlsxWriter:
    """Writes rows to a sheet. When the sheet is full, writing continues on a new sheet."""

    def __init__(self, file: IO[bytes], columns: Sequence[str], own: Sequence[OwnColumn]) -> None:
        xlsxwriter = library("xlsxwriter", "Writing XLSX")
        self.notes: list[str] = []
        self._own = tuple(own)
        self._header = [*columns, *(column.name for column in own)]
        if len(self._header) > COLUMNS:
            raise UsageError(
                f"XLSX has room for {COLUMNS:,} columns, and there are {len(self._header):,}",
                step="write CSV or Parquet",
                settings=("output",),
            )
        settings = {"constant_memory": True, "remove_timezone": True, "nan_inf_to_errors": True}
        self._book = xlsxwriter.Workbook(file, settings)
        self._bold = self._book.add_format({"bold": True})
        self._formats = {
            form: self._book.add_format({"num_format": pattern})
            for form, pattern in ((datetime, "yyyy-mm-dd hh:mm:ss"), (date, "yyyy-mm-dd"), (time, "hh:mm:ss"))
        }
        self._sheet: Any = None
        self._row = ROWS
        self._cut = 0
        self._next_sheet()

    def write(self, cells: Sequence[Any], own: Sequence[Any]) -> None:
        """Write a row: first the input's cells, then the added cells (`own`)."""
        if self._row == ROWS:
            self._next_sheet()
        shown = (column.shown(value) for column, value in zip(self._own, own, strict=True))
        for place, cell in enumerate((*cells, *shown)):
            if cell is not None and cell != "":
                self._write(place, cell)
        self._row += 1

    def close(self) -> None:
        """Write the end of the file."""
        self._book.close()
        if self._cut:
            cells = "1 cell" if self._cut == 1 else f"{self._cut:,} cells"
            self.notes.append(f"{cells} had more than the {CELL_CHARACTERS:,} characters of XLSX and were cut")

    def _next_sheet(self) -> None:
        self._sheet = self._book.add_worksheet()
        self._sheet.freeze_panes(1, 0)
        self._row = 0
        for place, name in enumerate(self._header):
            self._sheet.write_string(0, place, name[:CELL_CHARACTERS], self._bold)
        self._row = 1

    def _write(self, place: int, cell: Any) -> None:
        if isinstance(cell, bool):
            self._sheet.write_boolean(self._row, place, cell)
        elif isinstance(cell, int | float | Decimal) and -EXACT <= cell <= EXACT:
            self._sheet.write_number(self._row, place, cell)
        elif isinstance(cell, time) or (isinstance(cell, date) and cell.year >= _FIRST_YEAR):
            form = next(form for form in self._formats if isinstance(cell, form))
            self._sheet.write_datetime(self._row, place, cell, self._formats[form])
        else:
            text = encodable(cell_text(cell))
            if len(text) > CELL_CHARACTERS:
                text = text[:CELL_CHARACTERS]
                self._cut += 1
            self._sheet.write_string(self._row, place, text)
