"""Tests that rows from ECInstruct's files are used unchanged, even if this project would format them differently.

Also tests rows whose fields are nested under the key `input`.
"""

from __future__ import annotations

from typing import Any

import pytest

from ecellm_lite.answers.choice import Choice
from ecellm_lite.answers.extraction import Extraction
from ecellm_lite.answers.options import Option
from ecellm_lite.answers.predicate import Predicate
from ecellm_lite.answers.ranking import Ranking
from ecellm_lite.answers.text import Text
from ecellm_lite.tasks.registry import get_task
from ecellm_lite.tasks.task import Question
from tests.support.questions import NAMES, SA_OPTIONS, ask, refusal


@pytest.mark.parametrize(
    ("task", "text", "options", "space"),
    [
        (
            "sentiment_analysis",
            "Très bien ☕ ",
            '["A: good","C: bad"]',
            Choice((Option("A", "A: good"), Option("C", "C: bad"))),
        ),
        (
            "product_relation_prediction",
            '{"Product 1:":"Café","Product 2:":"b"}',
            '["B: viewed too.","A: bought too."]',
            Choice((Option("B", "B"), Option("A", "A"))),
        ),
        (
            "sequential_recommendation",
            "['7th: Tent']",
            """["A: Children's Mug", 'B: 9" Pan', 'C: Chef\\'s 9" Pan', 'D: Lamp']""",
            Choice((Option("A", "A"), Option("B", "B"), Option("C", "C"), Option("D", "D"))),
        ),
        (
            "multiclass_product_classification",
            '{"query":"café","product title":"☕"}',
            '["A: It fits: well.", "B: It does not."]',
            Choice((Option("A", "A: It fits: well."), Option("B", "B: It does not."))),
        ),
        (
            "query_product_ranking",
            '{"query":"café","product list":["A: x","B: y: z","C: w"]}',
            None,
            Ranking(("A", "B", "C")),
        ),
        (
            "attribute_value_extraction",
            '{"product feature":"Warm, Dry","product title":"Thé \\u2122","target attributes":"Sleeve Length and Fit"}',
            None,
            Extraction(("Sleeve Length", "Fit"), {"product feature": "Warm, Dry", "product title": "Thé ™"}),
        ),
        ("product_matching", '{"product 1": {"title": "a", "description": NaN}}', None, Predicate()),
        ("product_substitute_identification", '{"query":"café", "product":"b"}', None, Predicate()),
        ("answerability_prediction", '{"question":"a?", "document":["é"]}', None, Predicate()),
        ("answer_generation", '{"question":"a?", "document":["é"]}', None, Text(max_tokens=100)),
    ],
)
def test_a_row_of_the_data_set_is_taken_unchanged(task: str, text: str, options: str | None, space: object) -> None:
    row = {"instruction": "Do as I say. ", "input": text, "options": options, "output": "B", "split": "test"}
    question = ask(task, row)
    assert (question.instruction, question.text, question.options) == ("Do as I say. ", text, options)
    assert question.space == space


@pytest.mark.parametrize("options", [{}, {"options": None}, {"options": ""}])
def test_a_row_of_the_data_set_may_have_no_options(options: dict[str, Any]) -> None:
    question = ask("product_matching", {"instruction": "Same?", "input": "{}", **options})
    assert question == Question("Same?", "{}", None, Predicate(), wording="Same?")


@pytest.mark.parametrize(
    ("task", "row", "value"),
    [
        ("sentiment_analysis", {"input": "Good."}, "instruction"),
        ("sentiment_analysis", {"input": " ", "instruction": "Do.", "options": SA_OPTIONS}, '" "'),
        ("sentiment_analysis", {"input": "Good.", "instruction": 3, "options": SA_OPTIONS}, "instruction"),
        ("sentiment_analysis", {"input": "Good.", "instruction": "Do.", "options": ["A: good"]}, "A: good"),
        ("sentiment_analysis", {"input": "Good.", "instruction": "Do."}, "options"),
        ("sentiment_analysis", {"input": "Good.", "instruction": "Do.", "options": "A: good"}, "A: good"),
        ("sentiment_analysis", {"input": "Good.", "instruction": "Do.", "options": "[]"}, "[]"),
        ("product_relation_prediction", {"input": "{}", "instruction": "Do.", "options": '["good"]'}, "'good'"),
        (
            "sequential_recommendation",
            {"input": "[]", "instruction": "Do.", "options": "[__import__('os')]"},
            "__import__",
        ),
        ("attribute_value_extraction", {"input": "Mug", "instruction": "Do."}, "Mug"),
        (
            "attribute_value_extraction",
            {"input": '{"product title": "Mug"}', "instruction": "Do."},
            "target attributes",
        ),
        ("query_product_ranking", {"input": '["Mug"]', "instruction": "Do."}, "Mug"),
        ("query_product_ranking", {"input": '{"query": "Mug"}', "instruction": "Do."}, "product list"),
        ("query_product_ranking", {"input": '{"product list": ["Mug"]}', "instruction": "Do."}, "'Mug'"),
    ],
)
def test_a_bad_row_of_the_data_set_is_refused(task: str, row: dict[str, Any], value: str) -> None:
    error = refusal(task, row)
    assert value in error.message
    assert error.field in {None, "instruction", "input", "options"}


@pytest.mark.parametrize("name", [name for name, _, _ in NAMES])
def test_fields_may_be_nested_under_input(name: str) -> None:
    example = get_task(name).example()
    fields = {key: value for key, value in example.items() if key != "id"}
    assert ask(name, {"id": "r1", "task": name, "input": fields, "output": "B"}) == ask(name, example)


def test_a_nested_row_takes_only_the_nested_fields() -> None:
    row = {
        "id": 7,
        "task": "product_substitute_identification",
        "input": {"query": "mug", "title": "Cup"},
        "title": "no",
    }
    question = ask("product_substitute_identification", row)
    assert question.text == '{"query": "mug", "product": "Cup"}'
