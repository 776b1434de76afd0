"""The types that an extracted value may be read as: a number, a date or a quantity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from ecellm_lite.answers.numbers import Decimal, read_number, tidy


class Reader(Protocol):
    """Reads an extracted value as it is written."""

    @property
    def description(self) -> str:
        """What a text must be, in words for a message."""

    def read(self, text: str) -> Any:
        """Return the value as plain data.

        Raises UnreadableError for a text that has none, or could have several.
        """


@dataclass(frozen=True, slots=True)
class NumberReader:
    """Reads numbers. `decimal`: the sign before a number's fraction, if the texts always have the same."""

    decimal: Decimal | None = None

    @property
    def description(self) -> str:
        """What a text must be, in words for a message."""
        return "a number"

    def read(self, text: str) -> float | int:
        """Return the number."""
        return tidy(read_number(text, self.decimal))
