"""Makes hard cases: labelled rows about details that a model gets wrong and that a customer notices first.

The rows are about invented products. A task's rule is a function that makes rows together with their answers.
`hard_rows` makes rows of one task. `MAKERS` has the rules by task; some tasks have none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random

from ecellm_lite.training.hard_cases.extraction import extraction_rows
from ecellm_lite.training.hard_cases.matching import matching_rows
from ecellm_lite.training.hard_cases.questions import question_rows
from ecellm_lite.training.hard_cases.relevance import relevance_rows, substitute_rows
from ecellm_lite.training.hard_cases.reviews import review_rows
from ecellm_lite.training.rows import Row

MAKERS: Mapping[str, Callable[[int, Random], list[Row]]] = {
    "product_matching": matching_rows,
    "attribute_value_extraction": extraction_rows,
    "sentiment_analysis": review_rows,
    "multiclass_product_classification": relevance_rows,
    "product_substitute_identification": substitute_rows,
    "answerability_prediction": question_rows,
}


def hard_rows(task: str, count: int, random: Random) -> list[Row]:
    """Make `count` labelled rows of a task. Return an empty list if `MAKERS` has no rule for the task."""
    maker = MAKERS.get(task)
    return maker(count, random) if maker else []
