"""Finds where a value is in the fields of a user's row.

A source is the text that the model reads from one field. It has a name, such as `product feature`. If the field is a
list of texts, the source is all these texts joined into one, and each text is a piece of the source.
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
    """The field of a row from which a source (a text that the model reads) is made.

    If the field is a list of texts, they are joined into one source, and `pieces` has one entry per text. Otherwise,
    `pieces` is empty.
    """

    field: str
    pieces: tuple[Piece, ...] = ()

    def place(self, start: int, end: int) -> dict[str, Any] | None:
        """Return where the characters from `start` to `end` of the source are in the row.

        The result is a dict with these keys:

        - `field`: the name of the field.
        - `item`: the index of the text in the field's list, or None if the field is a single text.
        - `start`, `end`: the position of the characters in this text.

        If the characters extend over several texts of the list, the result is None.
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
