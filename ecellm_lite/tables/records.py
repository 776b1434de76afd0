"""Splits delimited text into records.

A record is a line, or several lines if a quoted cell contains line ends. Python's csv module reads well-formed records.

This module handles malformed records. With the csv module alone, a cell whose quote is never closed would contain all
rows up to the next quote. If the second line of a malformed record looks like the beginning of a record, only the first
line counts as malformed.
"""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from ecellm_lite.tables.dialects import SINGLE_COLUMN, Dialect, Quoting
from ecellm_lite.tables.encoding import INVALID
from ecellm_lite.tables.lines import LINE_CHARACTERS, Line
from ecellm_lite.tables.row import CELL_CHARACTERS, fault_of

RECORD_CHARACTERS = 8 << 20

TOO_LONG = f"is longer than {LINE_CHARACTERS:,} characters"
UNCLOSED = "opens a quote that is never closed"
UNDOUBLED = "has a quote inside a quoted cell that is not doubled"
LONE_RETURN = "has a lone carriage return outside quotes"


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault in a record.

    `reason`: what is wrong, as the end of a sentence about the record or the cell, such as `has a NUL character`.
    `step`: what the user can do.
    `cell`: the index of the faulty cell, or None if the fault is not in one cell.
    """

    reason: str
    step: str
    cell: int | None = None


class Record(NamedTuple):
    """A record: its cells, the numbers of its first and last line, and what is wrong with it, if anything."""

    line: int
    last_line: int
    cells: list[str]
    fault: Fault | None = None


class Records:
    """Iterates over the records in `lines`. `width` is the expected number of cells, or None if it is not known.

    Blank lines are skipped. A returned record may have more or fewer cells than `width`.
    """

    def __init__(self, lines: Iterator[Line], dialect: Dialect, width: int | None = None) -> None:
        self._lines = lines
        self._dialect = dialect
        self._delimiter = dialect.delimiter or SINGLE_COLUMN
        self.width = width
        self._record_lines: list[Line] = []  # of the record that is being read
        self._size = 0
        self._pending: deque[Line] = deque()  # lines that were read but belong to later records

    def __iter__(self) -> Iterator[Record]:
        if self._dialect.quoting is Quoting.NONE:
            return self._unquoted()
        return self._quoted()

    def _unquoted(self) -> Iterator[Record]:
        for line in self._lines:
            self._size = len(line.text)
            if text := _blank(line.text):
                cells = text.split(self._delimiter)
                reason = TOO_LONG if line.cut else LONE_RETURN if "\r" in text else None
                yield self._checked([line], cells, reason)

    def _quoted(self) -> Iterator[Record]:
        reader = csv.reader(_Feed(self), delimiter=self._delimiter, quotechar=self._dialect.quote, strict=True)
        while True:
            self._record_lines.clear()
            self._size = 0
            try:
                cells = next(reader)
            except StopIteration:
                return
            except (csv.Error, _RecordTooLong):
                yield self._mended()
                continue
            if not cells or (len(cells) == 1 and self.width != 1 and not cells[0].strip()):
                continue
            several = len(self._record_lines) > 1
            if self.width is not None and len(cells) != self.width and (several or self._unsure):
                yield self._mended()
            else:
                yield self._checked(self._record_lines, cells, None)

    @property
    def _unsure(self) -> bool:
        return self._dialect.quoting is Quoting.UNSURE

    def feed(self) -> str:
        """Return the next line of the current record. The csv module calls this."""
        line = self._pending.popleft() if self._pending else next(self._lines)
        self._size += len(line.text)
        if self._record_lines and self._size > RECORD_CHARACTERS:
            self._pending.appendleft(line)
            raise _RecordTooLong
        self._record_lines.append(line)
        return line.text

    def _mended(self) -> Record:
        """Return the current lines as a record, split by our own rules instead of the csv module's.

        The csv module could not read these lines, or it found an unexpected number of cells.

        Lines that belong to a later record are put back, to be read again.
        """
        lines = list(self._record_lines)
        split = self._split("".join(line.text for line in lines))
        if split.reason is None and (self.width is None or len(split.cells) == self.width):
            return self._checked(lines, split.cells, None)  # only the csv module's limits refused it
        if self._unsure:
            text = _ended(lines[0].text)
            cells = text.split(self._delimiter)
            if "\r" not in text and ((self.width is None and len(lines) == 1) or len(cells) == self.width):
                self._give_back(lines[1:])
                return self._checked(lines[:1], cells, None)
        if len(lines) > 1 and self._begins(lines[1].text):
            self._give_back(lines[1:])
            return self._checked(lines[:1], self._split(lines[0].text).cells, UNCLOSED)
        if len(lines) > 1 and split.reason is not None:
            lines += self._rest()
        return self._checked(lines, split.cells, split.reason)

    def _rest(self) -> list[Line]:
        """Skip lines until the next one looks like the beginning of a record.

        The skipped lines belong to the current record. Return a list with one Line, which has the number of the last
        skipped line and an empty text. If no line was skipped, the list is empty.
        """
        last: list[Line] = []
        while line := self._pending.popleft() if self._pending else next(self._lines, None):
            if self._begins(line.text):
                self._pending.appendleft(line)
                break
            last = [Line(line.number, "")]
        return last

    def _give_back(self, lines: list[Line]) -> None:
        self._pending.extendleft(reversed(lines))

    def _begins(self, text: str) -> bool:
        """Return whether a line looks like a whole record, or like the first line of a record of several lines."""
        split = self._split(text)
        width = self.width or len(split.cells)
        if split.reason == UNCLOSED:
            return 2 <= len(split.cells) <= width
        return split.reason is None and len(split.cells) == width and (width > 1 or self.width == 1)

    def _split(self, text: str) -> _Split:
        return _split(_ended(text), self._delimiter, self._dialect.quote)

    def _checked(self, lines: list[Line], cells: list[str], reason: str | None) -> Record:
        fault = Fault(reason, "correct it there") if reason else None
        for line in lines:
            text = line.text
            if line.cut:
                fault = Fault(TOO_LONG, "shorten it")
            elif fault is None and ("\0" in text or (not text.isascii() and INVALID in text)):
                fault = _unreadable(cells)
        if fault is None and self._size > CELL_CHARACTERS:
            fault = _too_large(cells)
        if fault is not None:
            cells = [cell.replace(INVALID, "\ufffd")[:CELL_CHARACTERS] for cell in cells]
        return Record(lines[0].number, lines[-1].number, cells, fault)


class _RecordTooLong(Exception):  # noqa: N818 - caught in this file, never an error outside
    pass


class _Feed:
    """An iterator over lines for the csv module. Unlike a generator, it continues after an exception."""

    def __init__(self, records: Records) -> None:
        self._feed = records.feed

    def __iter__(self) -> _Feed:
        return self

    def __next__(self) -> str:
        return self._feed()


class _Split(NamedTuple):
    cells: list[str]
    reason: str | None


def _split(text: str, delimiter: str, quote: str) -> _Split:
    """Split a record (without its line end) into cells.

    If a cell is malformed, stop there. Return the cells so far, and what is wrong (None if all cells are well formed).
    """
    cells: list[str] = []
    start, end = 0, len(text)
    while True:
        if text.startswith(quote, start):
            close = text.find(quote, start + 1)
            while close >= 0 and text.startswith(quote, close + 1):
                close = text.find(quote, close + 2)
            if close < 0:
                return _Split([*cells, text[start + 1 :]], UNCLOSED)
            cells.append(text[start + 1 : close].replace(quote * 2, quote))
            if close + 1 == end:
                return _Split(cells, None)
            if not text.startswith(delimiter, close + 1):
                return _Split(cells, LONE_RETURN if text[close + 1] in "\r\n" else UNDOUBLED)
            start = close + 2
            continue
        stop = text.find(delimiter, start)
        cell = text[start:] if stop < 0 else text[start:stop]
        cells.append(cell)
        if "\r" in cell or "\n" in cell:
            return _Split(cells, LONE_RETURN)
        if stop < 0:
            return _Split(cells, None)
        start = stop + 1


def _ended(text: str) -> str:
    return text.removesuffix("\n").removesuffix("\r")


def _blank(text: str) -> str:
    """Return a line without its line end, or an empty text if the line is blank."""
    return "" if text.isspace() and "\t" not in text else _ended(text)


def _unreadable(cells: list[str]) -> Fault:
    for index, cell in enumerate(cells):
        if "\0" in cell:
            return Fault("has a NUL character", "delete it", index)
        if INVALID in cell:
            return Fault(
                "has bytes that are not valid in the file's encoding", "correct them, or name another encoding", index
            )
    return Fault("has characters that are not text", "delete them")


def _too_large(cells: list[str]) -> Fault | None:
    for index, cell in enumerate(cells):
        if reason := fault_of(cell):
            return Fault(reason, "shorten it", index)
    return None
