"""Makes rows of the two query-product tasks: exact, substitute, complement and irrelevant by rule.

The query names some facts of an invented good. The good itself is exact. A good that differs in one of these facts, or
in its brand, is a substitute. An accessory for the good, or the good itself if the query asks for the accessory, is a
complement. A good of another group is irrelevant.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random

from ecellm_lite.tasks.multiclass_product_classification import OPTIONS
from ecellm_lite.training.hard_cases.goods import Good, draw_brand, draw_good
from ecellm_lite.training.rows import Row

EXACT, SUBSTITUTE, COMPLEMENT, IRRELEVANT = OPTIONS
_UNASKED = ("pack", "count")  # facts that few queries name


def relevance_rows(count: int, random: Random) -> list[Row]:
    """Return made rows of multiclass_product_classification, a quarter of each degree."""
    rows = []
    for number in range(count):
        degree = OPTIONS[number % len(OPTIONS)]
        query, title = _pair(degree, random)
        rows.append(_row("multiclass_product_classification", query, title, degree))
    return rows


def substitute_rows(count: int, random: Random) -> list[Row]:
    """Return made rows of product_substitute_identification, half of them with the answer yes."""
    rows = []
    for number in range(count):
        degree = random.choice((EXACT, COMPLEMENT, IRRELEVANT)) if number % 2 else SUBSTITUTE
        query, title = _pair(degree, random)
        rows.append(_row("product_substitute_identification", query, title, "no" if number % 2 else "yes"))
    return rows


def _pair(degree: str, random: Random) -> tuple[str, str]:
    """Return a query and a product title of this degree of relevance."""
    good = draw_good(random, most=5)
    askable = [key for key in good.facts if key not in _UNASKED]
    keys = random.sample(askable, min(len(askable), random.choice((0, 1, 1, 2))))
    branded = random.random() < 0.4 or not keys
    if degree == COMPLEMENT:
        accessory = f"{good.accessory} for {_query(good, keys[:1], random, branded=branded)}"
        title = good.title(random)
        if random.random() < 0.5:
            return _query(good, keys[:1], random, branded=branded), f"{good.accessory} for {title}"
        return accessory.lower(), title
    query = _query(good, keys, random, branded=branded)
    if degree == EXACT:
        return query, good.title(random)
    if degree == IRRELEVANT:
        other = draw_good(random)
        while other.group == good.group:
            other = draw_good(random)
        return query, other.title(random)
    if keys and (not branded or random.random() < 0.6):
        return query, good.changed(random.choice(keys), random).title(random)
    return query, replace(good, brand=_another_brand(good.brand, random)).title(random)


def _query(good: Good, keys: list[str], random: Random, *, branded: bool) -> str:
    words = [good.noun, *(good.facts[key] for key in keys)]
    random.shuffle(words)
    if branded:
        words.insert(random.choice((0, 0, len(words))), good.brand)
    return " ".join(words).lower()


def _another_brand(brand: str, random: Random) -> str:
    other = draw_brand(random)
    while other == brand:
        other = draw_brand(random)
    return other


def _row(task: str, query: str, title: str, answer: str) -> Row:
    return {"id": None, "task": task, "input": {"query": query, "title": title}, "output": answer}
