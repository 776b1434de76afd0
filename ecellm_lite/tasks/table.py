"""A table of a user's TOML file, read as hostile input: every mistake is an error that names its file, line and key."""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ecellm_lite.errors import InputError
from ecellm_lite.tasks.fields import shown
from ecellm_lite.tasks.positions import Place, lines_of, long_key

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MAX_BYTES = 1 << 16
MAX_DOTS = 64  # in a key

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def read_file(path: Path, what: str) -> str:
    """Return the text of a regular UTF-8 file of at most MAX_BYTES, or raise InputError; `what` names it."""
    try:
        with open(path, "rb", opener=_at_once) as file:  # Path.open takes no opener
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise InputError(f"{path} is no regular file: give the path of {what}.")
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{str(path)[:200]!r} cannot be read ({reason}): give the path of {what}.") from None
    if len(data) > MAX_BYTES:
        raise InputError(f"{path} has more than {MAX_BYTES:,} bytes, which is the most for {what}: shorten it.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise InputError(f"{path}, line {line}: this is not UTF-8 ({error.reason}): save the file as UTF-8.") from None


def _at_once(name: str, flags: int) -> int:
    # Without O_NONBLOCK, opening a FIFO would wait for a writer.
    return os.open(name, flags | getattr(os, "O_NONBLOCK", 0))


class Table:
    """One table of a file; what is taken out of it is checked, and what is left in it is a mistake."""

    def __init__(self, path: Path, lines: Mapping[Place, int], place: Place, values: Mapping[str, Any]) -> None:
        self.path = path
        self._lines = lines
        self._place = place
        self._values = values

    @classmethod
    def read(cls, path: Path) -> Table:
        """Return the top table of a TOML file, or raise InputError."""
        text = read_file(path, "a task's TOML file")
        if line := long_key(text, MAX_DOTS):
            raise InputError(f"{path}, line {line}: a key has more than {MAX_DOTS} dots: shorten it.")
        try:
            values = tomllib.loads(text)
        except RecursionError:
            raise InputError(f"{path} is nested too deep: flatten it.") from None
        except ValueError as error:
            raise InputError(f"{path} is not TOML ({str(error)[:200]}): correct it there.") from None
        return cls(path, lines_of(text), (), values)

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def error(self, key: str | None, reason: str) -> InputError:
        """Return an error about a key of this table, or about the table itself."""
        place = self._place if key is None else (*self._place, key)
        name = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")
        known = next((self._lines[part] for part in _upwards(place) if part in self._lines), None)
        where = f"{self.path}, line {known}" if known else str(self.path)
        return InputError(f"{where}: {name} {reason}." if name else f"{where}: {reason}.")

    def only(self, *keys: str) -> None:
        """Raise InputError for a key that is none of these."""
        for key in self._values:
            if key not in keys:
                near = get_close_matches(key, keys, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"the keys here are {', '.join(keys)}"
                raise self.error(key[:80], f"is no key of this table ({hint})")

    def value(self, key: str) -> Any:
        """Return what a key holds; InputError if it is not there."""
        if key not in self._values:
            raise self.error(None, f"lacks the key {key!r}" if self._place else f"the key {key!r} is missing")
        return self._values[key]

    def text(self, key: str, *, most: int, lines: bool = False, default: str | None = None) -> str:
        """Return a text of 1 to `most` characters, with line feeds only where `lines` allows them."""
        if default is not None and key not in self._values:
            return default
        return self._checked(key, self.value(key), most, lines)

    def texts(self, key: str, *, least: int, most: int, longest: int) -> tuple[str, ...]:
        """Return a list of `least` to `most` different texts."""
        values = self._list(key, least, most, "texts")
        found = tuple(self._checked(key, value, longest, False) for value in values)
        self.different(key, found)
        return found

    def flag(self, key: str, *, default: bool) -> bool:
        """Return true or false."""
        value = self._values.get(key, default)
        if not isinstance(value, bool):
            raise self.error(key, f"is {shown(value)}, and may be true or false")
        return value

    def number(self, key: str, *, least: int, most: int, default: int) -> int:
        """Return a whole number."""
        value = self._values.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise self.error(key, f"is {shown(value)}, and may be a whole number from {least} to {most:,}")
        return value

    def table(self, key: str) -> Table:
        """Return the table under a key."""
        value = self.value(key)
        if not isinstance(value, Mapping):
            raise self.error(key, f"is {shown(value)}, and has to be a table")
        return Table(self.path, self._lines, (*self._place, key), value)

    def tables(self, key: str, *, least: int, most: int) -> list[Table]:
        """Return the list of `least` to `most` tables under a key."""
        values = self._list(key, least, most, "tables")
        if not all(isinstance(value, Mapping) for value in values):
            raise self.error(key, f"is {shown(values)}, and has to be a list of tables")
        return [Table(self.path, self._lines, (*self._place, key, i), value) for i, value in enumerate(values)]

    def different(self, key: str, texts: tuple[str, ...]) -> None:
        """Raise InputError if a text is there twice."""
        for index, text in enumerate(texts):
            if text in texts[:index]:
                raise self.error(key, f"has {text[:80]!r} twice, and each has to be another")

    def _list(self, key: str, least: int, most: int, what: str) -> list[Any]:
        value = self.value(key)
        if not isinstance(value, list) or not least <= len(value) <= most:
            given = f"has {len(value)}" if isinstance(value, list) else f"is {shown(value)}"
            raise self.error(key, f"{given}, and has to be a list of {least} to {most} {what}")
        return value

    def _checked(self, key: str, value: Any, most: int, lines: bool) -> str:
        if not isinstance(value, str) or not value.strip():
            raise self.error(key, f"is {shown(value)}, and has to be a text that is not empty")
        if len(value) > most:
            raise self.error(key, f"has {len(value):,} characters, and at most {most:,} are taken")
        if not lines and (value != value.strip() or _CONTROL.search(value)):
            raise self.error(key, f"is {shown(value)}, and has to be one line, with no space at its ends")
        return value


def _upwards(place: Place) -> list[Place]:
    return [place[:length] for length in range(len(place), 0, -1)]
