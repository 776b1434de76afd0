"""How one pass of the demo's training is composed.

The rows of tasks with few rows are repeated, and synthetic ("made") rows are added.
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

from benchmarks.demo_rows.made_extractions import extraction_rows
from benchmarks.demo_rows.made_products import product_rows
from benchmarks.demo_rows.made_rows import classification_rows, ranking_rows, recommendation_rows, titles_of
from ecellm_lite.training.curriculum import Layout
from ecellm_lite.training.rows import Row, Rows

REPEATS = {"multiclass_product_classification": 3, "product_substitute_identification": 3, "query_product_ranking": 2}
# Made rows per pass.
MADE = {
    "query_product_ranking": 900,
    "multiclass_product_classification": 120,
    "sequential_recommendation": 2000,
    "attribute_value_extraction": 1000,
}


def demo_layout(most: Mapping[str, int] | None = None) -> Layout:
    """Return the layout of a pass; for `most`, see Layout."""
    makers = {
        "query_product_ranking": _rankings,
        "multiclass_product_classification": _classifications,
        "sequential_recommendation": _recommendations,
        "attribute_value_extraction": _extractions,
    }
    return Layout(REPEATS, most or {}, {task: (maker, MADE[task]) for task, maker in makers.items()})


def _rankings(rows: Rows, count: int, random: Random) -> list[Row]:
    return ranking_rows(rows["query_product_ranking"], _titles(rows), count, random)


def _classifications(rows: Rows, count: int, random: Random) -> list[Row]:
    return classification_rows(_titles(rows), count, random)


def _recommendations(rows: Rows, count: int, random: Random) -> list[Row]:
    return recommendation_rows(rows["sequential_recommendation"], count, random)


def _extractions(rows: Rows, count: int, random: Random) -> list[Row]:
    reviews = (str(row["input"]["review"]) for row in rows.get("sentiment_analysis", []))
    labelled = extraction_rows(rows["attribute_value_extraction"], reviews, count // 4, random)
    return labelled + product_rows(count - count // 4, random)


def _titles(rows: Rows) -> list[str]:
    return titles_of(row for labelled in rows.values() for row in labelled)
