"""Writes XLSX row by row. A text is always written as a text, never as a formula.

Each sheet has a filter, a header that stays in view, and columns as wide as their contents. Dates have formats that
each spreadsheet program shows in its user's own way.
"""

from __future__ import annotations

import re
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

# Excel's built-in number formats, and how many characters a cell then has at most.
_BUILT_IN = {datetime: (22, 16), date: (14, 10), time: (21, 8), int: (1, 0)}
_DIGITS = 17  # of the longest number, with its sign
_LONG_NUMBER = 10**11  # without a format, Excel shows whole numbers from here on as 1.23457E+12

_NARROWEST, _WIDEST = 8, 60  # characters
_MARGIN, _FILTER_BUTTON = 2, 3

_NAME_CHARACTERS = 31  # in UTF-16, where an emoji counts twice
_NOT_IN_NAMES = re.compile(r"[\[\]:*?/\\\x00-\x1f]")
_LIST_CHARACTERS = 255


class XlsxWriter:
    """Writes rows to a sheet. When the sheet is full, writing continues on a new sheet.

    `sheet_name`: the first sheet's name, or None for `Sheet1`.
    """

    def __init__(
        self, file: IO[bytes], columns: Sequence[str], own: Sequence[OwnColumn], sheet_name: str | None = None
    ) -> None:
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
        self._formats = {kind: self._book.add_format({"num_format": number}) for kind, (number, _) in _BUILT_IN.items()}
        self._name = _beginning(_NOT_IN_NAMES.sub("_", sheet_name or "Sheet1"), _NAME_CHARACTERS).strip("'") or "Sheet1"
        self._widths = [min(len(name) + _FILTER_BUTTON, _WIDEST) for name in self._header]
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
        self._end_sheet()
        self._book.close()
        if self._cut:
            cells = "1 cell" if self._cut == 1 else f"{self._cut:,} cells"
            self.notes.append(f"{cells} had more than the {CELL_CHARACTERS:,} characters of XLSX and were cut")

    def _next_sheet(self) -> None:
        name = self._name
        if self._sheet:
            self._end_sheet()
            number = f" ({len(self._book.worksheets()) + 1})"
            name = _beginning(name, _NAME_CHARACTERS - len(number)) + number
        self._sheet = self._book.add_worksheet(name)
        self._sheet.freeze_panes(1, 0)
        self._row = 0
        for place, column in enumerate(self._header):
            self._sheet.write_string(0, place, column[:CELL_CHARACTERS], self._bold)
        self._row = 1

    def _end_sheet(self) -> None:
        """Set what depends on the sheet's rows: the filter, the columns' widths, and the drop-down lists."""
        last = max(self._row - 1, 1)
        self._sheet.autofilter(0, 0, last, len(self._header) - 1)
        for place, width in enumerate(self._widths):
            self._sheet.set_column(place, place, max(width + _MARGIN, _NARROWEST))
        for place, column in enumerate(self._own, len(self._header) - len(self._own)):
            if _fits_a_list(column.options):
                choice = {"validate": "list", "source": list(column.options), "show_error": False}
                self._sheet.data_validation(1, place, last, place, choice)

    def _write(self, place: int, cell: Any) -> None:
        if isinstance(cell, bool):
            self._sheet.write_boolean(self._row, place, cell)
            width = 0
        elif isinstance(cell, int | float | Decimal) and not _is_nan(cell) and -EXACT <= cell <= EXACT:
            # xlsxwriter writes 16 digits. For the float 0.815 they are 0.8149999999999999, for a Decimal 0.815.
            number = Decimal(float.__repr__(cell)) if isinstance(cell, float) else cell
            whole = isinstance(cell, int) and abs(cell) >= _LONG_NUMBER
            self._sheet.write_number(self._row, place, number, self._formats[int] if whole else None)
            width = min(len(str(number)), _DIGITS)
        elif isinstance(cell, time) or (isinstance(cell, date) and cell.year >= _FIRST_YEAR):
            kind = next(kind for kind in self._formats if isinstance(cell, kind))
            self._sheet.write_datetime(self._row, place, cell, self._formats[kind])
            _, width = _BUILT_IN[kind]
        else:
            text = encodable(cell_text(cell))
            if len(text) > CELL_CHARACTERS:
                text = text[:CELL_CHARACTERS]
                self._cut += 1
            self._sheet.write_string(self._row, place, text)
            width = min(len(text), _WIDEST)
        self._widths[place] = max(self._widths[place], width)


def _beginning(text: str, characters: int) -> str:
    """Return the beginning of a text. `characters`: the most UTF-16 units that the result may have."""
    return text.encode("utf-16-le")[: 2 * characters].decode("utf-16-le", "ignore")


def _is_nan(cell: float | Decimal) -> bool:
    # Decimals that are NaN cannot be compared, and large whole numbers cannot become floats.
    return cell.is_nan() if isinstance(cell, Decimal) else cell != cell


def _fits_a_list(options: Sequence[str]) -> bool:
    """Return whether XLSX can store `options` as a drop-down list.

    XLSX stores the list as one text with commas between the options. So this text must not be too long, and no option
    may contain a comma or a double quote.
    """
    joined = ",".join(options)
    characters = len(joined.encode("utf-16-le")) // 2
    return 0 < characters <= _LIST_CHARACTERS and '"' not in joined and joined.count(",") == len(options) - 1
