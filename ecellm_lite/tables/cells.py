"""Converts the values of a table's cells to text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date, datetime, time
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from ecellm_lite.tasks.written import WrittenNumber, written_json

if TYPE_CHECKING:
    from typing_extensions import Self

EXACT = 1 << 53  # floats hold every whole number up to this one exactly


class RawText(str):
    """The text of a value that Python cannot represent, such as a date past the year 9999.

    `raw` is the whole number that Arrow stores for the value. Its unit, such as nanoseconds, is that of the column.
    """

    raw: int

    def __new__(cls, text: str, raw: int) -> Self:
        """Return `text` with the attribute `raw`: the value that the text stands for."""
        value = super().__new__(cls, text)
        value.raw = raw
        return value


def cell_text(cell: Any) -> str:
    """Return a cell's value as text. Numbers look as in a spreadsheet, and dates are in ISO 8601.

    A whole number keeps all its digits, because it may identify an order. A number in JSON keeps its spelling.

    >>> cell_text(12.0), cell_text(0.1 + 0.2), cell_text(1234567890123451.0), cell_text(True)
    ('12', '0.3', '1234567890123451', 'true')
    """
    if isinstance(cell, str):
        return cell
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, WrittenNumber):
        return cell.text
    if isinstance(cell, float):
        if cell.is_integer():
            return str(int(cell)) if abs(cell) <= EXACT else f"{cell:.17g}"
        return f"{cell:.15g}"
    if isinstance(cell, datetime):
        return cell.isoformat(" ").removesuffix(" 00:00:00")
    if isinstance(cell, date | time):
        return cell.isoformat()
    if isinstance(cell, Decimal):
        return f"{cell:f}"
    if isinstance(cell, bytes):
        return cell.decode("utf-8", "replace")
    if isinstance(cell, Mapping | list | tuple):
        return _json(cell)
    return str(cell)


def exact_text(cell: Any) -> str:
    """Return a cell's value as text. A number keeps all its digits."""
    return repr(cell) if isinstance(cell, float) and not isinstance(cell, WrittenNumber) else cell_text(cell)


def _json(cell: Any) -> str:
    try:
        return written_json(cell, cell_text)
    except RecursionError:  # more levels than Python's own calls reach
        return json.dumps(cell, ensure_ascii=False, default=cell_text)


def is_empty(cell: Any) -> bool:
    """Return whether a cell is empty: null, NaN or white space."""
    return cell is None or (isinstance(cell, str) and not cell.strip()) or (isinstance(cell, float) and cell != cell)
