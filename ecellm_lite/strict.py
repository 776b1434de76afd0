"""Decodes plain data from a file into dataclasses, strictly: unknown keys and values of a wrong type are refused.

`unique_keys` and `refuse_constant` make the json module strict.

A key may be missing if its field has a default. A field of type Any accepts any JSON that is nested at most DEEPEST
levels deep.
"""

from __future__ import annotations

import math
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, NoReturn, TypeVar, Union, cast, get_args, get_origin, get_type_hints

Data = TypeVar("Data")

DEEPEST = 32


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object as a dict. Raises ValueError for a repeated key.

    This is an `object_pairs_hook` for the json module.
    """
    value: dict[str, Any] = {}
    for key, part in pairs:
        if key in value:
            raise ValueError(f"the key {key[:80]!r} occurs twice")
        value[key] = part
    return value


def refuse_constant(name: str) -> NoReturn:
    """Raise ValueError, because NaN and infinities are not JSON.

    This is a `parse_constant` for the json module.
    """
    raise ValueError(f"{name} is not a JSON number")


def decode(form: type[Data], value: Any, place: str = "it") -> Data:
    """Return a value decoded into a dataclass. Raises ValueError that says which part of the value is wrong.

    `place`: how the error message names the whole value.
    """
    return cast("Data", _decode(form, value, place))


def _decode(form: Any, value: Any, place: str) -> Any:
    if is_dataclass(form):
        return _object(form, value, place)
    if get_origin(form) in (UnionType, Union):
        return _one_of(get_args(form), value, place)
    if get_origin(form) is list and isinstance(value, list):
        [item] = get_args(form)
        return [_decode(item, part, f"{place}[{index}]") for index, part in enumerate(value)]
    if get_origin(form) is tuple and isinstance(value, list):
        item, _ = get_args(form)  # tuple[item, ...]
        return tuple(_decode(item, part, f"{place}[{index}]") for index, part in enumerate(value))
    if form is Any:
        return _shallow(value, place, DEEPEST)
    if get_origin(form) is dict and isinstance(value, dict):
        item = get_args(form)[1]
        return {key: _decode(item, part, f"{place}.{key[:40]}") for key, part in value.items()}
    if form is float and isinstance(value, int | float) and not isinstance(value, bool):
        return _finite(value, place)
    if isinstance(form, type) and type(value) is form:
        return value
    raise ValueError(f"{place} is {_kind(value)}")


def _object(form: Any, value: Any, place: str) -> Any:
    if not isinstance(value, dict):
        raise ValueError(f"{place} is {_kind(value)}, not an object")
    hints = _hints(form)
    names = [field.name for field in fields(form)]
    needed = [field.name for field in fields(form) if field.default is MISSING and field.default_factory is MISSING]
    if missing := [name for name in needed if name not in value]:
        raise ValueError(f"{place} has no {missing[0]}")
    if unknown := [key for key in value if key not in names]:
        raise ValueError(f"{place} has the unknown key {unknown[0][:40]!r}")
    return form(**{name: _decode(hints[name], value[name], f"{place}.{name}") for name in names if name in value})


def _one_of(forms: tuple[Any, ...], value: Any, place: str) -> Any:
    if value is None and NoneType in forms:
        return None
    others = [form for form in forms if form is not NoneType]
    for form in others[:-1]:
        try:
            return _decode(form, value, place)
        except ValueError:
            continue
    return _decode(others[-1], value, place)


def _shallow(value: Any, place: str, deepest: int) -> Any:
    if isinstance(value, (dict, list)):
        if not deepest:
            raise ValueError(f"{place} is nested more than {DEEPEST} deep")
        for inner in value.values() if isinstance(value, dict) else value:
            _shallow(inner, place, deepest - 1)
    return value


def _finite(value: float, place: str) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"{place} is not a finite number")
    return number


def _kind(value: Any) -> str:
    """Return what JSON calls a value of this type, such as "an object"."""
    kinds: dict[Any, str] = {NoneType: "null", bool: "true or false", str: "a text", dict: "an object", list: "a list"}
    return kinds.get(type(value), "a number")


@cache
def _hints(form: Any) -> dict[str, Any]:
    return get_type_hints(form)
