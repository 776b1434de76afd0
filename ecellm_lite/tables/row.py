"""A row of a table, and the base class of the tables that the readers return."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ecellm_lite.errors import InputError
from ecellm_lite.tables.source import Source

if TYPE_CHECKING:
    import pyarrow as pa

CELL_CHARACTERS = 1 << 20
"""A cell with more characters is an error; the largest cells that shops' systems export have about 33,000."""


def fault_of(text: str) -> str | None:
    """Return what is wrong with a cell's text, such as `has a NUL character`, or None if nothing is wrong."""
    if "\0" in text:
        return "has a NUL character"
    if len(text) > CELL_CHARACTERS:
        return f"has {len(text):,} characters, and at most {CELL_CHARACTERS:,} are read"
    return None


@dataclass(frozen=True, slots=True)
class TableRow:
    """One row of a table: its number from 1, and its unchanged cells by column.

    `line`: where the row begins. This is the line in a text file or the row in a spreadsheet. For other files, it
      equals `number`.
    `error`: the reason why the row cannot be used, if any. `cells` then has only the cells that could be read.
    """

    number: int
    line: int
    cells: Mapping[str, Any]
    error: InputError | None = None


@dataclass(frozen=True, slots=True)
class TableOptions:
    """Options for reading a table. If an option is None, its value is detected from the file.

    `encoding`: an encoding's name in Python, such as `cp1252`.
    `delimiter`: one character, or `tab`.
    `quote`: one character, or `none`.
    `header_row`: the number of the line (in a spreadsheet, the row) with the columns' names, or 0 if there is none.
    `sheet`: the name or number of a sheet in a spreadsheet.
    `total_rows`: whether to keep totals at the end of a table. They are left out by default.
    """

    encoding: str | None = None
    delimiter: str | None = None
    quote: str | None = None
    header_row: int | None = None
    sheet: str | None = None
    total_rows: bool = False


@dataclass(slots=True, kw_only=True)
class Table(ABC):
    """A table that can be read once, row by row, in bounded memory.

    `columns`: the names of the columns, or None if each row has its own columns (JSON Lines).
    `description`: one sentence about the detected type, encoding and header.
    `notes`: sentences about parts of the file that were left out. They are complete after the last row is read.

    `sheet_name`: the name of the table's sheet, if it is from a spreadsheet.

    The other attributes say how to write a CSV file of answers, which the program that wrote this table can open:
    `delimiter`: the character between two cells.
    `bom`: whether the CSV file begins with a byte-order mark, as spreadsheet programs need it.
    `utf16`: whether the CSV file is in UTF-16. Otherwise it is in UTF-8.
    `decimal_comma`: whether the added numbers in the CSV file have a decimal comma.
    """

    source: Source
    columns: tuple[str, ...] | None
    description: str
    notes: list[str] = field(default_factory=list)
    sheet_name: str | None = None
    delimiter: str = ","
    bom: bool = False
    utf16: bool = False
    decimal_comma: bool = False

    @abstractmethod
    def rows(self) -> Iterator[TableRow]:
        """Yield the rows. A row that cannot be read has an error and does not affect other rows."""

    def all_columns(self) -> tuple[str, ...]:
        """Return the names of all columns. If each row has its own columns, this reads the whole file first."""
        assert self.columns is not None
        return self.columns

    @property
    def name(self) -> str:
        """The file's name, for messages."""
        return self.source.name

    @property
    def share(self) -> float | None:
        """The fraction of the file that has been read, from 0 to 1, or None if the file's size is unknown."""
        return self.source.share

    @property
    def schema(self) -> pa.Schema | None:
        """The columns' Arrow types, or None if the file defines no types."""
        return None

    def close(self) -> None:
        """Close the file."""
        self.source.close()

    def __enter__(self) -> Table:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()
