"""The types that an extracted value may be read as: a number, a date or a quantity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from ecellm_lite.answers.numbers import Decimal, read_number


class Reader(Protocol):
    """Reads the text of an extracted value as a typed value, such as a number or a date."""

    @property
    def description(self) -> str:
        """What `read` expects, for an error message, such as "a number"."""

    def read(self, text: str) -> Any:
        """Return the value as a number, a text or a dict.

        Raises UnreadableError if the text cannot be read, or if it can be read in two ways.
        """


@dataclass(frozen=True, slots=True)
class NumberReader:
    """Reads numbers. `decimal` is the decimal sign of all texts. It is None if their decimal sign is not known."""

    decimal: Decimal | None = None

    @property
    def description(self) -> str:
        """The words "a number", for an error message."""
        return "a number"

    def read(self, text: str) -> float | int:
        """Return the number. Raises UnreadableError if the text is not a number, or if it can mean two numbers."""
        value = read_number(text, self.decimal)
        return int(value) if value.is_integer() else value
