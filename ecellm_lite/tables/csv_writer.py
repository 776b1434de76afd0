"""Writes CSV that spreadsheets open correctly.

Cells that a job adds may contain text from the input, such as a customer's review. If such a cell begins like a
formula, a single quote is put before it, so that no spreadsheet runs the formula. OWASP's page on CSV injection advises
this.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Sequence
from typing import IO, Any

from ecellm_lite.tables.cells import exact_text
from ecellm_lite.tables.results import OwnColumn
from ecellm_lite.tasks.fields import encodable

_STARTS = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")  # the last four are full-width forms of the first four
_NUMBER = re.compile(r"[+-]?\d[\d.,]*%?")


class CsvWriter:
    """Writes rows of CSV in UTF-8, or in UTF-16 with a byte-order mark."""

    def __init__(
        self,
        file: IO[bytes],
        columns: Sequence[str],
        own: Sequence[OwnColumn],
        *,
        delimiter: str = ",",
        bom: bool = False,
        utf16: bool = False,
        decimal_comma: bool = False,
        safe_cells: bool = False,
    ) -> None:
        self.notes: list[str] = []
        self._own = tuple(own)
        self._decimal_comma = decimal_comma
        self._safe_cells = safe_cells
        if bom or utf16:
            file.write(codecs.BOM_UTF16_LE if utf16 else codecs.BOM_UTF8)
        self._text = io.TextIOWrapper(file, "utf-16-le" if utf16 else "utf-8", newline="")
        self._writer = csv.writer(self._text, delimiter=delimiter, lineterminator="\r\n")
        self._writer.writerow([self._input(column) for column in (*columns, *(column.name for column in own))])

    def write(self, cells: Sequence[Any], own: Sequence[Any]) -> None:
        """Write a row: the input's `cells`, then the job's `own` cells.

        The job's cells are written so that no spreadsheet runs them as formulas. The input's cells are written
        unchanged by default. With `safe_cells`, they are guarded against formulas too.
        """
        shown = (column.shown(value) for column, value in zip(self._own, own, strict=True))
        self._writer.writerow([*map(self._input, cells), *map(self._added, shown)])

    def close(self) -> None:
        """Write the rows that are still in memory. The file stays open."""
        self._text.flush()
        self._text.detach()

    def _input(self, cell: Any) -> str:
        if cell is None:
            return ""
        text = _text(cell)
        return guarded(text) if self._safe_cells and not _NUMBER.fullmatch(text) else text

    def _added(self, value: Any) -> str:
        if value is None:
            return ""
        if isinstance(value, int | float) and not isinstance(value, bool):
            return repr(value).replace(".", ",") if self._decimal_comma else repr(value)
        return guarded(_text(value))


def guarded(text: str) -> str:
    """Return a cell's text, with a quote before it if a spreadsheet would read it as a formula.

    >>> guarded("=1+1"), guarded("yes")
    ("'=1+1", 'yes')
    """
    return f"'{text}" if text.startswith(_STARTS) else text


def unguarded(text: str) -> str:
    """Return a cell's text without the quote that `guarded` puts before a formula.

    >>> unguarded("'=1+1"), unguarded("'s")
    ('=1+1', "'s")
    """
    bare = text.removeprefix("'")
    return bare if guarded(bare) == text else text


def _text(cell: Any) -> str:
    text = exact_text(cell)
    return text if text.isascii() else encodable(text)
