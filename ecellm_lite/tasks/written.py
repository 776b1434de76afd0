"""Reads JSON and keeps the spelling of numbers, because a model reads them as text: 19.50 stays "19.50"."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ecellm_lite.strict import refuse_constant, unique_keys

if TYPE_CHECKING:
    from typing_extensions import Self


_SPACE = re.compile(r"[ \t\n\r]*")


class WrittenNumber(float):
    """A JSON number with a decimal point or an exponent. `text` is its spelling."""

    text: str

    def __new__(cls, text: str) -> Self:
        """Return the number that `text` spells."""
        number = super().__new__(cls, text)
        number.text = text
        return number


def read_json(data: str | bytes) -> Any:
    """Parse JSON. A number with a decimal point or an exponent becomes a WrittenNumber, which keeps its spelling.

    Raises the same errors as json.loads.

    >>> read_json('{"price": 19.50}')["price"].text
    '19.50'
    """
    return json.loads(data, parse_float=WrittenNumber)


def read_strict_json(data: str | bytes) -> Any:
    """Return a JSON value as `read_json` does. Also raises ValueError for NaN, infinities and repeated keys."""
    return json.loads(data, parse_float=WrittenNumber, parse_constant=refuse_constant, object_pairs_hook=unique_keys)


def member_text(data: str, name: str) -> str:
    """Return the JSON text of one member of an object, exactly as it is written.

    `data`: the text of an object that has this member. It must be valid JSON.

    >>> member_text('{"id": 1, "body": {"price": 19.50}}', "body")
    '{"price": 19.50}'
    """
    decoder = json.JSONDecoder()
    place = _after_space(data, data.index("{") + 1)
    while True:
        key, place = decoder.raw_decode(data, place)
        start = _after_space(data, _after_space(data, place) + 1)  # after the colon
        _, end = decoder.raw_decode(data, start)
        if key == name:
            return data[start:end]
        place = _after_space(data, _after_space(data, end) + 1)  # after the comma


def as_written(value: Any) -> Any:
    """Return a row as plain JSON values: a WrittenNumber becomes its spelling as text, and NaN becomes None."""
    if isinstance(value, Mapping):
        return {key: as_written(part) for key, part in value.items()}
    if isinstance(value, list):
        return [as_written(part) for part in value]
    if isinstance(value, WrittenNumber) and math.isfinite(value):
        return value.text
    return None if isinstance(value, float) and math.isnan(value) else value


def _after_space(data: str, place: int) -> int:
    space = _SPACE.match(data, place)
    return space.end() if space else place
