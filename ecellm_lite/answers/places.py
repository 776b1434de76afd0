"""Finds where a value is in the fields of a user's row.

The model reads a field's text as a source, such as `product feature`. A field may be a list of texts. Its source is
then all texts joined into one, and each text is a piece of the source.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Piece:
    """One text of a list: its index in the list, and where it starts and ends in the joined text."""

    item: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Origin:
    """The row's field from which the model reads a source. `pieces` is empty if the field is not a list."""

    field: str
    pieces: tuple[Piece, ...] = ()

    def place(self, start: int, end: int) -> dict[str, Any] | None:
        """Return where in the row the source's characters from `start` to `end` are.

        The result names the `field` and, for a list field, the index `item` of the text in the list. The new `start`
        and `end` count from the beginning of that text. The result is None if the characters are not all in the same
        text of the list.
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
