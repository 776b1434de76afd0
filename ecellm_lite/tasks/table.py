"""Reads the TOML file in which a user describes a task. Each table of the file is a TaskTable.

The file is not trusted. Every mistake in it raises an error with the name of the file and the key.
"""

from __future__ import annotations

import json
import os
import re
import stat
import sys
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from typing import Any

from ecellm_lite.errors import InputError
from ecellm_lite.tasks.fields import encodable, shown

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MAX_BYTES = 1 << 16
MAX_PARTS = 64  # of a dotted key
LONGEST_PATH = 200  # characters
LONGEST_SHOWN = 60  # characters of a text that an error repeats

# tomllib's time is quadratic in a key's parts: more than a minute for a key as long as a file. A text that looks like
# such a key is refused too; no task needs one.
_PART = r"""(?:[A-Za-z0-9_-]+|"(?:\\.|[^"\\\n])*"|'[^'\n]*')"""
_LONG_KEY = re.compile(rf"(?<![A-Za-z0-9_\\\"'-]){_PART}(?:[ \t]*\.[ \t]*{_PART}){{{MAX_PARTS}}}")

_BARE = re.compile("[A-Za-z0-9_-]+")
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def read_file(path: Path, what: str, *, most: int = MAX_BYTES) -> str:
    """Return the text of a UTF-8 file.

    Raises InputError if the file cannot be read, is not a regular file, is not UTF-8 or has more than `most` bytes.
    `what` names the file in the error, such as "the task's file".
    """
    file_name = str(path)
    try:
        with open(path, "rb", opener=_at_once) as file:  # Path.open takes no opener
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise InputError(f"{path} is not a regular file", step=f"give the path of {what}", file=file_name)
            data = file.read(most + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        message = f"{file_name[:200]!r} cannot be read ({reason})"
        raise InputError(message, step=f"give the path of {what}", file=file_name) from None
    if len(data) > most:
        raise InputError(f"{path} has more than {most:,} bytes", step=f"shorten {what}", file=file_name)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        message = f"{path} is not UTF-8 in line {line} ({error.reason})"
        raise InputError(message, step="save the file as UTF-8", line=line, file=file_name) from None


def _at_once(name: str, flags: int) -> int:
    # Without O_NONBLOCK, opening a FIFO would wait for a writer.
    return os.open(name, flags | getattr(os, "O_NONBLOCK", 0))


class TaskTable:
    """One table of a TOML file, or a JSON object in a field of a row.

    Each value is checked when it is read, and an unknown key is an error.

    `path`: the TOML file, or None for a JSON object. A JSON object cannot name files.
    `place`: the table's path in the file, such as `answer.choices[1]`. It is empty for the top-level table.
    """

    def __init__(self, path: Path | None, place: str, values: Mapping[str, Any]) -> None:
        self.path = path
        self._place = place
        self._values = values

    @classmethod
    def read(cls, path: Path) -> TaskTable:
        """Return the top-level table of a TOML file. Raises InputError if the file is not valid."""
        text = read_file(path, "a task's TOML file")
        if key := _LONG_KEY.search(text):
            line = text[: key.start()].count("\n") + 1
            message = f"{path} has a key of more than {MAX_PARTS} parts in line {line}"
            raise InputError(message, step="shorten it", line=line, file=str(path))
        try:
            values = tomllib.loads(text)
        except RecursionError:
            raise InputError(f"{path} is nested too deeply", step="flatten it", file=str(path)) from None
        except ValueError as error:
            message = f"{path} is not TOML ({str(error)[:200]})"
            raise InputError(message, step="correct it there", file=str(path)) from None
        return cls(path, "", values)

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def error(self, key: str | None, reason: str, step: str) -> InputError:
        """Return an error about a key of this table, or about the table itself if `key` is None.

        `reason`: what is wrong, as the end of a sentence about the key, such as `is missing`.
        `step`: what the user can do.
        """
        return self._error(self._place if key is None else self._at(key), reason, step)

    def only(self, *keys: str) -> None:
        """Raise InputError if the table has a key that is not among `keys`."""
        for key in map(str, self._values):
            if key not in keys:
                near = get_close_matches(key, keys, n=1) or keys
                raise self.error(key[:80], "is an unknown key", f"use {' or '.join(near)}, or remove it")

    def value(self, key: str) -> Any:
        """Return the value of `key`. Raises InputError if the key is missing."""
        if key not in self._values:
            raise self.error(key, "is missing", "add it")
        return self._values[key]

    def text(self, key: str, *, most: int, lines: bool = False, default: str | None = None) -> str:
        """Return the value of `key`, which must be a text of 1 to `most` characters.

        `lines`: whether the text may have line feeds.
        `default`: the result if the key is missing. If `default` is None, a missing key is an error.
        """
        if default is not None and key not in self._values:
            return default
        return self._checked(key, self.value(key), most, lines)

    def texts(self, key: str, *, least: int, most: int, longest: int) -> tuple[str, ...]:
        """Return the value of `key`, which must be a list of `least` to `most` different texts.

        A text may have at most `longest` characters.
        """
        values = self._list(key, least, most, "texts")
        texts = tuple(self._checked(key, value, longest, False) for value in values)
        self.require_unique(key, texts)
        return texts

    def flag(self, key: str, *, default: bool) -> bool:
        """Return the value of `key`, which must be true or false. If the key is missing, return `default`."""
        value = self._values.get(key, default)
        if not isinstance(value, bool):
            raise self.error(key, f"is {shown(value)}", "write true or false")
        return value

    def number(self, key: str, *, least: int, most: int, default: int) -> int:
        """Return the value of `key`, which must be a whole number from `least` to `most`.

        If the key is missing, return `default`.
        """
        value = self._values.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise self.error(key, f"is {shown(value)}", f"write a whole number from {least} to {most:,}")
        return value

    def share(self, key: str, *, default: float) -> float:
        """Return the value of `key`, which must be a number from 0 to 1. If the key is missing, return `default`."""
        value = self._values.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise self.error(key, f"is {shown(value)}", "write a number from 0 to 1")
        return float(value)

    def one_of(self, key: str, *values: str) -> str:
        """Return the value of `key`, which must be one of `values`. Otherwise InputError is raised."""
        value = self.value(key)
        if value not in values:
            raise self.error(key, f"is {shown(value)}", f"write {', '.join(values[:-1])} or {values[-1]}")
        return str(value)

    def path_beside(self, key: str) -> Path:
        """Return the path of the file that `key` names, which must be in the folder of the task's file or below it."""
        name = self.text(key, most=LONGEST_PATH)
        inside = PurePosixPath(name)
        if inside.is_absolute() or ".." in inside.parts or "\\" in name or ":" in name:
            raise self.error(key, f"is {name!r}", "name a file beside the task's own or below it, without '..'")
        if self.path is None:
            raise self.error(key, f"is {name!r}, and a row cannot name files", "give the values themselves")
        return self.path.parent / inside

    def table(self, key: str, *, first: str) -> TaskTable:
        """Return the value of `key`, which must be a table.

        `first`: a key that such a table has. If the value is not a table, the error shows an example with this key.
        """
        value = self.value(key)
        if not isinstance(value, Mapping):
            raise self.error(key, f"is {shown(value)}", f"write {_form(first, value)}")
        return TaskTable(self.path, self._at(key), value)

    def tables(self, key: str, *, least: int, most: int, first: str) -> list[TaskTable]:
        """Return the value of `key`, which must be a list of `least` to `most` tables.

        `first`: a key that such a table has. If the value is not such a list, the error shows an example table with
          this key.
        """
        values = self._list(key, least, most, f"entries such as {_form(first, None)}")
        tables: list[TaskTable] = []
        for index, value in enumerate(values):
            place = f"{self._at(key)}[{index}]"
            if not isinstance(value, Mapping):
                raise self._error(place, f"is {shown(value)}", f"write {_form(first, value)}")
            tables.append(TaskTable(self.path, place, value))
        return tables

    def texts_or_tables(self, key: str, *, least: int, most: int, longest: int) -> list[str | TaskTable]:
        """Return the value of `key`, which must be a list of `least` to `most` items.

        An item is a table or a text. A text may have at most `longest` characters.
        """
        parts: list[str | TaskTable] = []
        for index, value in enumerate(self._list(key, least, most, "texts or tables")):
            if isinstance(value, Mapping):
                parts.append(TaskTable(self.path, f"{self._at(key)}[{index}]", value))
            else:
                parts.append(self._checked(key, value, longest, False))
        return parts

    def require_unique(self, key: str, texts: tuple[str, ...]) -> None:
        """Raise InputError about `key` if a text occurs twice."""
        earlier: set[str] = set()
        for text in texts:
            if text in earlier:
                raise self.error(key, f"has {text[:80]!r} twice", "give each one once")
            earlier.add(text)

    def _error(self, place: str, reason: str, step: str) -> InputError:
        if self.path is None:
            return InputError(f"The field {place} {reason}", step=step, field=place)
        message = f"{self.path}: {place} {reason}" if place else f"{self.path} {reason}"
        return InputError(message, step=step, field=place or None, file=str(self.path))

    def _list(self, key: str, least: int, most: int, what: str) -> list[Any]:
        value = self.value(key)
        if not isinstance(value, list) or not least <= len(value) <= most:
            reason = f"has {len(value)} items" if isinstance(value, list) else f"is {shown(value)}"
            raise self.error(key, reason, f"write a list of {least} to {most} {what}")
        return value

    def _checked(self, key: str, value: Any, most: int, lines: bool) -> str:
        if not isinstance(value, str) or not value.strip():
            raise self.error(key, f"is {shown(value)}", "write a text that is not empty")
        if len(value) > most:
            raise self.error(key, f"has {len(value):,} characters", f"write at most {most:,}")
        if not lines and (value != value.strip() or CONTROL.search(value)):
            raise self.error(key, f"is {shown(value)}", "write one line without spaces at its ends")
        return encodable(value)  # an object in a row may have lone surrogates

    def _at(self, key: str) -> str:
        name = key if _BARE.fullmatch(key) else json.dumps(key)
        return f"{self._place}.{name}" if self._place else name


def _form(key: str, value: object) -> str:
    """Return a TOML table with one key, such as `{ name = "mail" }`. Any value but a short text is shown as `"…"`."""
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, str) and len(value) <= LONGEST_SHOWN else '"…"'
    return f"{{ {key} = {text} }}"
