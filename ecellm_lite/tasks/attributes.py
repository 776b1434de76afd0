"""The attributes that a row or a user's task asks for. An attribute is a name, or an object with settings.

    ["Color", { name = "Material", at_most = 3 }, { name = "Weight", type = "quantity", unit = "kg" }]

For an attribute that is an object, the answer also says how the row spells the value, and where in the row the value
is. The object's keys are `name` and:

| key | |
|---|---|
| at_most | how many values the attribute may have: 1 to 20, by default 1 |
| type | number, date or quantity: each value is also converted to this type |
| unit | of a quantity: the unit to convert to |
| system | of a quantity: us or imperial, for gallons, fluid ounces and tons; by default us |
| decimal | of a number or quantity: the decimal sign, "." or ","; by default, an ambiguous 1,500 is not converted |
| day_first | of a date: whether 03/04/2025 is in April; by default, such ambiguous dates are not converted |
| values | the allowed values, in place of `type`: a list of texts or objects {id, value}, or a file (see label_files) |
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ecellm_lite.answers.attribute_forms import AttributeForm
from ecellm_lite.answers.closed_values import ClosedValues
from ecellm_lite.answers.dates import DateReader, date_parser
from ecellm_lite.answers.extraction import Extraction
from ecellm_lite.answers.label_set import Labels
from ecellm_lite.answers.numbers import UnreadableError
from ecellm_lite.answers.places import Origin
from ecellm_lite.answers.quantities import QuantityReader
from ecellm_lite.answers.space import Space
from ecellm_lite.answers.spans import NONE
from ecellm_lite.answers.typed_values import NumberReader, Reader
from ecellm_lite.answers.units import unit_of, units_registry
from ecellm_lite.errors import InputError
from ecellm_lite.tasks.fields import Joined, TextsField
from ecellm_lite.tasks.label_files import misleading_id, read_labels
from ecellm_lite.tasks.table import TaskTable
from ecellm_lite.tasks.wire import LONGEST_OPTIONS

MAX_VALUES = 20
LONGEST_NAME = 200  # characters
LONGEST_UNIT = 30
MAX_LISTED = 255  # values that a list may have, and that a prompt shows


@dataclass(frozen=True, slots=True)
class Attribute:
    """An attribute to extract.

    `form` holds the options if the attribute was given as an object, such as {name = "Material", at_most = 3}. It is
    None if only a name was given.
    """

    name: str
    form: AttributeForm | None = None


@dataclass(frozen=True, slots=True)
class AttributesField(TextsField):
    """A field whose value is a list of attributes. Each is a name, or an object with a name and settings."""

    @property
    def kind(self) -> str:
        """Words that describe a valid value, for errors and help."""
        return f'a list of {self.least} to {self.most} texts, or objects such as {{"name": "Color", "at_most": 3}}'

    def read(self, value: Any, place: str) -> tuple[Attribute, ...]:  # type: ignore[override]
        """Return the attributes. Raises InputError if an attribute with options occurs twice."""
        objects: dict[int, Attribute] = {}
        if isinstance(value, list):
            objects = {
                index: read_attribute(TaskTable(None, f"{place}[{index}]", part))
                for index, part in enumerate(value[: self.most])
                if isinstance(part, Mapping)
            }
            value = [objects[index].name if index in objects else part for index, part in enumerate(value)]
        names = TextsField.read(self, value, place)
        lowered = [name.lower() for name in names]
        for index in objects:
            if lowered.count(lowered[index]) > 1:  # an answer's entries are found by the attribute's name
                message = f"The field {place} has {names[index][:80]!r} twice"
                raise InputError(message, step="give each attribute once", field=place)
        return tuple(objects.get(index, Attribute(name)) for index, name in enumerate(names))


def read_attributes(table: TaskTable, key: str, *, most: int) -> tuple[Attribute, ...]:
    """Return the attributes under a key of a task's file: 1 to `most` texts or tables, all with different names."""
    attributes = tuple(
        read_attribute(part) if isinstance(part, TaskTable) else Attribute(part)
        for part in table.texts_or_tables(key, least=1, most=most, longest=LONGEST_NAME)
    )
    table.require_unique(key, tuple(attribute.name.lower() for attribute in attributes))  # so the model writes them
    return attributes


def read_attribute(table: TaskTable) -> Attribute:
    """Return the attribute that a table describes.

    Raises UsageError if its type needs a package that is not installed.
    """
    reader, keys = (None, ("values",)) if "values" in table else _reader(table)
    table.only("name", "at_most", *keys)
    name = table.text("name", most=LONGEST_NAME)
    at_most = table.number("at_most", least=1, most=MAX_VALUES, default=1)
    return Attribute(name, AttributeForm(at_most, reader, _values(table) if "values" in table else None))


def _reader(table: TaskTable) -> tuple[Reader | None, Sequence[str]]:
    """Return the reader for the attribute's type (such as `number`), and the keys that `table` may have for this type.

    Without a type, the reader is None.
    """
    if "type" not in table:
        return None, ("type", "values")
    kind = table.one_of("type", "number", "date", "quantity")
    if kind == "date":
        date_parser()
        day_first = table.flag("day_first", default=False) if "day_first" in table else None
        return DateReader(day_first), ("type", "day_first")
    decimal: Any = table.one_of("decimal", ".", ",") if "decimal" in table else None
    if kind == "number":
        return NumberReader(decimal), ("type", "decimal")
    units_registry()
    system: Any = table.one_of("system", "us", "imperial") if "system" in table else "us"
    unit = table.text("unit", most=LONGEST_UNIT)
    try:
        unit_of(unit, system)
    except UnreadableError:
        raise table.error("unit", f"is {unit!r}", "write one such as kg, ml, cm, in, GB, W, mAh, °C or %") from None
    return QuantityReader(unit, system, decimal), ("type", "decimal", "unit", "system")


def _values(table: TaskTable) -> ClosedValues:
    """Return an attribute's allowed values. `table` either lists them or names a file that has them."""
    if isinstance(table.value("values"), Mapping):
        of_file = table.table("values", first="file")
        if "shortlist" in of_file:
            raise of_file.error("shortlist", "is for the labels of a choice", "remove it")
        labels = [(label.value, label.text) for label in read_labels(of_file)]
    else:
        labels = [
            (part, part) if isinstance(part, str) else _value(part)
            for part in table.texts_or_tables("values", least=1, most=MAX_LISTED, longest=LONGEST_NAME)
        ]
    ids, texts = zip(*labels, strict=True)
    lowered = tuple(text.lower() for text in texts)
    table.require_unique("values", lowered)
    table.require_unique("values", ids)
    if (misleading := misleading_id(labels)) is not None:
        raise table.error(
            "values", f"has the id {ids[misleading]!r}, which is the text of another value", "give it another id"
        )
    if NONE.value.lower() in (*lowered, *(id_.lower() for id_ in ids)):
        raise table.error("values", f"has {NONE.value!r}, which says that there is no value", "write another word")
    return ClosedValues(Labels(ids, texts), lasting=table.path is not None)


def _value(table: TaskTable) -> tuple[str, str]:
    table.only("id", "value")
    return table.text("id", most=LONGEST_NAME), table.text("value", most=LONGEST_NAME)


def listed_values(attributes: Sequence[Attribute]) -> str | None:
    """Return a text for the prompt that lists the allowed values of each attribute.

    Return None if no attribute has a list of values, or if the lists are too long for a prompt.
    """
    lists = {each.name: each.form.values.labels.texts for each in attributes if each.form and each.form.values}
    if not lists or sum(map(len, lists.values())) > MAX_LISTED:
        return None
    options = json.dumps(lists)
    return options if len(options) <= LONGEST_OPTIONS else None


def extraction(attributes: Sequence[Attribute], sources: Mapping[str, str], fields: Mapping[str, str]) -> Extraction:
    """Return the answer space of an extraction.

    If an attribute has a list of allowed values, its value must be one of them. Otherwise, the value must be part of
    one of the texts in `sources`.

    `sources`: the product's texts by name.
    `fields`: for each source, the name of the row's field that it comes from.
    """
    names = tuple(attribute.name for attribute in attributes)
    forms = {index: attribute.form for index, attribute in enumerate(attributes) if attribute.form}
    if not forms:
        return Extraction(names, sources)
    origins = {
        source: Origin(fields[source], text.pieces if isinstance(text, Joined) else ())
        for source, text in sources.items()
    }
    return Extraction(names, sources, forms, origins)


def attributes_of(space: Space) -> tuple[Attribute, ...]:
    """Return the attributes of an extraction. For any other answer space, return an empty tuple."""
    if not isinstance(space, Extraction):
        return ()
    return tuple(Attribute(name, space.forms.get(index)) for index, name in enumerate(space.attributes))
