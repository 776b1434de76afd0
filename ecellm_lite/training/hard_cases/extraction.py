"""Makes rows of attribute_value_extraction about invented products. The attributes vary in their names and order.

A row asks for some attributes that its texts state, and perhaps for some that its texts do not state. An attribute is
stated in the title, in a sentence of the description, or as a feature. A few products have two colours, flavours or
scents: then the attribute has two values.
"""

from __future__ import annotations

import json
from random import Random
from typing import Any

from ecellm_lite.training.attribute_names import NAMES
from ecellm_lite.training.hard_cases.goods import Good, draw_good
from ecellm_lite.training.hard_cases.leftovers import with_leftovers
from ecellm_lite.training.rows import Row
from ecellm_lite.training.variation import holds

_NONE = "None"
_TWO = ("color", "flavor", "scent")  # facts of which a good may have two
_CLAIMS = {
    "feature": ("{name}: {value}", "{name} {value}", "{value}"),
    "description": ("{name}: {value}.", "The {name} is {value}.", "It comes with {name} {value}."),
}
_FILLERS = {
    "feature": ("easy to store", "great as a gift", "made with care", "see the photos", "new design", "ships fast"),
    "description": (
        "You will use it every day.",
        "Customers come back for more.",
        "Please read the label before use.",
        "It is new in our range.",
        "Ask us if you have a question.",
    ),
}


def extraction_rows(count: int, random: Random) -> list[Row]:
    """Return `count` made-up rows of attribute_value_extraction."""
    return [_row(random) for _ in range(count)]


def _row(random: Random) -> Row:
    good = draw_good(random)
    moved = random.choice(list(good.facts)) if random.random() < 0.3 else None
    unbranded = random.random() < 0.1
    pair = _second_value(good, moved, random)
    shown = Good(good.group, good.brand, good.noun, good.accessory, {**good.facts, **_joined(good, pair, random)})
    without = [key for key in (moved, "brand" if unbranded else None) if key]
    fields: dict[str, Any] = {"title": shown.title(random, without=without)}
    values = {key: [(value, "title")] for key, value in good.facts.items() if key != moved}
    values["type"] = [(good.noun, "title")]
    if not unbranded:
        values["brand"] = [(good.brand, "title")]
    if pair:
        values[pair[0]].append((pair[1], "title"))
    keys = _asked(values, moved, random)
    names = {key: random.choice(_own_names(key, {*keys, *values, *([moved] if moved else [])})) for key in keys}
    if random.random() < 0.5 or moved:
        fields |= {field: [] for field in ("description", "feature")}
        for field, texts in _FILLERS.items():
            fields[field] = random.sample(texts, random.randint(0, 2))
    if moved:
        field = random.choice(list(_CLAIMS))
        claim = random.choice(_CLAIMS[field]).format(name=random.choice(NAMES[moved]).lower(), value=good.facts[moved])
        fields[field].insert(random.randint(0, len(fields[field])), claim[0].upper() + claim[1:])
        values[moved] = [(good.facts[moved], field)]
    fields = {name: text for name, text in fields.items() if text}
    entries = [entry for key in keys for entry in _entries(names[key], values.get(key, []))]
    if random.random() < 0.15:
        fields = _with_leftovers(fields, entries, random)
    if random.random() < 0.2:
        fields["title"] = fields["title"].lower()
    attributes = list(names.values())
    return {
        "id": None,
        "task": "attribute_value_extraction",
        "input": {**fields, "attributes": attributes},
        "output": json.dumps(entries),
    }


def _second_value(good: Good, moved: str | None, random: Random) -> tuple[str, str] | None:
    """Return an attribute's key and a second value for the attribute. In most calls, at random, return None instead.

    `moved`: the attribute that is stated in another field than the title, or None. It never gets a second value.
    """
    keys = [key for key in _TWO if key in good.facts and key != moved]
    if not keys or random.random() < 0.6:
        return None
    other = good.changed(keys[0], random).facts[keys[0]]
    overlap = holds(other, good.facts[keys[0]]) or holds(good.facts[keys[0]], other)
    return None if overlap else (keys[0], other)


def _joined(good: Good, pair: tuple[str, str] | None, random: Random) -> dict[str, str]:
    if pair is None:
        return {}
    key, other = pair
    return {key: f"{good.facts[key]}{random.choice((' and ', ' & ', '/', ' / '))}{other}"}


def _asked(values: dict[str, Any], moved: str | None, random: Random) -> list[str]:
    """Return the keys of the attributes that the row asks for, in random order. The product may lack some of them.

    `values`: the attributes in the title, by key. `moved`: an attribute that is stated in another field, or None.
    """
    known = [*values, *([moved] if moved else [])]
    asked = random.sample(known, min(len(known), random.randint(1, 3)))
    absent = [key for key in NAMES if key not in known and not _alike(key, known)]
    for key in random.sample(absent, random.choice((0, 0, 1, 1, 2))):
        if not _alike(key, asked):
            asked.append(key)
    return random.sample(asked, len(asked))


def _alike(key: str, known: list[str]) -> bool:
    """Return whether the attribute `key` shares a name with an attribute in `known`. An attribute has several names."""
    return any(set(NAMES[key]) & set(NAMES[other]) for other in known)


def _own_names(key: str, keys: set[str]) -> list[str]:
    """Return those names of the attribute `key` that are not also names of another attribute in `keys`."""
    others = {name for other in keys - {key} for name in NAMES[other]}
    return [name for name in NAMES[key] if name not in others]


def _entries(name: str, values: list[tuple[str, str]]) -> list[dict[str, str]]:
    if not values:
        return [{"attribute": name.lower(), "value": _NONE, "source": _NONE}]
    return [
        {"attribute": name.lower(), "value": value.lower(), "source": f"product {field}"} for value, field in values
    ]


def _with_leftovers(fields: dict[str, Any], entries: list[dict[str, str]], random: Random) -> dict[str, Any]:
    """Add remains of HTML, such as `<br>`, to the texts. If a value would no longer be in its text, change nothing."""
    changed = {
        name: [with_leftovers(one, random) for one in text] if isinstance(text, list) else with_leftovers(text, random)
        for name, text in fields.items()
    }
    for entry in entries:
        text = changed.get(entry["source"].removeprefix("product "), "")
        if entry["value"] != _NONE and not holds(text if isinstance(text, str) else " ".join(text), entry["value"]):
            return fields
    return changed
