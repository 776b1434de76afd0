"""Describes a task's fields as a JSON schema, from which programs can build forms or tools."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ecellm_lite.tasks.attributes import AttributesField
from ecellm_lite.tasks.captions import TitleField
from ecellm_lite.tasks.fields import (
    CaptionField,
    Field,
    ItemsField,
    ParagraphsField,
    RecordField,
    TextField,
    TextsField,
)

_TEXT: Mapping[str, Any] = {"type": "string", "minLength": 1}
_MANY = 10_000


def row_schema(fields: Sequence[Field]) -> dict[str, Any]:
    """Return the JSON schema of a row with these fields. The schema allows other keys, because they are ignored."""
    return {
        "type": "object",
        "properties": {field.name: {**_schema(field), "description": field.doc} for field in fields},
        "required": [field.name for field in fields if field.required],
    }


def _schema(field: Field) -> dict[str, Any]:
    if isinstance(field, TextField):
        return {**_TEXT, "examples": [field.example]}
    if isinstance(field, ParagraphsField):
        return {"anyOf": [{**_TEXT}, {"type": "array", "items": {**_TEXT}}]}
    if isinstance(field, AttributesField):
        form = {"type": "object", "required": ["name"], "properties": {"name": {**_TEXT}}}
        return _list(field.least, field.most, {"anyOf": [{**_TEXT}, form]})
    if isinstance(field, TextsField):
        return _list(field.least, field.most, {**_TEXT})
    if isinstance(field, CaptionField):
        return {"type": ["string", "null"], "examples": [field.example]}
    if isinstance(field, TitleField):
        return {"anyOf": [{**_TEXT}, {"type": "object", "required": ["title"]}], "examples": [field.example]}
    if isinstance(field, RecordField):
        return row_schema(field.fields)
    if isinstance(field, ItemsField):
        return _list(field.least, field.most, {"anyOf": [{**_TEXT}, {"type": "object", "required": ["title"]}]})
    return {}


def _list(least: int, most: int, items: dict[str, Any]) -> dict[str, Any]:
    bounds = {"minItems": least} | ({"maxItems": most} if most < _MANY else {})
    return {"type": "array", "items": items, **bounds}
