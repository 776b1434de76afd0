"""Query_Product_Rank (QPR): order products by their relevance to a query."""

from __future__ import annotations

import json
from collections.abc import Mapping
from string import ascii_uppercase
from typing import Any

from ecellm_lite.answers.choice import letters_of
from ecellm_lite.answers.ranking import Ranking
from ecellm_lite.errors import InputError
from ecellm_lite.tasks.fields import TextField, TextsField
from ecellm_lite.tasks.task import Task, Wire
from ecellm_lite.tasks.transliteration import Transliteration
from ecellm_lite.tasks.wire import read_object


def _write(row: Mapping[str, Any]) -> Wire:
    transliteration = Transliteration()
    query = transliteration.write("query", row["query"])
    titles = [transliteration.write(f"products[{index}]", title) for index, title in enumerate(row["products"])]
    letters = tuple(ascii_uppercase[: len(titles)])
    lines = [f"{letter}: {title}" for letter, title in zip(letters, titles, strict=True)]
    text = json.dumps({"query": query, "product list": lines})
    return Wire(text, None, Ranking(letters, tuple(lines)), transliteration.warnings)


def _read(text: str, options: str | None) -> Ranking:
    lines = read_object(text).get("product list")
    if not isinstance(lines, list) or not lines or not all(isinstance(line, str) for line in lines):
        step = 'add it, for example {"product list": ["A: title"]}'
        raise InputError("The input has no 'product list' of texts", step=step, field="input")
    return Ranking(letters_of(lines), tuple(lines))


TASK = Task(
    name="query_product_ranking",
    hub_name="Query_Product_Rank",
    abbreviation="QPR",
    summary="Order products by their relevance to a search query.",
    answers="All the products' letters, best first, A for the first product.",
    instruction=(
        "Given a query and a list of products denoted as A, B, C, ... with their titles, rank the products according "
        "to their relevance to the query. Output only a ranked list in which the most relevant product is at "
        "the top of the list."
    ),
    fields=(
        TextField("query", "What the user searched for.", "rain jacket women"),
        TextsField("products", "The products' titles.", ["Umbrella", "Women's waterproof jacket"], most=26),
    ),
    write=_write,
    read=_read,
)
