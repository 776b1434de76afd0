"""Makes the value of a task's field from the table cells that are mapped to this field."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from ecellm_lite.tables.cells import cell_text, is_empty
from ecellm_lite.tables.html_text import html_text, is_html
from ecellm_lite.tasks.attributes import AttributesField
from ecellm_lite.tasks.fields import Field, ItemsField, ParagraphsField, TextsField

Html = Literal["auto", "text", "keep"]


def cell_value(cell: Any, html: Html, changed: list[str], column: str) -> Any:
    """Return a cell's value as a text, a list or an object, or None if the cell is empty.

    `html`: which cells are converted from HTML to text (see MapOptions). If this cell was converted, `column` is added
    to the list `changed`.
    """
    if is_empty(cell):
        return None
    if isinstance(cell, list | tuple):
        values = [value for each in cell if (value := cell_value(each, html, changed, column)) is not None]
        return values or None
    if isinstance(cell, Mapping):
        return cell
    text = cell_text(cell)
    if html == "text" or (html == "auto" and is_html(text)):
        plain = html_text(text)
        if plain != text and column not in changed:
            changed.append(column)
        return plain or None
    return text


def field_value(field: Field | None, values: Sequence[Any]) -> Any:
    """Return a field's value, made from the values of the cells that are mapped to the field.

    A field that accepts a list gets the values as one list. Any other field gets several texts joined with spaces.
    In a list of attributes, a text is split at commas and semicolons. Texts in other lists are never split, because
    titles and sentences have commas.
    """
    if isinstance(field, AttributesField):
        return _attributes(values)
    parts = [part for value in values for part in (value if isinstance(value, list) else [value])]
    if isinstance(field, TextsField | ItemsField):
        listed = _listed(values[0]) if len(values) == 1 else None
        return parts if listed is None else listed
    if len(values) == 1:
        return values[0]
    texts = [str(part) for part in parts]
    return texts if isinstance(field, ParagraphsField) else " ".join(texts)


def put_value(row: dict[str, Any], name: str, value: Any) -> None:
    """Put a field's value into a row.

    The name `product_1.title` means the field `title` inside the record `product_1`.
    """
    record, dot, inner = name.partition(".")
    if not dot:
        row[name] = value
        return
    fields = row.get(record)
    row[record] = {**fields, inner: value} if isinstance(fields, Mapping) else {inner: value}


def _attributes(values: Sequence[Any]) -> Any:
    """Return the attributes in some cells as one list. A cell with the text `Color, Size` has two attributes.

    A text that begins like JSON but is not a JSON list is returned unchanged. The field then refuses it.
    """
    attributes: list[Any] = []
    for value in values:
        listed = _listed(value)
        if listed is None and isinstance(value, str):
            if value.lstrip().startswith(("[", "{")):
                return value
            listed = [name for part in re.split("[,;]", value) if (name := part.strip())]
        attributes += [value] if listed is None else listed
    return attributes


def _listed(value: Any) -> list[Any] | None:
    """Return `value` if it is a list. If `value` is JSON text such as `["a", "b"]`, return the parsed list.

    Return None for any other value.
    """
    if isinstance(value, list):
        return value
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            listed = json.loads(value)
        except (ValueError, RecursionError):
            return None
        return listed if isinstance(listed, list) else None
    return None
