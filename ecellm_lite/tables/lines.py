"""The lines of a text file, decoded one by one, each of bounded length."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import IO, NamedTuple

from ecellm_lite.tables.encoding import INVALID_BYTES, Encoding

LINE_CHARACTERS = 8 << 20


class Line(NamedTuple):
    """A line with its number from 1 and its line end; one that is `cut` was longer than LINE_CHARACTERS."""

    number: int
    text: str
    cut: bool = False


def read_lines(file: IO[bytes], encoding: Encoding, end: str = "\n") -> Iterator[Line]:
    """Yield the lines of a file that stands at its beginning; bytes that are not valid are INVALID in the text.

    `end` is what ends a line: a line feed (also behind a carriage return) or, in old files, a lone carriage return.
    A byte-order mark and what stands before it are skipped, but the lines before it are counted.
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
                del rest  # before the next one is read: two of them are much memory
            yield Line(number, line + end, cut=True)
    finally:
        text.detach()  # the file is its opener's to close


def line_end(text: str) -> str:
    """Return what ends the lines of a text: a carriage return where there is no line feed at all."""
    return "\r" if "\r" in text and "\n" not in text else "\n"
