"""The dialect of delimited text: its delimiter and its quotes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

SINGLE_COLUMN = "\x1f"
"""Used as the delimiter of a table with one column, because texts do not contain this character (unit separator)."""

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}


class Quoting(Enum):
    """Whether cells may be quoted, as in `"a, b"`. Such quotes are not part of the cell's text.

    UNSURE means that the first lines have no quoted cell, but later lines may have some. A later line is read as if its
    cells may be quoted. If the line is then malformed, its quotes count as text.
    """

    QUOTED = "quoted"
    NONE = "none"
    UNSURE = "unsure"


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a table's text is divided into cells.

    `delimiter`: the character between two cells, or None if the table has a single column.
    `quoting`: whether cells may be enclosed in the character `quote`.
    """

    delimiter: str | None
    quoting: Quoting = Quoting.UNSURE
    quote: str = '"'

    @property
    def label(self) -> str:
        """The dialect in words, for the line that describes a table."""
        delimiter = self.delimiter
        words = "no delimiter" if delimiter is None else DELIMITERS.get(delimiter, f"delimiter {delimiter!r}")
        return f"{words}, quotes taken literally" if self.quoting is Quoting.NONE else words
