"""Product_Substitute_Identification (PSI): is a product a substitute for the product that a query asks for?"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ecellm_lite.answers.predicate import Predicate
from ecellm_lite.tasks.captions import NAME, with_caption
from ecellm_lite.tasks.fields import CAPTION, TextField
from ecellm_lite.tasks.task import Task, Wire
from ecellm_lite.tasks.transliteration import Transliteration


def _write(row: Mapping[str, Any]) -> Wire:
    transliteration = Transliteration()
    query, title = (transliteration.write(name, row[name]) for name in ("query", "title"))
    # CASLIE's key for the title is another than ECInstruct's.
    fields = {"query": query, "product title" if NAME in row else "product": title}
    return Wire(json.dumps(with_caption(fields, row)), None, Predicate(), transliteration.warnings)


def _read(text: str, options: str | None) -> Predicate:
    return Predicate()


TASK = Task(
    name="product_substitute_identification",
    hub_name="Product_Substitute_Identification",
    abbreviation="PSI",
    summary="Tell whether a product is a functional substitute for what a query asks.",
    answers="yes or no.",
    instruction=(
        "Given a query and a product, identify if the product is somewhat relevant to the query. It fails to fulfill "
        "some aspects of the query but the product can be used as a functional substitute. Only output yes or no."
    ),
    fields=(
        TextField("query", "What the user searched for.", "stainless steel water bottle 1 l"),
        TextField("title", "The product's title.", "Glass water bottle with sleeve, 750 ml"),
        CAPTION,
    ),
    write=_write,
    read=_read,
)
