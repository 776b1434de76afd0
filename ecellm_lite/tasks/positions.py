"""Where the keys of a TOML file stand, which tomllib does not say."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

Place = tuple[str | int, ...]  # the way to a value: ("answer", "choices", 1, "value")

_TOKEN = re.compile(
    r'''#[^\n]*|"""(?:\\.|(?!""")[^\\])*"{3,5}|\'\'\'(?:(?!\'\'\').)*\'{3,5}|"(?:\\.|[^"\\\n])*"|'[^'\n]*'|\n|[\[\]{}=,]'''
    r"""|[^\s\[\]{}=,#"']+|["']""",
    re.DOTALL,
)
_PART = re.compile(r""""(?:\\.|[^"\\])*"|'[^']*'|[A-Za-z0-9_-]+""")


def lines_of(text: str) -> dict[Place, int]:
    """Return the line, from 1, of every key and every list item of a text that tomllib has read without an error."""
    scan = _Scan()
    for token in _TOKEN.finditer(text):
        if not token[0].startswith("#"):
            scan.take(token[0])
        scan.line += token[0].count("\n")
    return scan.lines


def long_key(text: str, most: int) -> int | None:
    """Return the line of the first dotted key with more than `most` dots, whether or not the text is TOML.

    tomllib takes time in the square of a key's parts, and more than a minute for what 60,000 characters can hold.
    """
    line, dots = 1, 0
    for token in _TOKEN.finditer(text):
        sign = token[0]
        if sign in ('"', "'"):
            return None  # a string that does not end: tomllib stops here too
        if sign in ("\n", "[", "]", "{", "}", "=", ","):
            dots = 0
        elif sign[0] not in "#\"'":
            dots += sign.count(".")
        if dots > most:
            return line
        line += sign.count("\n")
    return None


@dataclass(slots=True)
class _Open:
    """A list or an inline table whose end has not come: where it stands, and what of it is being read."""

    place: Place
    item: int | None  # the index in a list, None for an inline table
    value: Place | None = None  # the place of an inline table's value, None while its key is read


class _Scan:
    """What is known after some tokens; `keys` are those of a key or of a table's header that has not ended."""

    def __init__(self) -> None:
        self.lines: dict[Place, int] = {}
        self.line = 1
        self._table: Place = ()
        self._value: Place | None = None
        self._keys: list[str] = []
        self._header = 0  # brackets that open a header
        self._sizes: dict[Place, int] = {}  # of lists of tables
        self._open: list[_Open] = []

    def take(self, sign: str) -> None:
        """Go on by one token."""
        if self._open:
            self._inside(sign)
        elif sign == "\n":
            self._value, self._keys, self._header = None, [], 0
        elif self._value is not None:
            self._begin(sign, self._value)
        elif sign == "[":
            self._header += 1
        elif sign == "]":
            self._enter(self._header == 2)
        elif sign == "=":
            self._value = self._key(self._table)
        else:
            self._keys.append(sign)

    def _inside(self, sign: str) -> None:
        top = self._open[-1]
        if sign in ("]", "}"):
            self._open.pop()
        elif sign == ",":
            top.item = None if top.item is None else top.item + 1
            top.value = None
        elif sign == "\n":
            pass
        elif top.item is not None:
            place = (*top.place, top.item)
            self.lines.setdefault(place, self.line)
            self._begin(sign, place)
        elif top.value is not None:
            self._begin(sign, top.value)
        elif sign == "=":
            top.value = self._key(top.place)
        else:
            self._keys.append(sign)

    def _begin(self, sign: str, place: Place) -> None:
        if sign in ("[", "{"):
            self._open.append(_Open(place, 0 if sign == "[" else None))
            self._keys = []

    def _key(self, table: Place) -> Place:
        place = table
        for part in self._parts():
            place = (*place, part)
            self.lines.setdefault(place, self.line)
        self._keys = []
        return place

    def _enter(self, is_list: bool) -> None:
        """Enter the table of a header, at its first closing bracket."""
        if not self._keys:
            return
        place: Place = ()
        parts = self._parts()
        for number, part in enumerate(parts, start=1):
            place = (*place, part)
            self.lines.setdefault(place, self.line)
            if is_list and number == len(parts):
                self._sizes[place] = self._sizes.get(place, 0) + 1
            if place in self._sizes:
                place = (*place, self._sizes[place] - 1)
                self.lines.setdefault(place, self.line)
        self._table, self._keys = place, []

    def _parts(self) -> list[str]:
        return [_unquoted(part) for part in _PART.findall("".join(self._keys))]


def _unquoted(part: str) -> str:
    if part.startswith("'"):
        return part[1:-1]
    if not part.startswith('"'):
        return part
    try:
        return str(json.loads(part))
    except ValueError:  # an escape that only TOML has
        return part[1:-1]
