"""Attribute_Value_Extraction (AVE): find the values of attributes in a product's texts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ecellm_lite.answers.extraction import Extraction
from ecellm_lite.errors import InputError
from ecellm_lite.tasks.attributes import Attribute, AttributesField, extraction, listed_values
from ecellm_lite.tasks.fields import ParagraphsField, TextField
from ecellm_lite.tasks.shortening import Words
from ecellm_lite.tasks.task import Task, Wire
from ecellm_lite.tasks.wire import read_object

_TARGET = "target attributes"
_MOST = 100  # attributes per row
_SOURCES = ("title", "description", "feature", "price", "brand")


def _write(row: Mapping[str, Any]) -> Wire:
    sources = {f"product {name}": row[name] for name in _SOURCES if name in row}
    if not sources:
        raise InputError(
            "The row has none of title, description, feature, price and brand",
            step='give at least one, for example {"title": "Navy blue cotton T-shirt, size M"}',
        )
    attributes: tuple[Attribute, ...] = row["attributes"]
    text = json.dumps({**sources, _TARGET: " and ".join(attribute.name for attribute in attributes)})
    fields = {f"product {name}": name for name in _SOURCES}
    return Wire(text, listed_values(attributes), extraction(attributes, sources, fields))


def _read(text: str, options: str | None) -> Extraction:
    row = read_object(text)
    sources = {str(key): value for key, value in row.items() if key != _TARGET and isinstance(value, str)}
    target = row.get(_TARGET)
    if not isinstance(target, str) or not target:
        step = f'add them, for example {{"{_TARGET}": "color and size"}}'
        raise InputError(f"The input has no {_TARGET!r}", step=step, field="input")
    attributes = tuple(target.split(" and "))
    if len(attributes) > _MOST:
        message = f"The input has {len(attributes)} target attributes"
        raise InputError(message, step=f"split the row, so that it has at most {_MOST}", field="input")
    return Extraction(attributes, sources)


TASK = Task(
    name="attribute_value_extraction",
    hub_name="Attribute_Value_Extraction",
    abbreviation="AVE",
    summary="Find the values of given attributes in a product's own texts.",
    answers="For each attribute a span of one of the texts with its source, or none.",
    instruction=(
        "Given the title, description, feature, price, and brand of a product and a set of target attributes, extract "
        "the value of each target attribute from the product information. Output the extracted value and the "
        "corresponding source (e.g., title or feature) denoting where the value is extracted."
    ),
    fields=(
        ParagraphsField("title", "The product's title.", "Navy blue cotton T-shirt, size M", required=False),
        ParagraphsField("description", "Its description.", "A soft everyday shirt.", required=False),
        ParagraphsField("feature", "Its features.", "machine washable", required=False),
        TextField("price", "Its price.", "$12.99", required=False),
        ParagraphsField("brand", "Its brand.", "Northpoint", required=False),
        AttributesField("attributes", "The attributes whose values are wanted.", ["Color", "Material"], most=_MOST),
    ),
    write=_write,
    read=_read,
    long=(Words(("description",)), Words(("feature",))),
)
