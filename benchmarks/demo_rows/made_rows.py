"""Makes rows for tasks that have few labelled rows, or labelled rows that are hard to learn from.

A synthetic query consists of some words of a product's title, as a customer would type them. This product is an exact
match for the query. A product that has no word of the query is irrelevant. No rows are made for the degrees between
exact and irrelevant.

A purchase history from the data gets new candidates for the next item, often fewer than in the data. With fewer
candidates, the model more easily learns which letter belongs to the right item.
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
_WORDS = (2, 4)  # in a query
_PRODUCTS = (2, 2, 3, 4)  # in a list to rank
_CANDIDATES = (2, 3, 4, 6, 10, 20)  # for the next item
_ITEMS = ("history", "candidates")
EXACT, IRRELEVANT = OPTIONS[0], OPTIONS[3]


def titles_of(rows: Iterable[Row]) -> list[str]:
    """Return the product titles in labelled rows, each once, in the rows' order."""
    titles: dict[str, None] = {}
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
                titles[title] = None
    return list(titles)


def ranking_rows(rows: Sequence[Row], titles: Sequence[str], count: int, random: Random) -> list[Row]:
    """Return synthetic rows of query_product_ranking.

    About half of the queries come from the labelled `rows`, and so do their products. The other queries are made from a
    title in `titles`, and their products come from `titles` too. A row never mixes the two, so that the best product
    does not stand out. In the answer, the best product is first. The other products follow in the order that they have
    in the row. No rows are made if `titles` has fewer titles than a row needs.
    """
    rankings: list[Row] = []
    listed = titles_of(rows)
    for _ in range(100 * count if len(titles) >= max(_PRODUCTS) else 0):
        if len(rankings) == count:
            break
        if len(listed) >= max(_PRODUCTS) and random.random() < 0.5:
            fields, answer = (row := random.choice(rows))["input"], row["output"]
            query, best = fields["query"], fields["products"][ascii_uppercase.index(answer[0])]
            others: Sequence[str] = listed
        else:
            best, others = random.choice(titles), titles
            query = _query(best, random)
        unrelated = [
            title
            for title in random.sample(others, random.choice(_PRODUCTS) - 1)
            if title != best and not _words_of(query) <= _words_of(title)
        ]
        place = random.randint(0, len(unrelated))
        products = [*unrelated[:place], best, *unrelated[place:]]
        letters = list(ascii_uppercase[: len(products)])
        answer = ",".join([letters.pop(place), *letters])
        if unrelated:
            rankings.append(_row("query_product_ranking", {"query": query, "products": products}, answer))
    return rankings


def recommendation_rows(rows: Sequence[Row], count: int, random: Random) -> list[Row]:
    """Return synthetic rows of the task sequential_recommendation. Each row asks which item a customer buys next.

    Each history is the beginning of a history in the labelled `rows`, cut after a random item, but not after one of the
    first few. The item after the cut is the right answer. Up to 19 other candidates are drawn at random from the
    candidates of all rows. An item that is often a candidate is drawn more often. Rows with items that are not texts
    are not used.
    """
    rows = [row for row in rows if all(isinstance(item, str) for key in _ITEMS for item in row["input"][key])]
    all_candidates = [item for row in rows for item in row["input"]["candidates"]]
    recommendations: list[Row] = []
    for _ in range(100 * count if rows else 0):
        if len(recommendations) == count:
            break
        row = random.choice(rows)
        candidates = row["input"]["candidates"]
        purchases = [*row["input"]["history"], candidates[ascii_uppercase.index(row["output"])]]
        end = random.randint(min(SHORTEST_HISTORY, len(purchases)) - 1, len(purchases) - 1)
        most = random.choice(_CANDIDATES) - 1
        draws = dict.fromkeys(random.choices(all_candidates, k=2 * most))
        others = [item for item in draws if item not in purchases]
        if end and others and purchases[end] not in purchases[:end]:
            items = random.sample(others, min(most, len(others)))
            place = random.randint(0, len(items))
            fields = {"history": purchases[:end], "candidates": [*items[:place], purchases[end], *items[place:]]}
            recommendations.append(_row("sequential_recommendation", fields, ascii_uppercase[place]))
    return recommendations


def classification_rows(titles: Sequence[str], count: int, random: Random) -> list[Row]:
    """Return synthetic rows of the task multiclass_product_classification.

    In half of the rows, the product matches exactly. In the other half, it is irrelevant and has no word of the query.
    If almost all titles have words in common, the result has fewer than `count` rows.
    """
    rows: list[Row] = []
    for _ in range(100 * count if len(titles) > 1 else 0):
        if len(rows) == count:
            break
        title, other = random.sample(titles, 2)
        query = _query(title, random)
        if len(rows) % 2 and _words_of(query) & _words_of(other):
            continue
        product, answer = (other, IRRELEVANT) if len(rows) % 2 else (title, EXACT)
        rows.append(_row("multiclass_product_classification", {"query": query, "title": product}, answer))
    return rows


def _query(title: str, random: Random) -> str:
    words = _WORD.findall(title)[:10]  # a title begins with what the product is
    places = sorted(random.sample(range(len(words)), min(len(words), random.randint(*_WORDS))))
    return " ".join(words[place].lower() for place in places)


def _words_of(text: str) -> set[str]:
    return {word.lower() for word in re.findall(r"[\w'-]+", text)}


def _is_record(product: object) -> bool:
    return isinstance(product, Mapping) and "title" in product


def _row(task: str, fields: Row, answer: str) -> Row:
    return {"id": None, "task": task, "input": fields, "output": answer}
