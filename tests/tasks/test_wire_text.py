"""Tests that texts in the prompt are escaped as in ECInstruct.

Depending on the task, `Café ™` becomes `Cafe TM` or `Caf\\u00e9 \\u2122`.
"""

from __future__ import annotations

from typing import Any

import pytest

from ecellm_lite.answers.extraction import Extraction
from ecellm_lite.envelopes import get_envelope
from ecellm_lite.errors import InputError
from tests.support.questions import SA_OPTIONS, ask


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("Café ™", "Cafe TM"),
        ("cafe\u0301", "cafe"),
        ("naïve Ångström Øre", "naive Angstrom Ore"),
        ("\ufb01lter \u21165 \uff12\uff2c \u00bd", "filter No5 2L 1/2"),
        ("mug \u2013 日本 ☕", "mug -  "),
        ("20\u00a0oz", "20 oz"),
        ("Women\u2019s 9\u201d pan", r"Women's 9\" pan"),
        ("Women's 9\" pan", r"Women's 9\" pan"),
    ],
)
def test_queries_and_their_titles_become_ascii(raw: str, shown: str) -> None:
    row = {"query": raw, "title": raw}
    classification = ask("multiclass_product_classification", row)
    assert classification.text == f'{{"query": "{shown}", "product title": "{shown}"}}'
    substitute = ask("product_substitute_identification", row)
    assert substitute.text == f'{{"query": "{shown}", "product": "{shown}"}}'
    ranking = ask("query_product_ranking", {"query": raw, "products": [raw, "plain", raw]})
    assert ranking.text == f'{{"query": "{shown}", "product list": ["A: {shown}", "B: plain", "C: {shown}"]}}'


GIVEN = 'Café ™ 日 \U0001f600 "a/b" \\ tab\there'
ESCAPED = r"Caf\u00e9 \u2122 \u65e5 \ud83d\ude00 \"a/b\" \\ tab\there"


def test_json_is_ascii() -> None:
    relation = ask("product_relation_prediction", {"product_1": GIVEN, "product_2": "Tea"})
    assert relation.text == f'{{"Product 1:": "{ESCAPED}", "Product 2:": "Tea"}}'
    product = {"title": GIVEN, "description": GIVEN, "manufacturer": GIVEN, "price": "9 €"}
    shown = f'"title": "{ESCAPED}", "description": "{ESCAPED}", "manufacturer": "{ESCAPED}", "price": "9 \\u20ac"'
    matching = ask("product_matching", {"product_1": product, "product_2": product})
    assert matching.text == f'{{"product 1": {{{shown}}}, "product 2": {{{shown}}}}}'
    extraction = ask("attribute_value_extraction", {"title": GIVEN, "brand": "Ørsted", "attributes": ["Größe", "Fit"]})
    assert extraction.text == (
        f'{{"product title": "{ESCAPED}", "product brand": "\\u00d8rsted", '
        '"target attributes": "Gr\\u00f6\\u00dfe and Fit"}'
    )
    for task in ("answerability_prediction", "answer_generation"):
        question = ask(task, {"question": GIVEN, "documents": [GIVEN, "Tea"]})
        assert question.text == f'{{"question": "{ESCAPED}", "document": ["{ESCAPED}", "Tea"]}}'


@pytest.mark.parametrize(
    "review",
    [
        GIVEN,
        "Très bon ☕ \u2013 l'eau\u00a0chaude",
        "Two\n\nlines\r\n",
        '{"not": "read"}',
        "{instruction} {options} %s \\n",
        " x ",
    ],
)
def test_a_review_is_not_changed(review: str) -> None:
    question = ask("sentiment_analysis", {"review": review})
    assert question.text == review
    assert question.options == SA_OPTIONS
    prompt = get_envelope("alpaca").prompt(question.instruction, question.text, question.options)
    assert prompt.encode().endswith(
        b"### Input:\n" + review.encode() + b"\n\n### Options:\n" + SA_OPTIONS.encode() + b"\n\n### Response:\n"
    )


@pytest.mark.parametrize(
    ("row", "shown"),
    [
        pytest.param(
            {"title": "Mug", "attributes": ["Color"]},
            '{"product title": "Mug", "target attributes": "Color"}',
            id="title alone",
        ),
        pytest.param(
            {
                "attributes": ["Sleeve Length", "Color", "Material"],
                "brand": "Harborline",
                "price": "$9",
                "feature": "warm",
                "description": "A shirt.",
                "title": "Shirt",
            },
            '{"product title": "Shirt", "product description": "A shirt.", "product feature": "warm", '
            '"product price": "$9", "product brand": "Harborline", '
            '"target attributes": "Sleeve Length and Color and Material"}',
            id="the order is ours",
        ),
        pytest.param(
            {"brand": "Harborline", "description": "A shirt.", "attributes": ["Fit", "Fit"]},
            '{"product description": "A shirt.", "product brand": "Harborline", "target attributes": "Fit and Fit"}',
            id="those that are there",
        ),
        pytest.param(
            {"title": None, "feature": "warm", "price": None, "attributes": ["Color"]},
            '{"product feature": "warm", "target attributes": "Color"}',
            id="null is not there",
        ),
        pytest.param(
            {
                "title": ["Shirt", "Blue"],
                "description": ["A shirt.", "For rain."],
                "feature": ["warm", "dry", "light"],
                "brand": ["Harborline"],
                "attributes": ["Color"],
            },
            '{"product title": "Shirt, Blue", "product description": "A shirt., For rain.", '
            '"product feature": "warm, dry, light", "product brand": "Harborline", "target attributes": "Color"}',
            id="paragraphs are joined",
        ),
        pytest.param(
            {"price": 9.5, "attributes": ["Price"]},
            '{"product price": "9.5", "target attributes": "Price"}',
            id="a price that is a number",
        ),
    ],
)
def test_extraction_shows_the_given_texts(row: dict[str, Any], shown: str) -> None:
    question = ask("attribute_value_extraction", row)
    assert question.text == shown
    assert question.options is None


def test_extraction_asks_for_the_attributes_in_the_given_texts() -> None:
    row = {"brand": "Harborline", "feature": ["warm", "dry"], "attributes": ["Sleeve Length", "Color"]}
    assert ask("attribute_value_extraction", row).space == Extraction(
        ("Sleeve Length", "Color"), {"product feature": "warm, dry", "product brand": "Harborline"}
    )


@pytest.mark.parametrize("text", ["{}", '""', "null", "7", '"ab"', '{"attribute": "a"}', '[["a"]]', "[1]", "[", ""])
def test_text_that_is_not_a_list_of_entries_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        Extraction(("Color",), {"product title": "blue"}).parse(text)


def test_a_pair_is_written_in_the_data_sets_form() -> None:
    question = ask("product_relation_prediction", {"product_2": "Apple corer", "product_1": "Zinc tub"})
    assert question.text == '{"Product 1:": "Zinc tub", "Product 2:": "Apple corer"}'
    swapped = ask("product_relation_prediction", {"product_1": "Apple corer", "product_2": "Zinc tub"})
    assert swapped.text == '{"Product 1:": "Apple corer", "Product 2:": "Zinc tub"}'


@pytest.mark.parametrize("task", ["answerability_prediction", "answer_generation"])
@pytest.mark.parametrize(
    ("documents", "shown"),
    [(["one"], '["one"]'), (["b", "a, c"], '["b", "a, c"]'), ([" 9", 9], '[" 9", "9"]')],
)
def test_documents_are_written_as_a_list(task: str, documents: list[str], shown: str) -> None:
    question = ask(task, {"documents": documents, "question": "Is it blue?"})
    assert question.text == f'{{"question": "Is it blue?", "document": {shown}}}'
    assert question.options is None
