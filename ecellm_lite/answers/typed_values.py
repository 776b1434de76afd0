"""The types that an extracted value may be read as: a number, a date or a quantity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from ecellm_lite.answers.numbers import Decimal, read_number, tidy


class Reader(Protocol):
    """Reads an extracted value from its text in the row."""

    @property
    def description(self) -> str:
        """What the reader expects, in words for an error message."""

    def read(self, text: str) -> Any:
        """Return the value as a number, a text or a dict.

        Raises UnreadableError for a text that has no such value, or that could have several.
        """


@dataclass(frozen=True, slots=True)
class NumberReader:
    """Reads numbers. `decimal`: the texts' decimal sign, if it is always the same."""

    decimal: Decimal | None = None

    @property
    def description(self) -> str:
        """What the reader expects, in words for an error message."""
        return "a number"

    def read(self, text: str) -> float | int:
        """Return the number. Raises UnreadableError for a text that is no number, or that could be several."""
        return tidy(read_number(text, self.decimal))
