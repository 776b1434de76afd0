"""The columns that hold an extraction's answers, if all rows ask for the same attributes.

Each attribute has a column with its value, such as `Color`, and a column `Color.written` with the value as the row
writes it. The model writes `lego` where the row has `LEGO`. An attribute with options (see tasks/attributes.py) also
has a column `Color.place`, which says where the value is in the row: `title:0-9` or `feature[1]:4-8`. A typed value has
one more column: `Size.number`, `Made.date` or `Weight.kg`. An attribute with a list of allowed values has a column
`Color.id` for the value's id. Several values of an attribute share a cell, with semicolons between them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ecellm_lite.answers.dates import DateReader
from ecellm_lite.answers.quantities import QuantityReader
from ecellm_lite.answers.typed_values import NumberReader
from ecellm_lite.tables.header import distinct
from ecellm_lite.tables.kinds import Kind
from ecellm_lite.tasks.attributes import Attribute

_BETWEEN = "; "


def attribute_columns(attributes: Sequence[Attribute]) -> list[tuple[str, Kind]]:
    """Return the names and types of the attributes' columns.

    If two columns would have the same name, one of them gets a number. For example, if there are attributes `Color` and
    `Color.place`, the column with the place of Color becomes `Color.place (2)`.
    """
    columns: list[tuple[str, Kind]] = []
    own: list[int] = []  # the places of the columns that have an attribute's name
    for attribute in _different(attributes):
        own.append(len(columns))
        columns += [(attribute.name, Kind.TEXT), (f"{attribute.name}.written", Kind.TEXT)]
        if attribute.form:
            columns.append((f"{attribute.name}.place", Kind.TEXT))
            if typed := _typed_column(attribute):
                number = isinstance(attribute.form.reader, NumberReader | QuantityReader)
                columns.append((typed, Kind.NUMBER if number and attribute.form.at_most == 1 else Kind.TEXT))
    order = [*own, *(place for place in range(len(columns)) if place not in own)]
    names = dict(zip(order, distinct([columns[place][0] for place in order]), strict=True))
    return [(names[place], kind) for place, (_, kind) in enumerate(columns)]


def attribute_cells(attributes: Sequence[Attribute], value: Any) -> list[Any]:
    """Return the cells of an answer's value, one for each column. If the value is None, all cells are empty."""
    cells: list[Any] = []
    for attribute in _different(attributes):
        entries = [entry for entry in value or () if entry["attribute"] == attribute.name]
        cells.append(_joined(entry["value"] for entry in entries))
        cells.append(_joined(entry.get("written") for entry in entries))  # an older journal's entries may have none
        if attribute.form:
            cells.append(_joined(map(_place, entries)))
            if _typed_column(attribute):
                values = [entry["id"] if attribute.form.values else _plain(entry["normalized"]) for entry in entries]
                several = attribute.form.at_most > 1
                cells.append(_joined(map(_text, values)) if several else next(iter(values), None))
    return cells


def _different(attributes: Sequence[Attribute]) -> Iterable[Attribute]:
    """Return the attributes without repetitions. A row may ask for the same attribute name twice."""
    return {attribute.name: attribute for attribute in attributes}.values()


def extracted(value: Any) -> Mapping[str, Any]:
    """Return a mapping from each attribute's name to its value: a text, None, or a list of several values.

    `value`: the list of the extraction's entries, or None.
    """
    values: dict[str, list[str | None]] = {}
    for entry in value or ():
        values.setdefault(entry["attribute"], []).append(entry["value"])
    return {name: each[0] if len(each) == 1 else each for name, each in values.items()}


def _joined(texts: Iterable[str | None]) -> str | None:
    return _BETWEEN.join(filter(None, texts)) or None


def _place(entry: Mapping[str, Any]) -> str | None:
    place = entry["place"]
    if place is None:
        return None
    item = "" if place["item"] is None else f"[{place['item']}]"
    return f"{place['field']}{item}:{place['start']}-{place['end']}"


def _typed_column(attribute: Attribute) -> str | None:
    reader = attribute.form and attribute.form.reader
    if attribute.form and attribute.form.values:
        return f"{attribute.name}.id"
    if isinstance(reader, QuantityReader):
        return f"{attribute.name}.{reader.unit}"
    if isinstance(reader, DateReader):
        return f"{attribute.name}.date"
    return f"{attribute.name}.number" if reader else None


def _plain(normalized: Any) -> float | str | None:
    """Return a typed value as the content of a table cell.

    A quantity becomes its number, without the unit. A range becomes None, which is an empty cell.
    """
    value: float | str | None = normalized["value"] if isinstance(normalized, dict) else normalized
    return value


def _text(value: float | str | None) -> str | None:
    return None if value is None else str(value)
