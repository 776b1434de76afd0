"""How delimited text is written: its delimiter and its quotes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

SINGLE_COLUMN = "\x1f"
"""Stands for the delimiter of a table with one column: no text has a unit separator in it."""

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}


class Quoting(Enum):
    """Whether a quote at a cell's begin quotes it: yes, no, or not to be told from what was seen.

    Where it cannot be told, a line that makes no sense with quotes is read without them.
    """

    QUOTED = "quoted"
    NONE = "none"
    UNSURE = "unsure"


@dataclass(frozen=True, slots=True)
class Dialect:
    """A delimiter (None for a single column), the quote, and how it is meant."""

    delimiter: str | None
    quoting: Quoting = Quoting.UNSURE
    quote: str = '"'

    @property
    def label(self) -> str:
        """The dialect in words."""
        delimiter = self.delimiter
        words = "one column" if delimiter is None else DELIMITERS.get(delimiter, f"delimiter {delimiter!r}")
        return f"{words}, quotes taken literally" if self.quoting is Quoting.NONE else words
