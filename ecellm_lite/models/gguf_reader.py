"""Reads the numbers and texts of a GGUF file's header, which is untrusted input.

Every count and length is checked against the file's size and the limits below before memory is allocated for it.
"""

from __future__ import annotations

import os
import struct
from itertools import repeat
from pathlib import Path
from typing import Any

from ecellm_lite.errors import ModelError

MAX_HEADER_BYTES = 64 << 20  # the largest vocabularies today take about 20 MiB
MAX_STRING_BYTES = 16 << 20
_READ_AHEAD = 1 << 18


class GgufReader:
    """Reads a file from its beginning. Raises ModelError if the file ends too early."""

    def __init__(self, path: Path, descriptor: int, size: int) -> None:
        self.path = path
        self.size = size
        self.position = 0
        self._descriptor = descriptor
        self._buffer = bytearray()

    def damaged(self, problem: str) -> ModelError:
        """Return the error for a file that is damaged or forged."""
        message = f"The model {self.path} is damaged or forged: {problem}"
        return ModelError(message, step="get it again from a source you trust")

    def short(self, problem: str) -> ModelError:
        """Return the error for a file that ends too early."""
        return ModelError(f"The model {self.path} is cut short: {problem}", step="copy or download it again")

    def take(self, count: int) -> bytes:
        """Return the next `count` bytes."""
        start, self.position = self.position, self.position + count
        self._fill(self.position)
        return bytes(self._buffer[start : self.position])

    def number(self, code: str) -> Any:
        """Return the next number in the file. `code` is the number's format in the notation of the module struct."""
        (value,) = struct.unpack(code, self.take(struct.calcsize(code)))
        return value

    def count(self, limit: int, least: int, what: str) -> int:
        """Return the next number in the file, which is a count of items.

        Raises ModelError if the count is above `limit`, or if the rest of the file is too short for that many items. An
        item takes at least `least` bytes. `what` names the items in the error.
        """
        count: int = self.number("<Q")
        if count > limit:
            raise self.damaged(f"it declares {count} {what}, and the limit is {limit}")
        if count * least > self.size - self.position:
            raise self.short(
                f"it declares {count} {what}, {count * least} bytes or more, but {self.size - self.position} remain"
            )
        return count

    def name(self, limit: int, what: str) -> str:
        """Return the next string in the file, which is a metadata key or a tensor's name.

        Raises ModelError if it is longer than `limit` bytes or not a valid name. `what` names the string in the error.
        """
        raw = self.take(self.count(limit, 1, f"bytes for {what}"))
        try:
            name = raw.decode()
        except UnicodeDecodeError:
            raise self.damaged(f"{what}, {printable(raw)}, is not UTF-8") from None
        if not name or "\0" in name:  # llama.cpp would end the name at the zero
            raise self.damaged(f"{what}, {printable(name)}, is empty or holds a zero byte")
        return name

    def strings(self, count: int) -> tuple[str, ...]:
        """Return the next `count` strings. The loop is written for speed, because vocabularies are long."""
        buffer, position, length_of = self._buffer, self.position, struct.Struct("<Q").unpack_from
        texts = []
        for _ in repeat(None, count):
            start = position + 8
            if start > len(buffer):
                self._fill(start)
            (length,) = length_of(buffer, position)
            if length > MAX_STRING_BYTES:
                raise self.damaged(f"it has a string of {length} bytes, and the limit is {MAX_STRING_BYTES}")
            position = start + length
            if position > len(buffer):
                self._fill(position)
            texts.append(str(buffer[start:position], "utf-8", "surrogateescape"))
        self.position = position
        return tuple(texts)

    def _fill(self, end: int) -> None:
        if end > self.size:
            raise self.short(f"its header needs at least {end} bytes, but the file has only {self.size}")
        if end > MAX_HEADER_BYTES:
            raise self.damaged(f"its header takes more than {MAX_HEADER_BYTES} bytes")
        while len(self._buffer) < end:
            chunk = os.read(self._descriptor, max(_READ_AHEAD, end - len(self._buffer)))
            if not chunk:
                raise self.short(f"it shrank to {len(self._buffer)} bytes while it was read")
            self._buffer += chunk


def printable(text: str | bytes) -> str:
    """Return text from a file in a form that is safe to print: short, and without control characters."""
    return repr(text[:60])
