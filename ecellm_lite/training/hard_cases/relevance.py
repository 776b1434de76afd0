"""Makes rows of the two tasks with a query and a product: product classification and substitute identification.

The query names some facts of an invented product. The row's product depends on the degree of relevance:

- exact: the invented product itself.
- substitute: a product that differs in its brand or in one of the facts.
- complement: an accessory for the invented product. In half of these rows, it is the other way round: the query asks
  for the accessory, and the row's product is the invented product.
- irrelevant: a product of another kind (attribute `group` of class `Good`).
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
    """Return synthetic rows of multiclass_product_classification.

    Each of the four degrees of relevance is the answer of a quarter of the rows.
    """
    rows = []
    for number in range(count):
        degree = OPTIONS[number % len(OPTIONS)]
        query, title = _pair(degree, random)
        rows.append(_row("multiclass_product_classification", query, title, degree))
    return rows


def substitute_rows(count: int, random: Random) -> list[Row]:
    """Return synthetic rows of product_substitute_identification. The answer is "yes" in half of them."""
    rows = []
    for number in range(count):
        degree = random.choice((EXACT, COMPLEMENT, IRRELEVANT)) if number % 2 else SUBSTITUTE
        query, title = _pair(degree, random)
        rows.append(_row("product_substitute_identification", query, title, "no" if number % 2 else "yes"))
    return rows


def _pair(degree: str, random: Random) -> tuple[str, str]:
    """Return a query and a product title. `degree`, one of OPTIONS, says how relevant the product is to the query."""
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
