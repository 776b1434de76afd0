"""Rows of this project's own making, where the data has few, or too little to tell right from wrong by.

A query is some of a title's words, as a customer would type them. The product that it was made from fits it wholly,
products that share no word with it do not fit at all: what lies between, only judged rows can teach. A purchase history
of the data gets other items to choose from, and often fewer: which letter belongs to the item that fits is easier to
learn from short lists.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from random import Random
from string import ascii_uppercase

from ecellm_lite.tasks.multiclass_product_classification import OPTIONS
from ecellm_lite.training.rows import Row
from ecellm_lite.training.variation import SHORTEST_HISTORY

_WORD = re.compile(r"[A-Za-z][A-Za-z'-]{2,}")
_WORDS = (2, 4)  # of a query
_PRODUCTS = (2, 2, 3, 4)  # of a list that is ranked
_CANDIDATES = (2, 3, 4, 6, 10, 20)  # to choose the next item from
_ITEMS = ("history", "candidates")
EXACT, IRRELEVANT = OPTIONS[0], OPTIONS[3]


def titles_of(rows: Iterable[Row]) -> list[str]:
    """Return the products' titles in labelled rows, each once, in their order."""
    found: dict[str, None] = {}
    for row in rows:
        fields = row["input"]
        for title in [
            fields.get("title"),
            *fields.get("products", []),
            *(
                product["title"]
                for product in (fields.get("product_1"), fields.get("product_2"))
                if _is_record(product)
            ),
        ]:
            if isinstance(title, str) and len(_WORD.findall(title)) >= _WORDS[0]:
                found[title] = None
    return list(found)


def ranking_rows(rows: Sequence[Row], titles: Sequence[str], count: int, random: Random) -> list[Row]:
    """Return made rows of query_product_ranking: a query's best product among strangers, which follow in their order.

    Half of the queries are those of the task's labelled `rows`, with products of these rows, so that nothing but what
    they say tells the best one from the strangers; the others are made from a title. Fewer titles than a list has
    products make none.
    """
    made: list[Row] = []
    listed = titles_of(rows)
    for _ in range(100 * count if len(titles) >= max(_PRODUCTS) else 0):
        if len(made) == count:
            break
        if len(listed) >= max(_PRODUCTS) and random.random() < 0.5:
            fields, answer = (row := random.choice(rows))["input"], row["output"]
            query, best = fields["query"], fields["products"][ascii_uppercase.index(answer[0])]
            others: Sequence[str] = listed
        else:
            best, others = random.choice(titles), titles
            query = _query(best, random)
        strangers = [
            title
            for title in random.sample(others, random.choice(_PRODUCTS) - 1)
            if title != best and not _words_of(query) <= _words_of(title)
        ]
        place = random.randint(0, len(strangers))
        products = [*strangers[:place], best, *strangers[place:]]
        letters = list(ascii_uppercase[: len(products)])
        answer = ",".join([letters.pop(place), *letters])
        if strangers:
            made.append(_row("query_product_ranking", {"query": query, "products": products}, answer))
    return made


def recommendation_rows(rows: Sequence[Row], count: int, random: Random) -> list[Row]:
    """Return made rows of sequential_recommendation: an item that followed, among few or many that others were offered.

    The task's labelled `rows` whose items are texts give the histories, cut behind any item but the first few, and at
    most 19 strangers, each as likely as the data offers it often.
    """
    rows = [row for row in rows if all(isinstance(item, str) for key in _ITEMS for item in row["input"][key])]
    offered = [item for row in rows for item in row["input"]["candidates"]]
    made: list[Row] = []
    for _ in range(100 * count if rows else 0):
        if len(made) == count:
            break
        row = random.choice(rows)
        candidates = row["input"]["candidates"]
        bought = [*row["input"]["history"], candidates[ascii_uppercase.index(row["output"])]]
        end = random.randint(min(SHORTEST_HISTORY, len(bought)) - 1, len(bought) - 1)
        wanted = random.choice(_CANDIDATES) - 1
        strangers = [item for item in dict.fromkeys(random.choices(offered, k=2 * wanted)) if item not in bought]
        if end and strangers and bought[end] not in bought[:end]:
            items = random.sample(strangers, min(wanted, len(strangers)))
            place = random.randint(0, len(items))
            fields = {"history": bought[:end], "candidates": [*items[:place], bought[end], *items[place:]]}
            made.append(_row("sequential_recommendation", fields, ascii_uppercase[place]))
    return made


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
        if len(rows) % 2 and _words_of(query) & _words_of(other):
            continue
        shown, answer = (other, IRRELEVANT) if len(rows) % 2 else (title, EXACT)
        rows.append(_row("multiclass_product_classification", {"query": query, "title": shown}, answer))
    return rows


def _query(title: str, random: Random) -> str:
    words = _WORD.findall(title)[:10]  # what a thing is stands at a title's beginning
    taken = sorted(random.sample(range(len(words)), min(len(words), random.randint(*_WORDS))))
    return " ".join(words[place].lower() for place in taken)


def _words_of(text: str) -> set[str]:
    return {word.lower() for word in re.findall(r"[\w'-]+", text)}


def _is_record(product: object) -> bool:
    return isinstance(product, Mapping) and "title" in product


def _row(task: str, fields: Row, answer: str) -> Row:
    return {"id": None, "task": task, "input": fields, "output": answer}
