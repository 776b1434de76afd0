"""Rows from a JSON Lines file: one object a line; a line that cannot be read is an error in its place, not an end."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from io import BufferedReader
from typing import IO, Any

from ecellm_lite.errors import InputError

LONGEST_LINE = 16 << 20  # bytes


def check_form(file: BufferedReader, name: str) -> None:
    """Raise InputError if what is to come is no JSON Lines file at all: a table or a JSON array, say."""
    begin = file.peek(1 << 12).removeprefix(b"\xef\xbb\xbf").lstrip()[:40]
    if begin and not begin.startswith(b"{"):
        first = begin.splitlines()[0].decode("utf-8", "replace")
        raise InputError(
            f"{name} begins with {first!r}, and rows are JSON Lines: write one object a line, "
            'as in {"review": "I like it"}.'
        )


def read_rows(file: IO[bytes]) -> Iterator[Mapping[str, Any] | InputError]:
    """Yield the rows of a JSON Lines file, blank lines left out; a broken line yields an InputError with its number."""
    return (row for _, row in numbered_rows(file))


def numbered_rows(file: IO[bytes]) -> Iterator[tuple[int, Mapping[str, Any] | InputError]]:
    """Yield what read_rows does, each row with the number of its line, from 1."""
    number = 0
    while line := file.readline(LONGEST_LINE + 1):
        number += 1
        if len(line) > LONGEST_LINE:
            while line and not line.endswith(b"\n"):
                line = file.readline(LONGEST_LINE)
            yield number, InputError(f"Line {number} has more than {LONGEST_LINE:,} bytes: split or shorten the row.")
        elif line.strip():
            yield number, _row(line, number)


def _row(line: bytes, number: int) -> Mapping[str, Any] | InputError:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        return InputError(f"Line {number} is not JSON ({error}): write one object a line.")
    if not isinstance(row, Mapping):
        return InputError(f"Line {number} is not an object: write one object a line.")
    return row
