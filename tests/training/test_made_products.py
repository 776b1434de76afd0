"""Tests of synthetic rows about a product's attributes: the field that the answer names contains the attribute's value.

If the answer is "None", no field contains a value of this attribute.
"""

from __future__ import annotations

import json
from collections import Counter
from random import Random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from benchmarks.demo_rows.made_products import _lexicon, product_rows
from ecellm_lite.answers.spans import SourceText
from ecellm_lite.tasks.registry import TASKS
from ecellm_lite.training.rows import Row
from ecellm_lite.training.variation import holds, varied

TASK = "attribute_value_extraction"
SEED = st.integers(0, 1 << 30)


def entries(row: Row) -> list[dict[str, str]]:
    gold: list[dict[str, str]] = json.loads(row["output"])
    return gold


def texts(row: Row) -> dict[str, str]:
    fields = row["input"]
    joined = {name: ", ".join(fields.get(name, ())) for name in ("description", "feature")}
    return {"product title": fields["title"]} | {f"product {name}": text for name, text in joined.items()}


def values(attribute: str) -> list[str]:
    """Return the values that the word lists have for an attribute.

    Sizes are left out, because their words also have other uses. For example, "small hands" does not state a size.
    """
    lexicon = _lexicon()
    trades = lexicon["trades"].values()
    by_attribute: dict[str, list[Any]] = {
        "material": [one for trade in trades for one in trade["materials"]],
        "color": lexicon["colors"],
        "colour": lexicon["colors"],
        "pattern": lexicon["patterns"],
        "gender": [value for _, value in lexicon["genders"]],
        "hooded": ["hooded"],
    }
    return by_attribute.get(attribute, [])


@given(seed=SEED)
def test_an_answer_is_a_span_of_its_field(seed: int) -> None:
    for row in product_rows(8, Random(seed)):
        assert [entry["attribute"] for entry in entries(row)] == [name.lower() for name in row["input"]["attributes"]]
        for entry in entries(row):
            if entry["source"] != "None":
                source = SourceText(entry["source"], texts(row)[entry["source"]])
                spans = {span.value for word in range(len(source.starts)) for span in source.spans(word)}
                assert entry["value"] in spans, row
        fields, answer = varied(TASK, row["input"], row["output"], Random(seed))
        TASKS[TASK].question({"input": fields}).space.parse(answer)


@given(seed=SEED)
def test_the_value_of_a_missing_attribute_is_in_no_text(seed: int) -> None:
    for row in product_rows(8, Random(seed)):
        whole = " | ".join(texts(row).values())
        for entry in entries(row):
            if entry["value"] == "None":
                assert not any(holds(whole, value) for value in values(entry["attribute"])), row


def test_values_are_in_all_fields_and_products_of_all_trades() -> None:
    rows = product_rows(2000, Random(1))
    sources = Counter(entry["source"] for row in rows for entry in entries(row))
    assert all(sources[name] > 100 for name in ("product title", "product feature", "product description", "None"))
    titles = " | ".join(row["input"]["title"].lower() for row in rows)
    for trade in _lexicon()["trades"].values():
        for noun in trade["nouns"]:
            assert noun.lower() in titles
    assert product_rows(20, Random(5)) == product_rows(20, Random(5))
    assert product_rows(0, Random(5)) == []
