"""Finds keys of a row that are probably misspelt names of fields.

A row may have any other keys, such as an id, notes or a table's other columns. A key is reported only if it is similar
to the name of a field that the row lacks: `prise` where there is no `price`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from itertools import islice
from typing import Any

from ecellm_lite.answers.answer import AnswerWarning
from ecellm_lite.tasks.fields import Field, encodable

# Higher than for hints in errors: `price_old` and `image_path` are not meant to be `price` and `image_caption`.
_LEAST_ALIKE = 0.8

# How many other keys of an object, and how many objects of a list, are searched. A row of 16 MiB may have a million.
_MOST_KEYS = 100
_MOST_ITEMS = 100

_MOST_NAMED = 5


def misspelt_keys(fields: Sequence[Field], row: Mapping[str, Any]) -> dict[str, str]:
    """Return the keys of a row that are probably misspelt, each with the name of the field that was probably meant.

    Objects inside the row are not searched. Upper and lower case do not count as a difference.
    """
    missing = [field.name for field in fields if field.name not in row]
    if not missing:
        return {}
    names = {"id", *(field.name for field in fields)}
    unknown = (key for key in row if isinstance(key, str) and key not in names)
    keys = {key.casefold(): key for key in islice(unknown, _MOST_KEYS)}
    if not keys:
        return {}
    near = ((name, get_close_matches(name.casefold(), keys, n=1, cutoff=_LEAST_ALIKE)) for name in missing)
    return {keys[matches[0]]: name for name, matches in near if matches}


def unknown_field_warnings(fields: Sequence[Field], row: Mapping[str, Any]) -> tuple[AnswerWarning, ...]:
    """Return a warning that names the row's keys that are probably misspelt, including keys of objects inside the row.

    The result is empty if no key is misspelt. The row must be valid for `fields`.
    """
    misspelt = [
        f"{encodable(place)} (it has {name})" for place, name in islice(_misspelt(fields, row, ""), _MOST_NAMED + 1)
    ]
    if not misspelt:
        return ()
    listed = ", ".join(misspelt[:_MOST_NAMED]) + (", …" if len(misspelt) > _MOST_NAMED else "")
    return (AnswerWarning("unknown_field", f"Not read, because the task has no such field: {listed}."),)


def _misspelt(fields: Sequence[Field], row: Mapping[str, Any], place: str) -> Iterator[tuple[str, str]]:
    """Yield the place of each misspelt key, such as `product_1.prise`, and the name of the field, such as `price`."""
    for key, name in misspelt_keys(fields, row).items():
        yield f"{place}{key}", name
    for field in fields:
        inner = getattr(field, "fields", ())
        value = row.get(field.name) if inner else None
        if isinstance(value, Mapping):
            yield from _misspelt(inner, value, f"{place}{field.name}.")
        elif isinstance(value, list):
            for index, item in enumerate(value[:_MOST_ITEMS]):
                if isinstance(item, Mapping):
                    yield from _misspelt(inner, item, f"{place}{field.name}[{index}].")
