"""Makes the entries of an extraction's value. An entry is one attribute with its value, as a dict.

The value is what the model wrote or, if the attribute has a list of allowed values, the spelling in this list. The
attribute's list or type adds further keys, such as the value's id, or the value as a number.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ecellm_lite.answers.answer import AnswerWarning
from ecellm_lite.answers.attribute_forms import AttributeForm
from ecellm_lite.answers.numbers import UnreadableError
from ecellm_lite.answers.places import Origin
from ecellm_lite.answers.spans import NONE, SourceText, Span


def plain_entry(
    attribute: str, span: Span, text: SourceText | None, origin: Origin, probability: float | None
) -> dict[str, Any]:
    """Return an attribute's entry with the keys that every entry has.

    The keys are `attribute`, `value`, `source`, `probability` and `written`. The model writes the value in lower case,
    and `written` is the value as the row writes it.

    `span` was found in `text`, and `origin` is the field of the row that `text` comes from.
    """
    has_value = span != NONE
    return {
        "attribute": attribute,
        "value": span.value if has_value else None,
        "source": span.source if has_value and span.source != NONE.source else None,
        "probability": probability,
        "written": _place(span, text, origin)[0],
    }


def add_form(
    entry: dict[str, Any], form: AttributeForm, span: Span, text: SourceText | None, origin: Origin
) -> list[AnswerWarning]:
    """Add keys to the entry of an attribute with a form: the value's `place` in the row, and what the form asks for.

    If `form` has a list of values, the entry gets the listed value and its `id`. If `form` has a type, such as a
    number, the entry gets the value in this type as `normalized`. If the value cannot be read, `normalized` is None,
    and a warning is returned.

    `span` was found in `text`, and `origin` is the field of the row that `text` comes from.
    """
    if form.values:
        index = form.values.by_text.get(span.value.lower()) if span != NONE else None
        entry["value"] = entry["value"] if index is None else form.values.labels.texts[index]
        entry["id"] = None if index is None else form.values.labels.keys[index]
    entry["place"] = _place(span, text, origin)[1]
    if form.reader is None:
        return []
    entry["normalized"] = None
    if entry["value"] is None:
        return []
    written = entry["written"] or entry["value"]
    try:
        entry["normalized"] = form.reader.read(written)
    except UnreadableError as error:
        message = f"{entry['attribute']}: {written[:80]!r} was not read as {form.reader.description}: {error}."
        return [AnswerWarning("value_not_read", message)]
    return []


def _place(span: Span, text: SourceText | None, origin: Origin) -> tuple[str | None, dict[str, Any] | None]:
    """Return a value as it is written in the row, and its first place in the row's field.

    The place is a dict with the keys `field`, `item`, `start` and `end`. Both results are None if `text` does not
    contain the value. If the field is a list and the value extends over several of its texts, only the place is None.
    """
    places = list(text.places(span.value.lower())) if text and span != NONE else []
    if not text or not places:
        return None, None
    for start, end in places:
        if place := origin.place(start, end):
            return text.original[start:end], place
    return text.original[slice(*places[0])], None


def typed_text(entry: Mapping[str, Any]) -> str | None:
    """Return an entry's typed value or id as text, such as `= 9.07185 kg`, or None if the entry has neither."""
    typed = entry.get("normalized")
    if isinstance(typed, Mapping):
        ends = dict.fromkeys((f"{typed['least']:.6g}", f"{typed['most']:.6g}"))
        return f"= {' to '.join(ends)} {typed['unit']}"
    if typed is not None:
        return f"= {typed}"
    id_ = entry.get("id")
    return None if id_ in (None, entry["value"]) else f"id {id_}"
