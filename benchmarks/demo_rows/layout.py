"""The rows of one pass of the demo's training. A pass is one round over the lessons (the training examples).

A pass contains the tasks' labelled rows. If a task has few labelled rows, they are repeated. A pass also contains
synthetic ("made") rows: usual rows of the tasks, and hard cases (ecellm_lite/training/hard_cases).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from random import Random

from benchmarks.demo_rows.made_extractions import extraction_rows
from benchmarks.demo_rows.made_products import product_rows
from benchmarks.demo_rows.made_rows import classification_rows, ranking_rows, recommendation_rows, titles_of
from ecellm_lite.training.curriculum import Layout, Maker
from ecellm_lite.training.hard_cases import hard_rows
from ecellm_lite.training.rows import Row, Rows

REPEATS = {"multiclass_product_classification": 3, "product_substitute_identification": 3, "query_product_ranking": 2}
# Made rows per pass.
MADE = {
    "query_product_ranking": 900,
    "multiclass_product_classification": 120,
    "sequential_recommendation": 2000,
    "attribute_value_extraction": 1000,
}
# Hard cases per pass.
HARD = {
    "product_matching": 600,
    "attribute_value_extraction": 1000,
    "sentiment_analysis": 300,
    "multiclass_product_classification": 240,
    "product_substitute_identification": 240,
    "answerability_prediction": 300,
}


def demo_layout(most: Mapping[str, int] | None = None) -> Layout:
    """Return which rows one pass of training consists of.

    `most`: for each task, the maximum number of labelled rows. This is also the maximum number of synthetic rows.
    """
    most = most or {}
    counts = {task: MADE.get(task, 0) + HARD.get(task, 0) for task in {**MADE, **HARD}}
    made = {
        task: (partial(_made, task, MAKERS.get(task)), min(count, most.get(task, count)))
        for task, count in counts.items()
    }
    return Layout(REPEATS, most, made)


def _made(task: str, maker: Maker | None, rows: Rows, count: int, random: Random) -> list[Row]:
    """Return `count` synthetic rows of a task. MADE and HARD set the shares of usual rows and hard cases."""
    hard = count * HARD.get(task, 0) // (HARD.get(task, 0) + MADE.get(task, 0))
    usual = maker(rows, count - hard, random) if maker else []
    return usual + hard_rows(task, hard, random)


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


MAKERS: Mapping[str, Maker] = {
    "query_product_ranking": _rankings,
    "multiclass_product_classification": _classifications,
    "sequential_recommendation": _recommendations,
    "attribute_value_extraction": _extractions,
}
