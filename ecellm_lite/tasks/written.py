"""Reads JSON and keeps the spelling of numbers, because a model reads them as text: 19.50 stays "19.50"."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ecellm_lite.strict import refuse_constant, unique_keys

if TYPE_CHECKING:
    from typing_extensions import Self


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


def written_json(value: Any, default: Callable[[Any], Any] | None = None) -> str:
    """Return a value as JSON. A WrittenNumber keeps its spelling: 19.50 does not become 19.5.

    `default`: returns a JSON value for a value that JSON does not have, such as a date.
    """
    if isinstance(value, Mapping):
        pairs = (f"{written_json(str(key))}: {written_json(part, default)}" for key, part in value.items())
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(written_json(part, default) for part in value)}]"
    return value.text if isinstance(value, WrittenNumber) else json.dumps(value, ensure_ascii=False, default=default)


def as_written(value: Any) -> Any:
    """Return a row's fields as plain JSON values. The task must have checked the fields before.

    A WrittenNumber becomes its spelling as text. A value that JSON does not have, such as NaN, becomes None. This
    changes no answer, because tasks do not use such values.
    """
    if isinstance(value, Mapping):
        return {str(key): as_written(part) for key, part in value.items()}
    if isinstance(value, list):
        return [as_written(part) for part in value]
    if isinstance(value, float):
        return (value.text if isinstance(value, WrittenNumber) else value) if math.isfinite(value) else None
    return value if isinstance(value, str | int) else None
