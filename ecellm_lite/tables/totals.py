"""Leaves out rows such as "Total, 120" at the end of a table, because they describe no product."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from ecellm_lite.tables.row import TableRow

_MOST = 10
_TOTAL = re.compile(
    r"\s*((grand |sub)?totals?|gesamt(summe)?|summe|total g[eé]n[eé]ral|totale|totaal|suma|итого|合計|总计)"
    "(\\s*[:\uff1a].*|\\s*)",
    re.IGNORECASE | re.DOTALL,
)
_FIGURE = re.compile(r"[\s\d.,:%+\u2013\u2014<>$\u20ac£¥-]*|[A-Z]{3}\s?[\d.,]+|[\d.,]+\s?[A-Z]{3}")


def is_total(row: TableRow) -> bool:
    """Return whether a row has totals: the first cell is a word such as "Total", and all other cells are numbers.

    Empty cells are ignored.
    """
    cells = (text for cell in row.cells.values() if (text := "" if cell is None else str(cell)).strip())
    first = next(cells, None)
    if first is None or _TOTAL.fullmatch(first) is None:
        return False
    return len(row.cells) > 1 and all(map(_FIGURE.fullmatch, cells))


def without_totals(rows: Iterable[TableRow], notes: list[str]) -> Iterator[TableRow]:
    """Yield the rows, but not the totals at the end of the table.

    If totals are left out, a sentence about them is added to `notes`.
    """
    totals: list[TableRow] = []
    for row in rows:
        if len(totals) < _MOST and is_total(row):
            totals.append(row)
            continue
        yield from totals
        totals.clear()
        yield row
    if totals:
        shown: Any = next(iter(totals[0].cells.values()))
        rows_ = "1 row of totals was" if len(totals) == 1 else f"{len(totals)} rows of totals were"
        notes.append(f"{rows_} left out at the end ({str(shown)[:40]!r})")
