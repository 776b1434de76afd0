"""Reads and decodes the lines of a text file one by one. Very long lines are cut."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import IO, NamedTuple

from ecellm_lite.tables.encoding import INVALID_BYTES, Encoding

LINE_CHARACTERS = 8 << 20

_FIRST_LINE = re.compile(r'(?:[^"\r\n]+|"[^"]*")*')


class Line(NamedTuple):
    """A line: its number from 1, its text with the line end, and whether the text was cut because it was too long."""

    number: int
    text: str
    cut: bool = False


def read_lines(file: IO[bytes], encoding: Encoding, end: str = "\n") -> Iterator[Line]:
    """Yield the lines of a file from its beginning.

    Bytes that are invalid in the encoding become the character INVALID.

    `end` is the character that ends a line: a line feed or, in old files, a carriage return. A byte-order mark is
    skipped, together with any blank lines and spaces before it. These lines still count in the line numbers.
    """
    number = file.read(encoding.skip).count(b"\n")
    text = io.TextIOWrapper(file, encoding.codec, errors=INVALID_BYTES, newline=end)
    try:
        while line := text.readline(LINE_CHARACTERS):
            number += 1
            if len(line) < LINE_CHARACTERS or line.endswith(end):
                yield Line(number, line)
                continue
            line = line[:1024]
            while (rest := text.readline(LINE_CHARACTERS)) and not rest.endswith(end):
                del rest  # before the next line is read, so that only one is in memory
            yield Line(number, line + end, cut=True)
    finally:
        if not file.closed:  # it is closed already if an error ended the reading
            text.detach()  # whoever opened the file closes it


def line_end(text: str) -> str:
    """Return the character that ends the first line of a text: a carriage return in old files, a line feed in others.

    Only the first line is checked, because later lines may have line feeds inside quoted cells.
    """
    if "\n" not in text:
        return "\r" if "\r" in text else "\n"
    start = _FIRST_LINE.match(text)
    end = text[start.end() :][:2] if start else ""
    return "\r" if end[:1] == "\r" and end[1:] not in ("\r", "\n") else "\n"
