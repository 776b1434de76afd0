"""Product_Matching (PM): do two records describe the same product?"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ecellm_lite.answers.predicate import Predicate
from ecellm_lite.tasks.cleaning import cut_words
from ecellm_lite.tasks.fields import RecordField, TextField
from ecellm_lite.tasks.shortening import Words
from ecellm_lite.tasks.task import Task, Wire

DESCRIPTION_WORDS = 50

_RECORD = (
    TextField("title", "The record's title.", "espresso machine xs-200"),
    TextField("description", "Its description.", "15 bar pump, milk frother", required=False),
    TextField("manufacturer", "Its manufacturer.", "brewline", required=False),
    TextField("price", "Its price.", "89.90", required=False),
)


def _record(product: Mapping[str, str]) -> dict[str, str | float]:
    # The training data was written by pandas: a missing description is the number NaN, other fields the text "nan".
    description = product.get("description")
    return {
        "title": product["title"],
        "description": float("nan") if description is None else cut_words(description, DESCRIPTION_WORDS),
        "manufacturer": product.get("manufacturer", "nan"),
        "price": product.get("price", "nan"),
    }


def _write(row: Mapping[str, Any]) -> Wire:
    text = json.dumps({"product 1": _record(row["product_1"]), "product 2": _record(row["product_2"])})
    return Wire(text, None, Predicate())


def _read(text: str, options: str | None) -> Predicate:
    return Predicate()


TASK = Task(
    name="product_matching",
    hub_name="Product_Matching",
    abbreviation="PM",
    summary="Tell whether two records describe the same product.",
    answers="yes or no.",
    instruction=(
        "Given the title, description, manufacturer, and price of two products, identify if they are the same product. "
        "Only output yes or no."
    ),
    fields=(
        RecordField("product_1", "The first record.", _RECORD),
        RecordField("product_2", "The second record.", _RECORD),
    ),
    write=_write,
    read=_read,
    long=(Words(("product_1.description", "product_2.description")),),
)
