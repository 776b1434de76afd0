"""Reads JSON Lines, one object per line.

A line that cannot be read becomes an error, and the following lines are still read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BufferedReader
from typing import IO, Any

from ecellm_lite.errors import InputError
from ecellm_lite.tables.row import Table, TableRow
from ecellm_lite.tables.source import Source
from ecellm_lite.tasks.written import read_json

LONGEST_LINE = 16 << 20  # bytes
_MARK = b"\xef\xbb\xbf"


@dataclass(slots=True, kw_only=True)
class JsonLines(Table):
    """A file of JSON objects, one for each row. Different rows may have different columns."""

    def rows(self) -> Iterator[TableRow]:
        """Yield the rows. Blank lines are skipped."""
        number, line = 0, 0
        try:
            for line, row in numbered_rows(self.source.stream):
                number += 1
                yield TableRow(number, line, {}, row) if isinstance(row, InputError) else TableRow(number, line, row)
        except InputError as error:  # the rest of the file is damaged
            yield TableRow(number + 1, line + 1, {}, error)

    def all_columns(self) -> tuple[str, ...]:
        """Return the keys of all rows, in the order in which they first appear.

        This reads the whole file, and then returns to its beginning.
        """
        file = self.source.seekable()
        columns: dict[str, None] = {}
        for row in read_rows(file):
            if not isinstance(row, InputError):
                columns.update(dict.fromkeys(row))
        self.source.restart(file)
        self.columns = tuple(columns)
        return self.columns


def open_json_lines(source: Source) -> JsonLines:
    """Return a JSON Lines file as a table."""
    return JsonLines(source=source, columns=None, description=f"{source.name}: JSON Lines")


def check_form(file: BufferedReader, name: str) -> None:
    """Raise InputError if the file is not JSON Lines but, for example, CSV or a JSON array."""
    begin = file.peek(1 << 12).removeprefix(_MARK).lstrip()[:40]
    if begin and not begin.startswith(b"{"):
        first = begin.splitlines()[0].decode("utf-8", "replace")
        raise InputError(
            f"{name} begins with {first!r}, but rows must be JSON Lines: write one object per line, "
            'as in {"review": "I like it"}.'
        )


def read_rows(file: IO[bytes]) -> Iterator[Mapping[str, Any] | InputError]:
    """Yield the rows of a JSON Lines file. Blank lines are skipped.

    For a line that cannot be read, yield an InputError with the line's number.
    """
    return (row for _, row in numbered_rows(file))


def numbered_rows(file: IO[bytes]) -> Iterator[tuple[int, Mapping[str, Any] | InputError]]:
    """Yield each line's number, from 1, and its row. If a line cannot be read, its row is an InputError.

    Blank lines are skipped.
    """
    number = 0
    while line := file.readline(LONGEST_LINE + 1):
        number += 1
        if number == 1:
            line = line.removeprefix(_MARK)
        if len(line) > LONGEST_LINE:
            while line and not line.endswith(b"\n"):
                line = file.readline(LONGEST_LINE)
            yield number, _error(number, f"has more than {LONGEST_LINE:,} bytes", "split or shorten the row")
        elif line.strip():
            yield number, _row(line, number)


def _row(line: bytes, number: int) -> Mapping[str, Any] | InputError:
    try:
        row = read_json(line)
    except (ValueError, RecursionError) as error:
        return _error(number, f"is not JSON ({error})", "write one object per line")
    if not isinstance(row, Mapping):
        return _error(number, "is not an object", "write one object per line")
    return row


def _error(number: int, reason: str, step: str) -> InputError:
    return InputError(f"Line {number} {reason}", step=step, line=number)
