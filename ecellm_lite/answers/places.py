"""Where a value stands in the fields of a user's row.

The model reads a field's text as a source, such as `product feature`. If the field is a list of texts, the source is
all of them in one text, and each of them is a piece of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Piece:
    """One text of a list: its index in the list, and its first character and end in the joined text."""

    item: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Origin:
    """The row's field that a source comes from; `pieces` are empty unless the field is a list."""

    field: str
    pieces: tuple[Piece, ...] = ()

    def place(self, start: int, end: int) -> dict[str, Any] | None:
        """Return the place of the characters from `start` to `end` of the source, as plain data.

        `item` is the index in a list field. Returns None if the characters are not all in one text of the list.
        """
        if not self.pieces:
            return {"field": self.field, "item": None, "start": start, "end": end}
        for piece in self.pieces:
            if piece.start <= start and end <= piece.end:
                return {
                    "field": self.field,
                    "item": piece.item,
                    "start": start - piece.start,
                    "end": end - piece.start,
                }
        return None
