"""Refuses a spreadsheet that would not fit into memory. Its XML is scanned before python-calamine builds the table.

An XLSX or ODS file is a ZIP file, which may unpack to a thousand times its size. A sheet with two cells in opposite
corners would be read as a rectangle of 17 billion cells.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections import deque
from collections.abc import Iterator
from typing import IO, Any
from xml.parsers import expat

from ecellm_lite.errors import InputError

UNPACKED_BYTES = 2 << 30
CELLS = 48_000_000
"""The most cells in the rectangle around a sheet's cells; each cell takes 32 bytes of memory."""

_BLOCK = 1 << 20
_OVERLAP = 64  # bytes at the end of a block that are scanned again with the next block
_COLUMN = re.compile(rb"""\sr\s*=\s*["']\$?([A-Za-z]{1,7})\$?\d""")
_ROW = re.compile(rb"""\sr\s*=\s*["']\$?[A-Za-z]{0,7}\$?(\d{1,9})["']""")
_ROW_TAG = re.compile(rb"<(?:\w+:)?row[\s>/]")
_CELL_TAG = re.compile(rb"<(?:\w+:)?c[\s>/]")
_SHEET = re.compile(r"xl/worksheets/[^/]+\.xml", re.IGNORECASE)


def check_bounds(file: IO[bytes], name: str) -> None:
    """Raise InputError if a file is not a ZIP file, is damaged or locked, or has too large a sheet."""
    unpacked = _UnpackedParts(name)
    try:
        with zipfile.ZipFile(file) as archive:
            for info in archive.infolist():
                if info.flag_bits & 1:
                    raise InputError(f"{name} is locked by a password", step="save it without one", file=name)
                with archive.open(info) as part:
                    cells = _cells(info.filename, unpacked.blocks(part))
                if cells > CELLS:
                    raise _too_large(name, f"has a sheet of {cells:,} cells")
    # NotImplementedError: zipfile does not know the compression.
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, OSError, expat.ExpatError) as error:
        raise InputError(f"{name} is damaged ({error})", step="save it again as XLSX or as CSV", file=name) from None


class _UnpackedParts:
    """Unpacks the files in a ZIP file block by block. The limit UNPACKED_BYTES applies to all of them together."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._count = 0

    def blocks(self, part: IO[bytes]) -> Iterator[bytes]:
        """Yield the blocks of a file that is packed in the ZIP file.

        Raises InputError if the packed files have too many bytes in all.
        """
        while block := part.read(_BLOCK):
            self._count += len(block)
            if self._count > UNPACKED_BYTES:
                raise _too_large(self._name, f"unpacks to more than {UNPACKED_BYTES >> 30} GiB")
            yield block


def _cells(filename: str, blocks: Iterator[bytes]) -> int:
    """Return the number of cells in the rectangle from A1 to a sheet's last row and column.

    If the file is not a sheet, return 0. Its blocks are still read, so that its bytes count towards UNPACKED_BYTES.
    """
    if _SHEET.fullmatch(filename):
        return _xlsx_cells(blocks)
    if filename == "content.xml":
        return _ods_cells(blocks)
    deque(blocks, maxlen=0)
    return 0


def _xlsx_cells(blocks: Iterator[bytes]) -> int:
    width, height, rows, unplaced = 0, 0, 0, 0
    rest = b""
    for block in blocks:
        text = rest + block
        rest = text[-_OVERLAP:]
        columns = _COLUMN.findall(text)
        width = max([width, *map(_column, set(columns))])
        height = max([height, *map(int, _ROW.findall(text))])
        rows += len(_ROW_TAG.findall(block))
        if len(_CELL_TAG.findall(text)) > len(columns):  # a cell without a reference follows the one before it
            unplaced = max([unplaced, *(len(_CELL_TAG.findall(row)) for row in _ROW_TAG.split(text))])
    return (width + unplaced) * max(height, rows)


def _column(letters: bytes) -> int:
    number = 0
    for letter in letters.upper():
        number = number * 26 + letter - 64
    return number


class _OdsCells:
    """Measures the sheets of an ODS file. A sheet's size is its last filled row times its last filled column.

    `largest`: the size of the largest sheet.

    A cell with "number-columns-repeated" 5 counts as 5 cells. Empty cells at the end of a row do not count.
    """

    def __init__(self) -> None:
        self.largest = 0
        self._width = self._height = 0
        self._rows = self._at = self._filled = 0

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if tag == "table:table":
            self._width = self._height = self._rows = 0
        elif tag == "table:table-row":
            self._rows += int(attributes.get("table:number-rows-repeated", "1"))
            self._at, self._filled = 0, 0
        elif tag in {"table:table-cell", "table:covered-table-cell"}:
            self._at += int(attributes.get("table:number-columns-repeated", "1"))
            if "office:value-type" in attributes or "calcext:value-type" in attributes:
                self._filled = self._at

    def end(self, tag: str) -> None:
        if tag == "table:table-row" and self._filled:
            self._width, self._height = max(self._width, self._filled), self._rows
            self.largest = max(self.largest, self._width * self._height)


def _ods_cells(blocks: Iterator[bytes]) -> int:
    counter, parser = _OdsCells(), expat.ParserCreate()
    parser.StartElementHandler = counter.start
    parser.EndElementHandler = counter.end
    parser.EntityDeclHandler = _no_entities
    for block in blocks:
        try:
            parser.Parse(block)
        except ValueError as error:  # the repeat attribute is not a number
            raise expat.ExpatError(str(error)) from None
        if counter.largest > CELLS:
            break
    return counter.largest


def _no_entities(*_: Any) -> None:
    raise expat.ExpatError("it declares entities")


def _too_large(name: str, reason: str) -> InputError:
    return InputError(f"{name} {reason}", step="save the sheet as CSV", file=name)
