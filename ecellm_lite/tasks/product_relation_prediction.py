"""Product_Relation_Prediction (PRP): are two products bought together, viewed together, or similar?"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ecellm_lite.answers.choice import Choice, lettered
from ecellm_lite.tasks.captions import TitleField, caption_of, has_caption, title_of
from ecellm_lite.tasks.task import Task, Wire
from ecellm_lite.tasks.wire import read_options

OPTIONS = (
    "A: Users who buy product 1 may also buy product 2.",
    "B: Users who view product 1 may also view product 2.",
    "C: The product 1 is similar with the product 2.",
)


def _write(row: Mapping[str, Any]) -> Wire:
    products = row["product_1"], row["product_2"]
    if any(map(has_caption, products)):
        fields: dict[str, Any] = {f"product {place}": title_of(each) for place, each in enumerate(products, start=1)}
        for place, product in enumerate(products, start=1):
            fields[f"product {place} information extracted from image"] = caption_of(product)
    else:
        # ECInstruct has the colon inside the key.
        fields = {f"Product {place}:": title_of(each) for place, each in enumerate(products, start=1)}
    return Wire(json.dumps(fields), json.dumps(OPTIONS), lettered(OPTIONS, whole=False))


def _read(text: str, options: str | None) -> Choice:
    return lettered(read_options(options), whole=False)


TASK = Task(
    name="product_relation_prediction",
    hub_name="Product_Relation_Prediction",
    abbreviation="PRP",
    summary="Tell how two products relate: bought together, viewed together, or similar.",
    answers="A (also bought), B (also viewed) or C (similar).",
    instruction=(
        "Given the title of two products, predict if the two products are similar, if the two products will be "
        "purchased or viewed together. Answer only from the options."
    ),
    fields=(
        TitleField("product_1", "The first product's title.", "USB-C charging cable, 2 m"),
        TitleField("product_2", "The second product's title.", "30 W wall charger"),
    ),
    write=_write,
    read=_read,
)
