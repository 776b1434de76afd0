"""Reads a sheet of an XLSX or ODS file.

The library python-calamine reads a whole sheet as one rectangle of cells. If the rectangle does not fit into memory,
the process is killed. So `sheet_bounds` first checks the rectangle's size, and refuses a sheet that is too large.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from typing import Any

from ecellm_lite.errors import InputError, UsageError
from ecellm_lite.tables.cells import EXACT
from ecellm_lite.tables.extras import library
from ecellm_lite.tables.header import SampleRow, find_header
from ecellm_lite.tables.row import Table, TableOptions, TableRow, fault_of
from ecellm_lite.tables.sheet_bounds import check_bounds
from ecellm_lite.tables.source import Source
from ecellm_lite.tables.totals import without_totals

_SAMPLE_ROWS = 300


@dataclass(slots=True, kw_only=True)
class Spreadsheet(Table):
    """A sheet as a table. A cell is a text, a number, a boolean, a date, a time, or None if it is empty."""

    sheet: Any
    last_place: int  # of the header
    total_rows: bool
    height: int
    place: int = 0

    def rows(self) -> Iterator[TableRow]:
        """Yield the rows that are not empty."""
        rows = self._all_rows()
        return rows if self.total_rows else without_totals(rows, self.notes)

    @property
    def share(self) -> float | None:
        """The fraction of the sheet that has been read, from 0 to 1."""
        return self.place / self.height if self.height else None

    def _all_rows(self) -> Iterator[TableRow]:
        assert self.columns is not None
        number = 0
        for place, row in enumerate(self.sheet.iter_rows(), 1):
            self.place = place
            if place <= self.last_place:
                continue
            cells = [_value(cell) for cell in row]
            if any(cell is not None for cell in cells):
                number += 1
                yield self._row(number, place, cells)

    def _row(self, number: int, place: int, cells: Sequence[Any]) -> TableRow:
        assert self.columns is not None
        by_column = dict(zip(self.columns, cells, strict=False))
        for column, cell in by_column.items():
            if isinstance(cell, str) and (reason := fault_of(cell)):
                where = f"Row {place}, column {column!r},"
                error = InputError(f"{where} {reason}", step="correct it there", field=column, line=place)
                return TableRow(number, place, by_column, error)
        return TableRow(number, place, by_column)


def open_spreadsheet(source: Source, options: TableOptions) -> Spreadsheet:
    """Return the sheet that `options` name or, if they name no sheet, the first visible sheet with cells."""
    calamine = library("python_calamine", "A spreadsheet")
    file = source.seekable()
    check_bounds(file, source.name)
    file.seek(0)
    try:
        workbook = calamine.load_workbook(file)
        sheet, finding = _sheet(workbook, options.sheet, source.name)
        sample = list(islice(sheet.iter_rows(), _SAMPLE_ROWS))
    except calamine.PasswordError:
        raise InputError(f"{source.name} is locked by a password", step="save it without one") from None
    except calamine.CalamineError as error:
        raise InputError(
            f"{source.name} is not a readable spreadsheet ({error})", step="save it again as XLSX or as CSV"
        ) from None
    values = [[_value(cell) for cell in row] for row in sample]
    rows = [
        SampleRow(place, place, cells)
        for place, cells in enumerate(values, 1)
        if any(cell is not None for cell in cells)
    ]
    if not rows:
        raise InputError(f"{source.name} has no rows", step="give a sheet with a header and rows", settings=("sheet",))
    header = find_header(rows, max(len(row.cells) for row in rows), options.header_row)
    width = len(header.columns)
    parts = [part for part in (finding, *header.findings) if part]
    return Spreadsheet(
        source=source,
        columns=header.columns,
        description=f"{source.name}: spreadsheet, {', '.join(parts)}; {width} {'column' if width == 1 else 'columns'}",
        sheet=sheet,
        sheet_name=sheet.name,
        last_place=header.last,
        total_rows=options.total_rows,
        height=sheet.total_height,
        bom=True,
    )


def _sheet(workbook: Any, sheet: str | None, name: str) -> tuple[Any, str]:
    names: list[str] = workbook.sheet_names
    if sheet is not None:
        if sheet not in names and sheet.isdigit() and 0 < int(sheet) <= len(names):
            sheet = names[int(sheet) - 1]
        if sheet not in names:
            raise UsageError(
                f"{name} has no sheet {sheet!r}",
                step=f"use one of {', '.join(map(repr, names[:8]))}",
                settings=("sheet",),
            )
        return workbook.get_sheet_by_name(sheet), f"sheet {sheet!r}"
    visible = [each.name for each in workbook.sheets_metadata if "Visible" in repr(each.visible).split(".")] or names
    for candidate in visible:
        frame = workbook.get_sheet_by_name(candidate)
        if frame.height > 0:
            return frame, f"sheet {candidate!r}" + (f" of {len(names)}" if len(names) > 1 else "")
    raise InputError(f"{name} has no sheet with rows", step="give a table with a header and rows")


def _value(cell: Any) -> Any:
    """Return a cell's value. A number without a fraction becomes an int: spreadsheets store 3 as 3.0."""
    if cell == "" or cell is None:
        return None
    if isinstance(cell, float) and cell.is_integer() and abs(cell) <= EXACT:
        return int(cell)
    return str(cell) if isinstance(cell, timedelta) else cell
