"""Rows of this project's own making, where the data has few: queries made from the titles of other rows' products.

A query is some of a title's words, as a customer would type them. The product that it was made from fits it wholly,
products that share no word with it do not fit at all: what lies between, only judged rows can teach.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from random import Random
from string import ascii_uppercase

from ecellm_lite.demo.training.rows import Row
from ecellm_lite.tasks.multiclass_product_classification import OPTIONS

_WORD = re.compile(r"[A-Za-z][A-Za-z'-]{2,}")
_WORDS = (2, 4)  # of a query
_PRODUCTS = (3, 4)  # of a list that is ranked
EXACT, IRRELEVANT = OPTIONS[0], OPTIONS[3]


def titles_of(rows: Iterable[Row]) -> list[str]:
    """Return the products' titles in labelled rows, each once, in their order."""
    found: dict[str, None] = {}
    for row in rows:
        fields = row["input"]
        for title in [
            fields.get("title"),
            *(
                product["title"]
                for product in (fields.get("product_1"), fields.get("product_2"))
                if _is_record(product)
            ),
        ]:
            if isinstance(title, str) and len(_WORD.findall(title)) >= _WORDS[0]:
                found[title] = None
    return list(found)


def ranking_rows(titles: Sequence[str], count: int, random: Random) -> list[Row]:
    """Return made rows of query_product_ranking: the query's own product first, then by the words they share.

    Fewer titles than a list has products make none.
    """
    rows: list[Row] = []
    for _ in range(count if len(titles) >= _PRODUCTS[1] else 0):
        title = random.choice(titles)
        query = _query(title, random)
        others = [other for other in random.sample(titles, random.randint(*_PRODUCTS) - 1) if other != title]
        products = random.sample([title, *others], len(others) + 1)
        # The sort is stable, so equal ones keep the list's order, as the weak labels of the data do.
        best = sorted(products, key=lambda product: (product != title, -_shared(query, product)))
        answer = ",".join(ascii_uppercase[products.index(product)] for product in best)
        rows.append(_row("query_product_ranking", {"query": query, "products": products}, answer))
    return rows


def classification_rows(titles: Sequence[str], count: int, random: Random) -> list[Row]:
    """Return made rows of multiclass_product_classification: exact ones and irrelevant ones, half and half.

    Titles of which hardly two have no word in common make fewer, or none.
    """
    rows: list[Row] = []
    for _ in range(100 * count if len(titles) > 1 else 0):
        if len(rows) == count:
            break
        title, other = random.sample(titles, 2)
        query = _query(title, random)
        if len(rows) % 2 and _shared(query, other):
            continue
        shown, answer = (other, IRRELEVANT) if len(rows) % 2 else (title, EXACT)
        rows.append(_row("multiclass_product_classification", {"query": query, "title": shown}, answer))
    return rows


def _query(title: str, random: Random) -> str:
    words = _WORD.findall(title)[:10]  # what a thing is stands at a title's beginning
    taken = sorted(random.sample(range(len(words)), min(len(words), random.randint(*_WORDS))))
    return " ".join(words[place].lower() for place in taken)


def _shared(query: str, title: str) -> int:
    return len({*query.split()} & {word.lower() for word in _WORD.findall(title)})


def _is_record(product: object) -> bool:
    return isinstance(product, Mapping) and "title" in product


def _row(task: str, fields: Row, answer: str) -> Row:
    return {"id": None, "task": task, "input": fields, "output": answer}
