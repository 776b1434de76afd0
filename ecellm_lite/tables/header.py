"""Finds a table's header: the row with the names of the columns.

Exports often put report titles above the header. Amazon's files have three header rows, and product taxonomies have no
header. One shop system writes the names twice in one line.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ecellm_lite.errors import UsageError

_ROWS = 200
_NUMBER = re.compile(r"[^\w\s]?\s?[-+]?\d[\d.,\s]*\s?%?")
_IDENTIFIER = re.compile(r"[A-Za-z][\w.:#\[\]-]*")


@dataclass(frozen=True, slots=True)
class SampleRow:
    """One of a table's first rows: its cells, and the numbers of its first and last line in the file.

    In a spreadsheet, both numbers are the number of the row.
    """

    place: int
    last: int
    cells: Sequence[Any]


@dataclass(frozen=True, slots=True)
class TableHeader:
    """The names of a table's columns.

    `last`: the number of the last line or row above the data, or 0 if the data begin at the top.
    `findings`: what is unusual about the header, as phrases for the user.
    """

    columns: tuple[str, ...]
    last: int
    findings: tuple[str, ...]


def find_header(rows: Sequence[SampleRow], width: int, header_row: int | None = None) -> TableHeader:
    """Return the header of a table whose first rows are `rows`. `width` is the usual number of cells in a row.

    `header_row` is the number of the header's line or row, or 0 for a table without a header. If `header_row` is None,
    the header is detected. Raises UsageError if none of `rows` begins at the line `header_row`.
    """
    index: int | None
    if header_row is None:
        first, index = _likely(rows, width)
    elif header_row == 0:
        first, index = 0, None
    else:
        first, index = 0, next((index for index, row in enumerate(rows) if row.place == header_row), None)
        if index is None:
            raise UsageError(
                f"There is no row in line {header_row}",
                step=f"give the line of the header, from {rows[0].place}, or 0 if there is none",
                settings=("header_row",),
            )
    if index is None:
        columns = tuple(f"column {place}" for place in range(1, width + 1))
        if first == 0:
            return TableHeader(columns, 0, ("no header",))
        return TableHeader(columns, rows[first - 1].last, ("no header", f"rows from line {rows[first].place}"))
    names = [text_of(cell) for cell in rows[index].cells]
    place = rows[index].place
    findings = [f"header in line {place}"] if index or place > 1 else []
    names, finding = _fitted(names, width, rows[index + 1 :])
    columns = distinct(names)
    repeated = [name for name, count in Counter(filter(None, names)).items() if count > 1]
    if repeated:
        findings.append(f"columns with the same name are numbered ({', '.join(repeated[:3])})")
    return TableHeader(columns, rows[index].last, (*findings, *finding))


def text_of(cell: Any) -> str:
    """Return a header's cell as text. A cell with only white space becomes an empty text."""
    text = "" if cell is None else str(cell)
    return text if text.strip() else ""


def _likely(rows: Sequence[SampleRow], width: int) -> tuple[int, int | None]:
    """Return the index of the table's first row, and the index of its header (None if there is no header)."""
    first = next((index for index, row in enumerate(rows) if _spans(row, width) and not _is_comment(row)), 0)
    index = _below(rows, first, width)
    if index > first or not _is_data(rows[first], rows[first + 1 : first + 1 + _ROWS]):
        return first, index
    # Without a header, a row of which most cells are empty is a row. Only titles and comments have fewer cells.
    full = (index for index in range(first) if len(rows[index].cells) >= width and not _is_comment(rows[index]))
    return next(full, first), None


def _is_comment(row: SampleRow) -> bool:
    return len(row.cells) == 1 and text_of(row.cells[0]).startswith("# ")


def _spans(row: SampleRow, width: int) -> bool:
    """Return whether a row is nearly as wide as the table and at least half of its cells have text."""
    filled = [index for index, cell in enumerate(row.cells) if text_of(cell)]
    return bool(filled) and filled[-1] + 1 >= 0.75 * width and len(filled) >= 0.5 * min(width, len(row.cells))


def _below(rows: Sequence[SampleRow], first: int, width: int) -> int:
    """Return the index of the header row: `first`, or one of the next three rows.

    One of the next rows is the header if its texts are names such as `item_name`, while the texts of row `first` and of
    most rows further down are not.
    """
    data = rows[first + 4 : first + 4 + _ROWS]
    if _identifiers(rows[first], width) or sum(1 for row in data if _identifiers(row, width)) * 2 > len(data):
        return first
    for index in range(min(first + 3, len(rows) - 1), first, -1):
        others = [row for row in rows[first + 1 : first + 4 + _ROWS] if row is not rows[index]]
        if _identifiers(rows[index], width) and not _is_item(rows[index], others):
            return index
    return first


def _identifiers(row: SampleRow, width: int) -> bool:
    texts = [text for cell in row.cells if (text := text_of(cell))]
    identifiers = [text for text in texts if _IDENTIFIER.fullmatch(text)]
    return (
        _spans(row, width)
        and len(identifiers) == len(texts) == len(set(texts))
        and all("_" in text or text.islower() for text in texts)
        and sum(1 for text in texts if "_" in text) * 3 >= len(texts)
    )


def _is_item(row: SampleRow, others: Sequence[SampleRow]) -> bool:
    """Return whether a row with texts such as `MUG_02` describes an item, and is therefore not a header.

    A text such as `MUG_02` fits its column if most of the column's texts in the rows `others` are of this kind too. The
    row describes an item if at least half of its own texts of this kind fit.
    """
    places = [index for index, cell in enumerate(row.cells) if "_" in text_of(cell)]
    alike = 0
    for index in places:
        column = [text for other in others if index < len(other.cells) and (text := text_of(other.cells[index]))]
        alike += sum(1 for text in column if "_" in text and _IDENTIFIER.fullmatch(text)) * 2 > len(column)
    return alike * 2 >= len(places)


def _is_data(row: SampleRow, data: Sequence[SampleRow]) -> bool:
    """Return whether a row looks like the rows below it, and is therefore not a header."""
    if not data or any(list(other.cells) == list(row.cells) for other in data if len(row.cells) > 1):
        return False  # a repeated row is a header: files were concatenated
    words_over_numbers, like_data, repeated, compared = 0, 0, 0, 0
    for index, cell in enumerate(row.cells):
        column = [text for other in data if index < len(other.cells) and (text := text_of(other.cells[index]))]
        name = text_of(cell)
        if not name or not column:
            continue
        compared += 1
        if _is_number(cell):
            like_data += _mostly(column, _is_number) and not re.fullmatch(r"(19|20)\d\d", name)
        elif _mostly(column, _is_number):
            words_over_numbers += 1
        elif _is_coded(name) and _mostly(column, _is_coded):
            like_data += 1
        elif len(name) > 1 and _is_value(name, column):
            repeated += 1
        elif len(row.cells) == 1:  # in a list of category paths, the first row is a root of later ones
            like_data += any(text.startswith(f"{name} > ") for text in column)
    return words_over_numbers == 0 and (like_data > 0 or (repeated > 0 and repeated * 2 >= compared))


def _is_value(name: str, column: Sequence[str]) -> bool:
    """Return whether `name`, a text that may be the column's name, is one of the column's frequent values.

    If the column has no other value, return False. Such a column is a flag. For example, a column that is called `sale`
    may have the value `sale` in some rows.
    """
    return set(column) != {name} and column.count(name) >= 0.05 * len(column)


def _is_number(cell: Any) -> bool:
    if isinstance(cell, int | float):
        return not isinstance(cell, bool)
    return _NUMBER.fullmatch(str(cell).strip()) is not None


def _is_coded(text: str) -> bool:
    """Return whether a text begins with a digit or is a web address. Such a text is unlikely to be a column name."""
    return re.match(r"\d|https?://", text) is not None


def _mostly(column: Sequence[str], test: Callable[[str], bool]) -> bool:
    return sum(1 for text in column if test(text)) >= 0.8 * len(column)


def _fitted(names: list[str], width: int, data: Sequence[SampleRow]) -> tuple[list[str], tuple[str, ...]]:
    """Return the names of the columns, and phrases that say how the names were changed.

    If at least 90% of the rows have `width` cells, the list of names is filled up or cut to `width` names.
    """
    agree = sum(1 for row in data if len(row.cells) == width)
    if len(names) == width or len(data) < 3 or agree < 0.9 * len(data):
        return names, ()
    if len(names) < width:
        finding = f"the header names {len(names)} of {width} columns"
        return names + [""] * (width - len(names)), (finding,)
    columns = names[:width]
    last = columns[-1].removesuffix(columns[0]).removesuffix('"')  # two quoted headers meet in a doubled quote
    if names[width:] == [*columns[1:-1], last]:
        return [*columns[:-1], last], ("the header is repeated in the same line",)
    return columns, (f"the header has {len(names)} names for {width} columns, of which the first are used",)


def distinct(names: Sequence[str]) -> tuple[str, ...]:
    """Return distinct column names: the names Size, Size and "" become `Size`, `Size (2)` and `column 3`."""
    existing = set(names)
    columns: dict[str, None] = {}
    for place, name in enumerate(names, 1):
        base = name or f"column {place}"
        column, number = base, 2
        while column in columns or (column != name and column in existing):
            column, number = f"{base} ({number})", number + 1
        columns[column] = None
    return tuple(columns)
