"""The dialect of delimited text: its delimiter and its quotes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

SINGLE_COLUMN = "\x1f"
"""Used as the delimiter of a table with one column, because texts do not contain this character (unit separator)."""

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}


class Quoting(Enum):
    """Whether a quote character at the start of a cell begins a quoted cell: yes, no, or unsure.

    The answer is unsure if no cell in the first lines begins with a quote. Later quotes then begin quoted cells, except
    in a line that would become malformed.
    """

    QUOTED = "quoted"
    NONE = "none"
    UNSURE = "unsure"


@dataclass(frozen=True, slots=True)
class Dialect:
    """A delimiter (None for a single column), a quote character, and whether that character begins quoted cells."""

    delimiter: str | None
    quoting: Quoting = Quoting.UNSURE
    quote: str = '"'

    @property
    def label(self) -> str:
        """The dialect in words, as part of the table's description."""
        delimiter = self.delimiter
        words = "no delimiter" if delimiter is None else DELIMITERS.get(delimiter, f"delimiter {delimiter!r}")
        return f"{words}, quotes taken literally" if self.quoting is Quoting.NONE else words
