"""Tests that plain data is accepted only if it fits a dataclass exactly, and that errors name the wrong part."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecellm_lite.strict import decode
from ecellm_lite.tasks.written import read_strict_json


@dataclass(frozen=True, slots=True)
class Item:
    name: str
    share: float
    score: float | list[int]


@dataclass(frozen=True, slots=True)
class Order:
    number: int
    items: list[Item]
    prices: dict[str, float]
    paid: bool
    first: Item | None
    note: str | None = None


ITEMS = st.builds(
    Item,
    st.text(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(0, 1) | st.lists(st.integers(), max_size=3),
)
ORDERS = st.builds(
    Order,
    st.integers(),
    st.lists(ITEMS, max_size=3),
    st.dictionaries(st.text(), st.floats(-9, 9), max_size=3),
    st.booleans(),
    ITEMS | st.none(),
    st.text() | st.none(),
)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)
GOOD: dict[str, Any] = asdict(Order(1, [Item("a", 0.5, 1.0)], {"a": 2.0}, True, None))


@given(ORDERS)
def test_a_dataclass_survives_a_round_trip(order: Order) -> None:
    assert decode(Order, json.loads(json.dumps(asdict(order)))) == order


@given(st.sampled_from(sorted(GOOD)), PLAIN)
def test_any_json_fits_the_form_or_is_refused(key: str, value: Any) -> None:
    refusal = None
    try:
        order = decode(Order, {**GOOD, key: value})
    except ValueError as error:
        refusal = str(error)
    if refusal is None:
        assert asdict(order)[key] == value
    else:
        assert refusal.startswith(f"it.{key}")
        assert len(refusal) < 200


def test_only_fields_with_a_default_may_be_missing() -> None:
    for key in GOOD:
        without = {name: value for name, value in GOOD.items() if name != key}
        if key == "note":
            assert decode(Order, without) == decode(Order, GOOD)
        else:
            with pytest.raises(ValueError, match=rf"\b{key}\b"):
                decode(Order, without)


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"number": True}, "it.number"),
        ({"number": 1.0}, "it.number"),
        ({"paid": 1}, "it.paid"),
        ({"items": {}}, "it.items"),
        ({"items": [{"name": "a", "share": "x", "score": 1}]}, r"it.items\[0\].share"),
        ({"items": [{"name": "a", "share": 1, "score": [1.5]}]}, r"it.items\[0\].score\[0\]"),
        ({"prices": {"a": 10**400}}, "it.prices.a"),
        ({"prices": {"a": float("nan")}}, "it.prices.a"),
        ({"first": 3}, "it.first"),
        ({"x" * 60: 1}, f"'{'x' * 40}'"),
    ],
)
def test_errors_name_the_place(change: dict[str, Any], place: str) -> None:
    with pytest.raises(ValueError, match=place):
        decode(Order, {**GOOD, **change})


def test_a_number_that_keeps_its_spelling_is_a_number() -> None:
    price = read_strict_json('{"price": 2.50}')["price"]
    assert decode(Order, {**GOOD, "prices": {"a": price}}).prices["a"] == 2.5
    with pytest.raises(ValueError, match="a number"):
        decode(Order, {**GOOD, "first": price})


def test_an_integer_is_taken_as_a_float() -> None:
    price = decode(Order, {**GOOD, "prices": {"a": 2}}).prices["a"]
    assert (type(price), price) == (float, 2.0)
