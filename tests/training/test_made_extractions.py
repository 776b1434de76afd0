"""Checks synthetic extraction rows: the source of a right answer is the field that contains the value."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.demo_rows.made_extractions import extraction_rows
from ecellm_lite.tasks.registry import TASKS
from ecellm_lite.training.rows import Row
from ecellm_lite.training.variation import varied

TASK = "attribute_value_extraction"
# "men" is in "women" and "ski" in "skirt", and one attribute's name is another's value.
VALUES = {
    "Material": ["cotton", "carbon fiber"],
    "Gender": ["men", "women"],
    "Sport Type": ["ski", "yoga"],
    "Model": ["ski skirt", "material", "this one"],
}
REVIEWS = [
    "It holds what it says. Cotton is what I wanted. I bought TWO of 3.",
    "The yoga part is not for me. Nice. A friend of mine has Danelectro pedals are great quality too.",
]


def labelled(title: str, values: dict[str, str]) -> Row:
    entries = [
        {"attribute": name.lower(), "value": value, "source": "product title" if value != "None" else "None"}
        for name, value in values.items()
    ]
    return {"input": {"title": title, "attributes": list(values)}, "output": json.dumps(entries)}


@st.composite
def labelled_rows(draw: st.DrawFn) -> list[Row]:
    rows = []
    for number in range(draw(st.integers(1, 6))):
        names = draw(st.lists(st.sampled_from(sorted(VALUES)), min_size=1, unique=True))
        values = {name: draw(st.sampled_from([*VALUES[name], "None"])) for name in names}
        title = " ".join(value for value in values.values() if value != "None")
        rows.append(labelled(f"Brand{number} New Windproof Quick-Dry {title} Thing", values))
    return rows


@settings(max_examples=60)
@given(rows=labelled_rows(), seed=st.integers(0, 1 << 30))
def test_the_source_of_a_value_is_the_field_that_contains_it(rows: list[Row], seed: int) -> None:
    learned = {value for row in rows for entry in entries(row) for value in [entry["value"]]} - {"None"}
    extractions = extraction_rows(rows, REVIEWS, 12, Random(seed))
    assert len(extractions) == 12
    for row in extractions:
        fields = row["input"]
        texts = {name: " | ".join(fields.get(name, ())) for name in ("description", "feature")}
        texts["title"] = fields["title"]
        assert [entry["attribute"] for entry in entries(row)] == [name.lower() for name in fields["attributes"]]
        for entry in entries(row):
            words = [value.lower() for value in VALUES[entry["attribute"].title()] if value in learned]
            holding = {
                f"product {name}"
                for name, text in texts.items()
                if any(re.search(rf"\b{value}\b", text.lower()) for value in words)
            }
            # For values in the title, the labels are the data's own.
            assert holding - {"product title"} == {entry["source"]} - {"None", "product title"}, row
            if entry["value"] != "None":
                assert entry["value"] in texts[entry["source"].removeprefix("product ")].lower()
        variant, answer = varied(TASK, fields, row["output"], Random(seed))
        TASKS[TASK].question({"input": variant}).space.parse(answer)


def test_made_extractions_keep_titles_and_use_all_fields() -> None:
    rows = [labelled("Brand New Windproof Quick-Dry cotton Jacket", {"Material": "cotton", "Gender": "None"})]
    rows += [labelled("Brand New Light Jacket for women", {"Gender": "women"})]
    extractions = extraction_rows(rows, REVIEWS, 200, Random(1))
    assert {row["input"]["title"] for row in extractions} == {row["input"]["title"] for row in rows}
    for name in ("description", "feature", "price"):
        assert 40 < sum(name in row["input"] for row in extractions) < 200, name
    sources = [entry["source"] for row in extractions for entry in entries(row)]
    assert all(sources.count(f"product {name}") > 20 for name in ("title", "description", "feature"))
    descriptions = {text for row in extractions for text in row["input"].get("description", ())}
    assert "It holds what it says." in descriptions
    # Names and figures; too short.
    assert not any("TWO" in text or "Danelectro" in text or text == "Nice." for text in descriptions)


def test_unusable_rows_make_no_extractions() -> None:
    other = labelled("Brand Jacket", {"Material": "None"})
    assert extraction_rows([], REVIEWS, 5, Random(0)) == []
    assert extraction_rows([{**other, "input": {**other["input"], "feature": ["warm"]}}], REVIEWS, 5, Random(0)) == []
    extractions = extraction_rows([other], [], 5, Random(0))
    assert len(extractions) == 5
    assert all(entry["value"] == "None" for row in extractions for entry in entries(row))


def entries(row: Row) -> Sequence[dict[str, Any]]:
    gold: Sequence[dict[str, Any]] = json.loads(row["output"])
    return gold
