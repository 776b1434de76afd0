"""Multi-class_Product_Classification (MPC): how relevant is a product to a query?"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ecellm_lite.answers.choice import Choice, lettered
from ecellm_lite.tasks.captions import with_caption
from ecellm_lite.tasks.fields import CAPTION, TextField
from ecellm_lite.tasks.task import Task, Wire
from ecellm_lite.tasks.transliteration import Transliteration
from ecellm_lite.tasks.wire import read_options

OPTIONS = (
    "A: The product is relevant to the query, and satisfies all the query specifications.",
    "B: The product is somewhat relevant. It fails to fulfill some aspects of the query but the product can be used "
    "as a functional substitute.",
    "C: The product does not fulfill the query, but could be used in combination with a product exactly matching "
    "the query.",
    "D: The product is irrelevant to the query.",
)


def _write(row: Mapping[str, Any]) -> Wire:
    transliteration = Transliteration()
    query, title = (transliteration.write(name, row[name]) for name in ("query", "title"))
    text = json.dumps(with_caption({"query": query, "product title": title}, row))
    return Wire(text, json.dumps(OPTIONS), lettered(OPTIONS, whole=True), transliteration.warnings)


def _read(text: str, options: str | None) -> Choice:
    return lettered(read_options(options), whole=True)


TASK = Task(
    name="multiclass_product_classification",
    hub_name="Multi-class_Product_Classification",
    abbreviation="MPC",
    summary="Tell how relevant a product is to a search query.",
    answers="A (exact), B (substitute), C (complement) or D (irrelevant).",
    instruction="What is the relevance between the query and the product title below? Answer from one of the options.",
    fields=(
        TextField("query", "What the user searched for.", "wireless mouse"),
        TextField("title", "The product's title.", "Northpoint M310 wireless mouse, black"),
        CAPTION,
    ),
    write=_write,
    read=_read,
)
