"""Converts the values of a table's cells to text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any


def cell_text(cell: Any) -> str:
    """Return a cell's value as text. Numbers look as in a spreadsheet, and dates are in ISO 8601.

    >>> cell_text(12.0), cell_text(0.1 + 0.2), cell_text(True)
    ('12', '0.3', 'true')
    """
    if isinstance(cell, str):
        return cell
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, float):
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
        return json.dumps(cell, ensure_ascii=False, default=cell_text)
    return str(cell)


def exact_text(cell: Any) -> str:
    """Return a cell's value as text. A number keeps all its digits."""
    return repr(cell) if isinstance(cell, float) else cell_text(cell)


def is_empty(cell: Any) -> bool:
    """Return whether a cell is empty: null, NaN or white space."""
    return cell is None or (isinstance(cell, str) and not cell.strip()) or (isinstance(cell, float) and cell != cell)
