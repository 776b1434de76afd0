"""Reads this package's JSON documents as hostile input, and decodes them into dataclasses.

A file is opened once, must be a regular file, and is read up to a limit. Its JSON is strict: UTF-8, no NaN or infinity,
no duplicate keys. The format number is checked first. So the error for a document of another version of this package
names the format, not one of its unknown keys.
"""

from __future__ import annotations

import errno
import json
import math
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from ecellm_lite.strict import decode, refuse_constant, unique_keys

Document = TypeVar("Document")

# Without O_NONBLOCK, opening a pipe would wait for a writer.
_FLAGS = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_NONBLOCK", "O_BINARY", "O_CLOEXEC"))


def read_document(form: type[Document], path: Path, *, largest: int, formats: Sequence[int] = ()) -> Document:
    """Return the document in a file of at most `largest` bytes, decoded into a dataclass.

    If `formats` are given, the document's `format` must be one of them. Raises OSError if the file does not exist or
    cannot be read. Raises ValueError if the document is invalid. The error's text says what is wrong.
    """
    return parse_document(form, _read(path, largest), formats=formats)


def parse_document(form: type[Document], data: bytes, *, formats: Sequence[int] = ()) -> Document:
    """Return the document in `data` (JSON), decoded into the dataclass `form`.

    Raises ValueError if the document is invalid, or if `formats` are given and its `format` is not one of them.
    """
    value = _parsed(data)
    if formats:
        number = value.get("format") if isinstance(value, dict) else None
        if type(number) is not int or number not in formats:
            readable = " or ".join(map(str, formats))
            raise ValueError(f"its format is {str(number)[:20]!r}, and this version reads {readable}")
    return decode(form, value)


def regular_opener(name: str, flags: int) -> int:
    """Open a file, as the `opener` of the built-in function `open`. Raises OSError if it is not a regular file."""
    descriptor = os.open(name, flags | _FLAGS)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EINVAL, "it is not a regular file", name)


def _read(path: Path, largest: int) -> bytes:
    with os.fdopen(os.open(path, _FLAGS), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError("it is not a regular file")
        data = file.read(largest + 1)
    if len(data) > largest:
        raise ValueError(f"it has more than {largest:,} bytes")
    return data


def _parsed(data: bytes) -> Any:
    try:
        return json.loads(
            data.decode("utf-8"), object_pairs_hook=unique_keys, parse_constant=refuse_constant, parse_float=_finite
        )
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:20]} is not a finite number")
    return number
