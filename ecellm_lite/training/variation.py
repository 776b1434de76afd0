"""Changes details of a labelled row that should not matter, such as the order of products.

The model then learns to ignore such details.

`varied` takes a row's fields and its answer, and returns them with random changes. Each training pass over the rows
gets different changes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from random import Random
from string import ascii_uppercase
from typing import Any

from ecellm_lite.training.attribute_names import other_name

Fields = Mapping[str, Any]
Varied = tuple[Fields, str]


def varied(task: str, fields: Fields, answer: str, random: Random) -> Varied:
    """Change what should not matter in a row, such as the order of the attributes to extract.

    The answer is changed to match. If the task has no such details, the row is returned unchanged.
    """
    change = _CHANGES.get(task)
    return change(fields, answer, random) if change else (fields, answer)


def reordered(task: str, fields: Fields) -> Fields:
    """Sort the lists whose order `varied` may change, and return the fields.

    If `varied` may swap two products, they are sorted too.

    Rows that differ only in such an order have the same result. Use the result only to compare rows: a row's answer may
    not fit the new order.
    """
    if _CHANGES.get(task) is _swapped:
        first, second = sorted((fields["product_1"], fields["product_2"]), key=_json)
        return {"product_1": first, "product_2": second}
    return {
        name: sorted(value, key=_json) if name in _ORDERLESS and isinstance(value, list) else value
        for name, value in fields.items()
    }


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _swapped(fields: Fields, answer: str, random: Random) -> Varied:
    """Swap the two products half of the time. The answer stays correct: if A is similar to B, B is similar to A."""
    if random.random() < 0.5:
        return fields, answer
    return {"product_1": fields["product_2"], "product_2": fields["product_1"]}, answer


def _attributes(fields: Fields, answer: str, random: Random) -> Varied:
    """Shuffle the attributes and rename some of them. Sometimes, also move the end of the title to a new field.

    The end is moved only if the title is the product's only text, and then at most half of the time. The answer is
    changed to match: it gets the new order and the new names. If a value has moved to the new field, that field becomes
    its source.
    """
    attributes = random.sample(fields["attributes"], len(fields["attributes"]))
    attributes, answer = _renamed(attributes, answer, random)
    place = {_name(attribute).lower(): number for number, attribute in enumerate(attributes)}
    entries = sorted(json.loads(answer), key=lambda entry: place.get(entry["attribute"], len(place)))
    fields = {**fields, "attributes": attributes}
    if only_titled(fields) and random.random() < 0.5:
        fields, entries = _spread(fields, entries, random)
    return fields, json.dumps(entries)


def _name(attribute: Any) -> str:
    return str(attribute["name"] if isinstance(attribute, Mapping) else attribute)


def _renamed(attributes: Sequence[Any], answer: str, random: Random) -> tuple[list[Any], str]:
    """Rename about a third of the attributes, in the list and in the answer. "Color" may become "Colour"."""
    names = {
        name: other_name(name, [_name(other) for other in attributes if other != name], random)
        for name in attributes
        if isinstance(name, str) and random.random() < 1 / 3
    }
    lowered = {name.lower(): other.lower() for name, other in names.items()}
    entries = json.loads(answer)
    for entry in entries:  # their names are in lower case, as a model writes them
        name = entry["attribute"].lower()
        entry["attribute"] = lowered.get(name, name)
    renamed = [names.get(name, name) if isinstance(name, str) else name for name in attributes]
    return renamed, json.dumps(entries)


def _spread(fields: Fields, entries: Sequence[dict[str, str]], random: Random) -> tuple[Fields, list[dict[str, str]]]:
    """Cut a title in two and move its end to another field. Nothing is moved if the cut would divide a value."""
    words = fields["title"].split(" ")
    if len(words) < 2 * LEAST_WORDS or not all(isinstance(entry["value"], str) for entry in entries):
        return fields, list(entries)
    cut = random.randint(LEAST_WORDS, len(words) - LEAST_WORDS)
    begin, end = " ".join(words[:cut]), " ".join(words[cut:])
    field = random.choice(["description", "feature"])
    spread = []
    for entry in entries:
        source = entry["source"]
        if source == "product title" and not holds(begin, entry["value"]):
            if not holds(end, entry["value"]):
                return fields, list(entries)  # the cut goes through a value
            source = f"product {field}"
        spread.append({**entry, "source": source})
    return {**fields, "title": begin, field: [end], **perhaps_a_price(random)}, spread


def only_titled(fields: Fields) -> bool:
    """Return whether the product has only a title, and no other text.

    If the title is a list of texts, return False.
    """
    return set(fields) == {"title", "attributes"} and isinstance(fields["title"], str)


def holds(text: str, value: str) -> bool:
    """Return whether a text contains a value as whole words: "for men" contains `men`, but "women" does not."""
    return re.search(rf"(?<!\w){re.escape(value.lower())}(?!\w)", text.lower()) is not None


def perhaps_a_price(random: Random) -> dict[str, str]:
    """Return a made-up field `price` half of the time, and otherwise an empty dictionary."""
    if random.random() < 0.5:
        return {}
    return {"price": f"${random.randint(3, 180)}.{random.choice(['00', '49', '99'])}"}


def _candidates(fields: Fields, answer: str, random: Random) -> Varied:
    """Shuffle the candidates for the next purchase. Sometimes, also cut off the end of the purchase history.

    The first purchase that was cut off is then the correct answer. It replaces the old correct answer among the
    candidates.
    """
    history, candidates = list(fields["history"]), list(fields["candidates"])
    gold = ascii_uppercase.index(answer)
    if len(history) >= SHORTEST_HISTORY and random.random() < 0.5:
        end = random.randrange(SHORTEST_HISTORY - 1, len(history))
        if history[end] not in candidates and history[end] not in history[:end]:
            candidates[gold] = history[end]
            history = history[:end]
    order = _order(candidates, random)
    return {"history": history, "candidates": [candidates[place] for place in order]}, ascii_uppercase[
        order.index(gold)
    ]


def _products(fields: Fields, answer: str, random: Random) -> Varied:
    """Shuffle the products, and change the letters in the ranking to match.

    If all products but the best have the same order in the ranking as in the row, they are probably equally good. Then
    only the best product moves, and the others keep their order.
    """
    products, (best, *others) = fields["products"], [ascii_uppercase.index(letter) for letter in answer.split(",")]
    if others == sorted(others):
        order = list(others)
        order.insert(random.randint(0, len(order)), best)
    else:
        order = _order(products, random)
    ranking = ",".join(ascii_uppercase[order.index(place)] for place in (best, *others))
    return {**fields, "products": [products[place] for place in order]}, ranking


def _order(items: Sequence[Any], random: Random) -> list[int]:
    return random.sample(range(len(items)), len(items))


SHORTEST_HISTORY = 4
LEAST_WORDS = 3  # of a field that a title is cut into

_ORDERLESS = frozenset(("attributes", "candidates", "products"))  # lists whose order means nothing

_CHANGES: Mapping[str, Callable[[Fields, str, Random], Varied]] = {
    "product_matching": _swapped,
    "product_relation_prediction": _swapped,
    "attribute_value_extraction": _attributes,
    "sequential_recommendation": _candidates,
    "query_product_ranking": _products,
}
