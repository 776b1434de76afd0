"""The dialect of delimited text: its delimiter and its quotes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

SINGLE_COLUMN = "\x1f"
"""Used as the delimiter of a table with one column: no text contains a unit separator."""

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}


class Quoting(Enum):
    """Whether a quote at the start of a cell makes it a quoted cell: yes, no, or undecided by the sample.

    If undecided, a line that is not valid with quotes is read without them.
    """

    QUOTED = "quoted"
    NONE = "none"
    UNSURE = "unsure"


@dataclass(frozen=True, slots=True)
class Dialect:
    """A delimiter (None for a single column), the quote character, and whether it quotes cells."""

    delimiter: str | None
    quoting: Quoting = Quoting.UNSURE
    quote: str = '"'

    @property
    def label(self) -> str:
        """The dialect in words."""
        delimiter = self.delimiter
        words = "one column" if delimiter is None else DELIMITERS.get(delimiter, f"delimiter {delimiter!r}")
        return f"{words}, quotes taken literally" if self.quoting is Quoting.NONE else words
