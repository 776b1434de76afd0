r"""The quirks of ECInstruct's wire format, each with its text written out by hand, and what is said about a bad row."""

from __future__ import annotations

from typing import Any

import pytest

from ecellm_lite.answers.choice import Choice
from ecellm_lite.answers.extraction import Extraction
from ecellm_lite.answers.options import Option
from ecellm_lite.answers.predicate import Predicate
from ecellm_lite.answers.ranking import Ranking
from ecellm_lite.answers.text import Text
from ecellm_lite.envelopes import ENVELOPES, get_envelope
from ecellm_lite.errors import InputError, UsageError
from ecellm_lite.tasks.registry import TASKS, get_task
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

ORDINALS = (
    "1st 2nd 3rd 4th 5th 6th 7th 8th 9th 10th 11th 12th 13th 14th 15th 16th 17th 18th 19th 20th 21st 22nd 23rd 24th "
    "25th 26th 27th 28th 29th 30th 31st 32nd 33rd 34th 35th 36th 37th 38th 39th 40th 41st 42nd 43rd 44th 45th 46th "
    "47th 48th 49th 50th"
)

W23 = "w1 w2 w3 w4 w5 w6 w7 w8 w9 w10 w11 w12 w13 w14 w15 w16 w17 w18 w19 w20 w21 w22 w23"
W24 = f"{W23} w24"
W25 = f"{W24} w25"
W48 = f"{W25} w26 w27 w28 w29 w30 w31 w32 w33 w34 w35 w36 w37 w38 w39 w40 w41 w42 w43 w44 w45 w46 w47 w48"
W49 = f"{W48} w49"
W50 = f"{W49} w50"


def ask(task: str, row: Any, **options: Any) -> Question:
    return get_task(task).question(row, **options)


def refusal(task: str, row: Any) -> InputError:
    with pytest.raises(InputError) as caught:
        ask(task, row)
    assert caught.value.step
    return caught.value


# The names


@pytest.mark.parametrize(("name", "hub_name", "abbreviation"), NAMES)
def test_a_task_is_found_by_each_of_its_names(name: str, hub_name: str, abbreviation: str) -> None:
    for given in (name, hub_name, abbreviation, abbreviation.lower(), hub_name.upper()):
        assert get_task(given).name == name
    assert (get_task(name).hub_name, get_task(name).abbreviation) == (hub_name, abbreviation)


def test_there_are_ten_tasks() -> None:
    assert tuple(TASKS) == tuple(name for name, _, _ in NAMES)


@pytest.mark.parametrize(
    ("given", "near"),
    [
        ("sentiment_analisys", "sentiment_analysis"),
        ("Product-Match", "product_matching"),
        ("query_product_ranker", "query_product_ranking"),
        ("answer generation", "answer_generation"),
        ("ave2", "attribute_value_extraction"),
        ("multi_class_classification", "multiclass_product_classification"),
    ],
)
def test_an_unknown_task_names_near_ones(given: str, near: str) -> None:
    with pytest.raises(UsageError) as caught:
        get_task(given)
    assert repr(given) in caught.value.message
    assert near in (caught.value.step or "")


def test_an_unknown_task_with_none_near_lists_them() -> None:
    with pytest.raises(UsageError) as caught:
        get_task("qqqq")
    assert all(name in (caught.value.step or "") for name in TASKS)


# Product_Matching


@pytest.mark.parametrize(
    ("description", "shown"),
    [
        pytest.param(W50, W50, id="50 words stay"),
        pytest.param(f"{W49} w50.", f"{W49} w50.", id="50 words keep their last dot"),
        pytest.param(f"{W50} w51", f"{W50}...", id="51 words are cut"),
        pytest.param(f"{W50}. w51 w52", f"{W50}...", id="the dot before the cut goes"),
        pytest.param(f"{W50}... w51", f"{W50}...", id="all dots before the cut go"),
        pytest.param(f".{W50} w51", f"{W50}...", id="so do those at the very beginning"),
        pytest.param(f".{W49} w50.", f".{W49} w50.", id="which stay where nothing is cut"),
        pytest.param(f"{W50}, w51", f"{W50},...", id="a comma before the cut stays"),
        pytest.param(f"{W48}  w49", f"{W48}  w49", id="a double space is a word: 50"),
        pytest.param(f"{W49}  w50", f"{W49} ...", id="a double space is a word: 51"),
        pytest.param(f"w0  {W49}", f"w0  {W48}...", id="a double space before the cut stays"),
        pytest.param(f"{W50} ", f"{W50}...", id="a space at the end is a word too"),
        pytest.param(f"{W50}\tw51", f"{W50}\\tw51", id="a tab parts no words"),
        pytest.param(f"{W50}\nw51", f"{W50}\\nw51", id="nor does a newline"),
    ],
)
@pytest.mark.parametrize("place", [1, 2])
def test_matching_cuts_the_description_at_50_words(description: str, shown: str, place: int) -> None:
    full = {"title": "press", "description": description, "manufacturer": "brewline", "price": "9.90"}
    bare = {"title": "pot", "description": "short.", "manufacturer": "harbor", "price": "7"}
    expected = f'{{"title": "press", "description": "{shown}", "manufacturer": "brewline", "price": "9.90"}}'
    other = '{"title": "pot", "description": "short.", "manufacturer": "harbor", "price": "7"}'
    if place == 1:
        question = ask("product_matching", {"product_1": full, "product_2": bare})
        assert question.text == f'{{"product 1": {expected}, "product 2": {other}}}'
    else:
        question = ask("product_matching", {"product_1": bare, "product_2": full})
        assert question.text == f'{{"product 1": {other}, "product 2": {expected}}}'


@pytest.mark.parametrize(
    ("product", "shown"),
    [
        ({"title": "t"}, '{"title": "t", "description": NaN, "manufacturer": "nan", "price": "nan"}'),
        (
            {"title": "t", "description": None, "manufacturer": None, "price": None},
            '{"title": "t", "description": NaN, "manufacturer": "nan", "price": "nan"}',
        ),
        (
            {"title": "t", "description": "d"},
            '{"title": "t", "description": "d", "manufacturer": "nan", "price": "nan"}',
        ),
        (
            {"title": "t", "manufacturer": "m"},
            '{"title": "t", "description": NaN, "manufacturer": "m", "price": "nan"}',
        ),
        (
            {"title": "t", "price": "89.90"},
            '{"title": "t", "description": NaN, "manufacturer": "nan", "price": "89.90"}',
        ),
        (
            {"title": "t", "price": 89.95},
            '{"title": "t", "description": NaN, "manufacturer": "nan", "price": "89.95"}',
        ),
        ({"title": "t", "price": 90}, '{"title": "t", "description": NaN, "manufacturer": "nan", "price": "90"}'),
        ({"title": "t", "price": 0}, '{"title": "t", "description": NaN, "manufacturer": "nan", "price": "0"}'),
        (
            {"price": "1", "manufacturer": "m", "description": "d", "title": "t", "colour": "red"},
            '{"title": "t", "description": "d", "manufacturer": "m", "price": "1"}',
        ),
    ],
)
def test_matching_shows_what_is_missing_as_nan(product: dict[str, Any], shown: str) -> None:
    other = '{"title": "o", "description": NaN, "manufacturer": "nan", "price": "nan"}'
    first = ask("product_matching", {"product_1": product, "product_2": {"title": "o"}})
    assert first.text == f'{{"product 1": {shown}, "product 2": {other}}}'
    second = ask("product_matching", {"product_2": product, "product_1": {"title": "o"}})
    assert second.text == f'{{"product 1": {other}, "product 2": {shown}}}'


# Sequential_Recommendation


@pytest.mark.parametrize(
    ("item", "shown"),
    [
        pytest.param("Camping stove", "Camping stove", id="a text stands as it is"),
        pytest.param("Stove..", "Stove..", id="with its dots"),
        pytest.param(W25, W25, id="25 words stay"),
        pytest.param(f"{W25} w26", f"{W25}...", id="26 words are cut"),
        pytest.param(f"{W25}. w26 w27", f"{W25}...", id="the dot before the cut goes"),
        pytest.param(f".{W25}.. w26", f"{W25}...", id="and those at both ends"),
        pytest.param(f"{W23}  w24", f"{W23}  w24", id="a double space is a word: 25"),
        pytest.param(f"{W24}  w25", f"{W24} ...", id="a double space is a word: 26"),
        pytest.param({"title": "Stove"}, "Stove.", id="a title alone"),
        pytest.param(
            {"title": "Stove", "category": ["Sports & Outdoors", "Camping", "Cooking"], "brand": "Emberly"},
            "Stove. Sports & Outdoors. Camping. Emberly.",
            id="the first two levels",
        ),
        pytest.param(
            {"brand": "Emberly", "category": ["Sports & Outdoors"], "title": "Stove", "price": "9"},
            "Stove. Sports & Outdoors. Emberly.",
            id="one level, keys in another order",
        ),
        pytest.param(
            {"title": "Stove", "category": ["Sports & Outdoors", "Camping"]},
            "Stove. Sports & Outdoors. Camping.",
            id="no brand",
        ),
        pytest.param(
            {"title": "Stove.", "category": ["Sports..", "Camping"], "brand": "Emberly Co..."},
            "Stove. Sports. Camping. Emberly Co.",
            id="each part ends in one dot",
        ),
        pytest.param(
            {"title": 'Pan, 12" "Pro"', "category": ['"Kitchen"'], "brand": 'Iron"works'},
            "Pan, 12 Pro. Kitchen. Ironworks.",
            id="no double quotes",
        ),
        pytest.param(
            {"title": "Pan,\n12 inch\r\n", "category": ["Kitchen\n", "Cook\nware"], "brand": "Iron\nworks"},
            "Pan,12 inch. Kitchen. Cookware. Ironworks.",
            id="no newlines",
        ),
        pytest.param(
            {"title": W23, "category": ["Camping"], "brand": "Emberly"},
            f"{W23}. Camping. Emberly.",
            id="25 words of title, category and brand stay",
        ),
        pytest.param(
            {"title": W24, "category": ["Camping"], "brand": "Emberly"},
            f"{W24}. Camping...",
            id="26 words of title, category and brand are cut",
        ),
        pytest.param({"title": f"{W25} w26"}, f"{W25}...", id="a long title is cut once"),
    ],
)
def test_items(item: Any, shown: str) -> None:
    question = ask("sequential_recommendation", {"history": ["Tent", item], "candidates": [item, "Lamp"]})
    assert question.text == f"['1st: Tent', '2nd: {shown}']"
    assert question.options == f"['A: {shown}', 'B: Lamp']"


@pytest.mark.parametrize(
    ("item", "first", "last"),
    [
        pytest.param("Mug", "'1st: Mug'", "'B: Mug'", id="plain"),
        pytest.param("Children's Mug", '''"1st: Children's Mug"''', '''"B: Children's Mug"''', id="apostrophe"),
        pytest.param('9" Pan', """'1st: 9" Pan'""", """'B: 9" Pan'""", id="double quote"),
        pytest.param(
            """Chef's 9" Pan""", r"""'1st: Chef\'s 9" Pan'""", r"""'B: Chef\'s 9" Pan'""", id="both kinds of quotes"
        ),
        pytest.param("Back\\slash", r"'1st: Back\\slash'", r"'B: Back\\slash'", id="backslash"),
        pytest.param("Two\nlines", r"'1st: Two\nlines'", r"'B: Two\nlines'", id="newline"),
        pytest.param("Café ™ 日本 ☕", "'1st: Café ™ 日本 ☕'", "'B: Café ™ 日本 ☕'", id="raw beyond ASCII"),
        pytest.param("20\u00a0L Bag", r"'1st: 20\xa0L Bag'", r"'B: 20\xa0L Bag'", id="a space that Python escapes"),
    ],
)
def test_items_are_quoted_as_python_does(item: str, first: str, last: str) -> None:
    question = ask("sequential_recommendation", {"history": [item, "Tent"], "candidates": ["Lamp", item]})
    assert question.text == f"[{first}, '2nd: Tent']"
    assert question.options == f"['A: Lamp', {last}]"


@pytest.mark.parametrize("bought", [1, 2, 13, 23, 49, 50, 51, 53, 120])
def test_the_last_50_of_the_history_count_from_1st(bought: int) -> None:
    row = {"history": [f"item {number}" for number in range(1, bought + 1)], "candidates": ["Lamp", "Mug"]}
    oldest = max(1, bought - 49)
    shown = [f"'{ORDINALS.split()[number - oldest]}: item {number}'" for number in range(oldest, bought + 1)]
    text = ask("sequential_recommendation", row).text
    assert text == f"[{', '.join(shown)}]"
    if bought == 53:
        assert text.startswith("['1st: item 4', '2nd: item 5', '3rd: item 6', '4th: item 7', ")
        assert "'11th: item 14', '12th: item 15', '13th: item 16', '14th: item 17'" in text
        assert "'21st: item 24', '22nd: item 25', '23rd: item 26', '24th: item 27'" in text
        assert text.endswith(", '49th: item 52', '50th: item 53']")


def test_26_candidates_go_from_a_to_z() -> None:
    row = {"history": ["Tent"], "candidates": ["Mug"] * 26}
    question = ask("sequential_recommendation", row)
    assert question.options is not None
    assert question.options == "[" + ", ".join(f"'{letter}: Mug'" for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ") + "]"
    assert question.space == Choice(tuple(Option(letter, letter) for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"))


# Query tasks: to ASCII


@pytest.mark.parametrize(
    ("given", "shown"),
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
def test_queries_and_their_titles_become_ascii(given: str, shown: str) -> None:
    row = {"query": given, "title": given}
    classification = ask("multiclass_product_classification", row)
    assert classification.text == f'{{"query": "{shown}", "product title": "{shown}"}}'
    substitute = ask("product_substitute_identification", row)
    assert substitute.text == f'{{"query": "{shown}", "product": "{shown}"}}'
    ranking = ask("query_product_ranking", {"query": given, "products": [given, "plain", given]})
    assert ranking.text == f'{{"query": "{shown}", "product list": ["A: {shown}", "B: plain", "C: {shown}"]}}'


# The others: escaped in JSON, raw where there is none

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
def test_a_review_stands_as_it_is(review: str) -> None:
    question = ask("sentiment_analysis", {"review": review})
    assert question.text == review
    assert question.options == SA_OPTIONS
    prompt = get_envelope("alpaca").prompt(question.instruction, question.text, question.options)
    assert prompt.encode().endswith(
        b"### Input:\n" + review.encode() + b"\n\n### Options:\n" + SA_OPTIONS.encode() + b"\n\n### Response:\n"
    )


# Attribute_Value_Extraction


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
def test_extraction_texts(row: dict[str, Any], shown: str) -> None:
    question = ask("attribute_value_extraction", row)
    assert question.text == shown
    assert question.options is None


def test_extraction_asks_for_the_attributes_in_the_given_texts() -> None:
    row = {"brand": "Harborline", "feature": ["warm", "dry"], "attributes": ["Sleeve Length", "Color"]}
    assert ask("attribute_value_extraction", row).space == Extraction(
        ("Sleeve Length", "Color"), {"product feature": "warm, dry", "product brand": "Harborline"}
    )


@pytest.mark.parametrize("text", ["{}", '""', "null", "7", '"ab"', '{"attribute": "a"}', '[["a"]]', "[1]", "[", ""])
def test_what_is_no_list_of_entries_is_no_extraction(text: str) -> None:
    with pytest.raises(InputError, match="is not a JSON list of attribute"):
        Extraction(("Color",), {"product title": "blue"}).parse(text)


# Product_Relation_Prediction, Answerability_Prediction, Answer_Generation


def test_a_pair_keeps_the_colon_in_its_keys_and_the_users_order() -> None:
    question = ask("product_relation_prediction", {"product_2": "Apple corer", "product_1": "Zinc tub"})
    assert question.text == '{"Product 1:": "Zinc tub", "Product 2:": "Apple corer"}'
    swapped = ask("product_relation_prediction", {"product_1": "Apple corer", "product_2": "Zinc tub"})
    assert swapped.text == '{"Product 1:": "Apple corer", "Product 2:": "Zinc tub"}'


@pytest.mark.parametrize("task", ["answerability_prediction", "answer_generation"])
@pytest.mark.parametrize(
    ("documents", "shown"),
    [(["one"], '["one"]'), (["b", "a, c"], '["b", "a, c"]'), ([" 9", 9], '[" 9", "9"]')],
)
def test_documents_are_a_list(task: str, documents: list[str], shown: str) -> None:
    question = ask(task, {"documents": documents, "question": "Is it blue?"})
    assert question.text == f'{{"question": "Is it blue?", "document": {shown}}}'
    assert question.options is None


# Options and answers

FIXED_OPTIONS = {
    "product_relation_prediction": PRP_OPTIONS,
    "sentiment_analysis": SA_OPTIONS,
    "multiclass_product_classification": MPC_OPTIONS,
}
WITH_OPTIONS = {*FIXED_OPTIONS, "sequential_recommendation"}


@pytest.mark.parametrize("name", [name for name, _, _ in NAMES])
@pytest.mark.parametrize("envelope", ENVELOPES)
def test_the_options_block_is_there_only_with_options(name: str, envelope: str) -> None:
    question = ask(name, get_task(name).example())
    prompt = get_envelope(envelope).prompt(question.instruction, question.text, question.options)
    assert ("Options:" in prompt) == (name in WITH_OPTIONS)
    assert (question.options is not None) == (name in WITH_OPTIONS)
    if name in FIXED_OPTIONS:
        assert question.options == FIXED_OPTIONS[name]


@pytest.mark.parametrize("envelope", ["alpaca", "mistral"])
@pytest.mark.parametrize("options", [None, ""])
def test_a_prompt_without_options(envelope: str, options: str | None) -> None:
    opening = (
        "Below is an instruction that describes a task, paired with an input that provides further context. "
        "Write a response that appropriately completes the request."
    )
    expected = {
        "alpaca": f"{opening}\n\n### Instruction:\nDo.\n\n### Input:\nThis.\n\n### Response:\n",
        "mistral": f"[INST] {opening}\n\n### Instruction:\nDo.\n\n### Input:\nThis.\n\n [/INST] ### Response:\n",
    }
    assert get_envelope(envelope).prompt("Do.", "This.", options) == expected[envelope]


def test_the_answers_of_the_fixed_options() -> None:
    letters = Choice((Option("A", "A"), Option("B", "B"), Option("C", "C")))
    assert ask("product_relation_prediction", {"product_1": "a", "product_2": "b"}).space == letters
    assert ask("sequential_recommendation", {"history": ["a"], "candidates": ["b", "c", "d"]}).space == letters
    assert ask("sentiment_analysis", {"review": "Good."}).space == Choice(
        (
            Option("A", "A: very positive"),
            Option("B", "B: positive"),
            Option("C", "C: neutral"),
            Option("D", "D: negative"),
            Option("E", "E: very negative"),
        )
    )
    assert ask("multiclass_product_classification", {"query": "a", "title": "b"}).space == Choice(
        (
            Option("A", "A: The product is relevant to the query, and satisfies all the query specifications."),
            Option(
                "B",
                "B: The product is somewhat relevant. It fails to fulfill some aspects of the query but the product "
                "can be used as a functional substitute.",
            ),
            Option(
                "C",
                "C: The product does not fulfill the query, but could be used in combination with a product exactly "
                "matching the query.",
            ),
            Option("D", "D: The product is irrelevant to the query."),
        )
    )


def test_the_other_answers() -> None:
    for name in ("product_matching", "product_substitute_identification", "answerability_prediction"):
        assert ask(name, get_task(name).example()).space == Predicate()
    ranking = ask("query_product_ranking", {"query": "a", "products": ["b", "c", "d", "e"]})
    assert ranking.space == Ranking(("A", "B", "C", "D"))
    assert ask("answer_generation", {"question": "a?", "documents": ["b"]}).space == Text(max_tokens=100)


# Rows in the data set's own form, whose strings no field of ours would give


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
def test_a_row_of_the_data_set_is_taken_as_it_stands(task: str, text: str, options: str | None, space: object) -> None:
    row = {"instruction": "Do as I say. ", "input": text, "options": options, "output": "B", "split": "test"}
    question = ask(task, row)
    assert (question.instruction, question.text, question.options) == ("Do as I say. ", text, options)
    assert question.space == space


@pytest.mark.parametrize("options", [{}, {"options": None}, {"options": ""}])
def test_a_row_of_the_data_set_may_have_no_options(options: dict[str, Any]) -> None:
    question = ask("product_matching", {"instruction": "Same?", "input": "{}", **options})
    assert question == Question("Same?", "{}", None, Predicate())


@pytest.mark.parametrize(
    ("task", "row", "message"),
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
def test_a_bad_row_of_the_data_set_is_refused(task: str, row: dict[str, Any], message: str) -> None:
    error = refusal(task, row)
    assert message in error.message
    assert error.field in {None, "instruction", "input", "options"}


# Nested rows, another instruction


@pytest.mark.parametrize("name", [name for name, _, _ in NAMES])
def test_fields_may_stand_under_input(name: str) -> None:
    example = get_task(name).example()
    fields = {key: value for key, value in example.items() if key != "id"}
    assert ask(name, {"id": "r1", "task": name, "input": fields, "output": "B"}) == ask(name, example)


def test_a_nested_row_written_out() -> None:
    row = {
        "id": 7,
        "task": "product_substitute_identification",
        "input": {"query": "mug", "title": "Cup"},
        "title": "no",
    }
    question = ask("product_substitute_identification", row)
    assert question.text == '{"query": "mug", "product": "Cup"}'


@pytest.mark.parametrize("name", [name for name, _, _ in NAMES])
def test_another_instruction(name: str) -> None:
    example = get_task(name).example()
    seed = ask(name, example)
    other = ask(name, example, instruction="Décide: {input}?")
    assert other.instruction == "Décide: {input}?" != seed.instruction
    assert (other.text, other.options, other.space) == (seed.text, seed.options, seed.space)
    prompt = get_envelope("mistral").prompt(other.instruction, other.text, other.options)
    assert f"### Instruction:\nDécide: {{input}}?\n\n### Input:\n{seed.text}\n\n" in prompt


# What is said about a bad row


@pytest.mark.parametrize(
    ("task", "row", "field", "given"),
    [
        ("attribute_value_extraction", {"title": "Mug"}, "attributes", "title"),
        ("attribute_value_extraction", {"title": "Mug", "attribute": ["Color"]}, "attributes", "'attribute'"),
        ("product_relation_prediction", {"first": "a", "product_2": "b"}, "product_1", "product_2"),
        ("product_relation_prediction", {"product_1": "a", "second": "b"}, "product_2", "product_1"),
        ("product_matching", {"left": {"title": "a"}, "right": {"title": "b"}}, "product_1", "'left', 'right'"),
        ("product_matching", {"product_1": {"title": "a"}, "right": {"title": "b"}}, "product_2", "product_1"),
        ("product_matching", {"product_1": {"name": "a"}, "product_2": {"title": "b"}}, "product_1.title", "name"),
        ("product_matching", {"product_1": {"title": "a"}, "product_2": {}}, "product_2.title", "nothing"),
        ("sentiment_analysis", {}, "review", "nothing"),
        ("sentiment_analysis", {"id": 3, "comment": "Good."}, "review", "'id', 'comment'"),
        ("sentiment_analysis", {"reviw": "Good."}, "review", "'reviw'"),
        ("sentiment_analysis", {"input": {"text": "Good."}}, "review", "text"),
        ("sequential_recommendation", {"candidates": ["a", "b"]}, "history", "candidates"),
        ("sequential_recommendation", {"history": ["a"], "candidate": ["a", "b"]}, "candidates", "'candidate'"),
        (
            "sequential_recommendation",
            {"history": [{"brand": "b"}], "candidates": ["a", "b"]},
            "history[0].title",
            "brand",
        ),
        ("sequential_recommendation", {"history": ["a"], "candidates": ["a", {}]}, "candidates[1].title", "nothing"),
        ("multiclass_product_classification", {"title": "Mug"}, "query", "title"),
        ("multiclass_product_classification", {"query": "mug"}, "title", "query"),
        ("product_substitute_identification", {"title": "Mug"}, "query", "title"),
        ("product_substitute_identification", {"query": "mug"}, "title", "query"),
        ("query_product_ranking", {"products": ["Mug"]}, "query", "products"),
        ("query_product_ranking", {"query": "mug"}, "products", "query"),
        ("query_product_ranking", {"query": "mug", "product": ["Mug"]}, "products", "'product'"),
        ("answerability_prediction", {"documents": ["a"]}, "question", "documents"),
        ("answerability_prediction", {"question": "a?"}, "documents", "question"),
        ("answer_generation", {"documents": ["a"]}, "question", "documents"),
        ("answer_generation", {"question": "a?", "document": ["a"]}, "documents", "'document'"),
    ],
)
def test_a_missing_field(task: str, row: dict[str, Any], field: str, given: str) -> None:
    error = refusal(task, row)
    assert error.field == field
    assert given in error.message
    assert f'for example {{"{bare(field)}": ' in (error.step or "")


@pytest.mark.parametrize("value", [None, float("nan")])
def test_null_counts_as_missing(value: float | None) -> None:
    assert refusal("sentiment_analysis", {"review": value}).field == "review"


@pytest.mark.parametrize("row", [{"name": "Mug"}, {"title": " ", "description": ["", "\u200b"], "price": ""}])
def test_extraction_needs_at_least_one_text(row: dict[str, Any]) -> None:
    error = refusal("attribute_value_extraction", {"attributes": ["Color"], **row})
    for field in ("title", "description", "feature", "price", "brand"):
        assert field in error.message
    assert 'for example {"title": ' in (error.step or "")


@pytest.mark.parametrize(
    ("task", "row", "field", "given"),
    [
        ("attribute_value_extraction", {"title": True, "attributes": ["a"]}, "title", "true"),
        ("attribute_value_extraction", {"description": ["a", True], "attributes": ["a"]}, "description[1]", "true"),
        ("attribute_value_extraction", {"feature": {"a": "b"}, "attributes": ["a"]}, "feature", '{"a": "b"}'),
        ("attribute_value_extraction", {"price": ["$3"], "attributes": ["a"]}, "price", '["$3"]'),
        ("attribute_value_extraction", {"price": True, "attributes": ["a"]}, "price", "true"),
        ("attribute_value_extraction", {"brand": float("inf"), "attributes": ["a"]}, "brand", "Infinity"),
        ("attribute_value_extraction", {"title": "a", "attributes": "Color"}, "attributes", '"Color"'),
        ("attribute_value_extraction", {"title": "a", "attributes": []}, "attributes", "[]"),
        ("attribute_value_extraction", {"title": "a", "attributes": ["a", None]}, "attributes[1]", "null"),
        ("product_relation_prediction", {"product_1": False, "product_2": "b"}, "product_1", "false"),
        ("product_relation_prediction", {"product_1": "a", "product_2": {"title": "b"}}, "product_2", '{"title": "b"}'),
        ("product_matching", {"product_1": "a", "product_2": {"title": "b"}}, "product_1", '"a"'),
        ("product_matching", {"product_1": {"title": "a"}, "product_2": ["b"]}, "product_2", '["b"]'),
        ("product_matching", {"product_1": {"title": []}, "product_2": {"title": "b"}}, "product_1.title", "[]"),
        (
            "product_matching",
            {"product_1": {"title": "a"}, "product_2": {"title": "b", "description": ["c"]}},
            "product_2.description",
            '["c"]',
        ),
        (
            "product_matching",
            {"product_1": {"title": "a", "manufacturer": {"x": 1}}, "product_2": {"title": "b"}},
            "product_1.manufacturer",
            '{"x": 1}',
        ),
        (
            "product_matching",
            {"product_1": {"title": "a", "price": False}, "product_2": {"title": "b"}},
            "product_1.price",
            "false",
        ),
        ("sentiment_analysis", {"review": 10**400}, "review", "1000"),
        ("sentiment_analysis", {"review": ["Good."]}, "review", '["Good."]'),
        ("sequential_recommendation", {"history": "a", "candidates": ["a", "b"]}, "history", '"a"'),
        ("sequential_recommendation", {"history": ["a", True], "candidates": ["a", "b"]}, "history[1]", "true"),
        ("sequential_recommendation", {"history": ["a"], "candidates": ["a"]}, "candidates", '["a"]'),
        ("sequential_recommendation", {"history": ["a"], "candidates": ["a", ["b"]]}, "candidates[1]", '["b"]'),
        (
            "sequential_recommendation",
            {"history": [{"title": "a", "category": "b"}], "candidates": ["a", "b"]},
            "history[0].category",
            '"b"',
        ),
        (
            "sequential_recommendation",
            {"history": ["a"], "candidates": ["a", {"title": "b", "brand": ["c"]}]},
            "candidates[1].brand",
            '["c"]',
        ),
        ("multiclass_product_classification", {"query": ["c"], "title": "a"}, "query", '["c"]'),
        ("multiclass_product_classification", {"query": "a", "title": ["b"]}, "title", '["b"]'),
        ("product_substitute_identification", {"query": True, "title": "a"}, "query", "true"),
        ("product_substitute_identification", {"query": "a", "title": False}, "title", "false"),
        ("query_product_ranking", {"query": {}, "products": ["a"]}, "query", "{}"),
        ("query_product_ranking", {"query": "a", "products": "b"}, "products", '"b"'),
        ("query_product_ranking", {"query": "a", "products": [{"title": "b"}]}, "products[0]", '{"title": "b"}'),
        ("query_product_ranking", {"query": "a", "products": []}, "products", "[]"),
        ("answerability_prediction", {"question": True, "documents": ["a"]}, "question", "true"),
        ("answerability_prediction", {"question": "a?", "documents": "b"}, "documents", '"b"'),
        ("answer_generation", {"question": ["a?"], "documents": ["b"]}, "question", '["a?"]'),
        ("answer_generation", {"question": "a?", "documents": [False]}, "documents[0]", "false"),
    ],
)
def test_a_field_of_the_wrong_type(task: str, row: dict[str, Any], field: str, given: str) -> None:
    error = refusal(task, row)
    assert error.field == field
    assert given in error.message
    assert f'for example {{"{bare(field)}": ' in (error.step or "")
    # Nested, the error is the same.
    assert str(refusal(task, {"id": 1, "task": task, "input": row})) == str(error)


def bare(field: str) -> str:
    """The field's own name: `candidates[1].brand` is `brand`, `history[0]` is `history`."""
    return field.split(".")[-1].split("[")[0]


@pytest.mark.parametrize(
    ("task", "field", "row"),
    [
        ("sequential_recommendation", "candidates", {"history": ["a"], "candidates": ["b"] * 27}),
        ("query_product_ranking", "products", {"query": "a", "products": ["b"] * 27}),
    ],
)
def test_there_are_26_letters(task: str, field: str, row: dict[str, Any]) -> None:
    error = refusal(task, row)
    assert error.field == field
    assert "27" in error.message
    assert "26" in (error.step or "")


@pytest.mark.parametrize("row", ["Good.", 3, None, ["Good."]])
def test_a_row_that_is_no_object(row: Any) -> None:
    error = refusal("sentiment_analysis", row)
    assert "sentiment_analysis" in error.message
    assert {"Good.": '"Good."', "3": "3", "None": "null"}.get(str(row), '["Good."]') in error.message
    assert "review" in (error.step or "")
