"""Questions of the ten tasks, and texts that several tests use."""

from __future__ import annotations

from typing import Any

import pytest

from ecellm_lite.errors import InputError
from ecellm_lite.tasks.registry import get_task
from ecellm_lite.tasks.task import Question

# (name, name on the hub, abbreviation)
NAMES = (
    ("attribute_value_extraction", "Attribute_Value_Extraction", "AVE"),
    ("product_relation_prediction", "Product_Relation_Prediction", "PRP"),
    ("product_matching", "Product_Matching", "PM"),
    ("sentiment_analysis", "Sentiment_Analysis", "SA"),
    ("sequential_recommendation", "Sequential_Recommendation", "SR"),
    ("multiclass_product_classification", "Multi-class_Product_Classification", "MPC"),
    ("product_substitute_identification", "Product_Substitute_Identification", "PSI"),
    ("query_product_ranking", "Query_Product_Rank", "QPR"),
    ("answerability_prediction", "Answerability_Prediction", "AP"),
    ("answer_generation", "Answer_Generation", "AG"),
)

PRP_OPTIONS = (
    '["A: Users who buy product 1 may also buy product 2.", "B: Users who view product 1 may also view product 2.", '
    '"C: The product 1 is similar with the product 2."]'
)

SA_OPTIONS = '["A: very positive", "B: positive", "C: neutral", "D: negative", "E: very negative"]'

MPC_OPTIONS = (
    '["A: The product is relevant to the query, and satisfies all the query specifications.", '
    '"B: The product is somewhat relevant. It fails to fulfill some aspects of the query but the product can be used '
    'as a functional substitute.", '
    '"C: The product does not fulfill the query, but could be used in combination with a product exactly matching the '
    'query.", '
    '"D: The product is irrelevant to the query."]'
)


def ask(task: str, row: Any, **options: Any) -> Question:
    return get_task(task).question(row, **options)


def refusal(task: str, row: Any) -> InputError:
    with pytest.raises(InputError) as caught:
        ask(task, row)
    assert caught.value.step
    return caught.value
