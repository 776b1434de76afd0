"""Tests that products and items in a prompt are cut, quoted and numbered as in ECInstruct.

The expected texts were written by hand.
"""

from __future__ import annotations

from typing import Any

import pytest

from ecellm_lite.answers.choice import Choice
from ecellm_lite.answers.options import Option
from tests.support.questions import ask

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
def test_matching_shows_a_missing_field_as_nan(product: dict[str, Any], shown: str) -> None:
    other = '{"title": "o", "description": NaN, "manufacturer": "nan", "price": "nan"}'
    first = ask("product_matching", {"product_1": product, "product_2": {"title": "o"}})
    assert first.text == f'{{"product 1": {shown}, "product 2": {other}}}'
    second = ask("product_matching", {"product_2": product, "product_1": {"title": "o"}})
    assert second.text == f'{{"product 1": {other}, "product 2": {shown}}}'


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
def test_items_are_written_by_title_category_and_brand(item: Any, shown: str) -> None:
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
def test_the_last_50_items_of_the_history_are_numbered_from_1st(bought: int) -> None:
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


def test_26_candidates_are_lettered_a_to_z() -> None:
    row = {"history": ["Tent"], "candidates": ["Mug"] * 26}
    question = ask("sequential_recommendation", row)
    assert question.options is not None
    assert question.options == "[" + ", ".join(f"'{letter}: Mug'" for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ") + "]"
    assert question.space == Choice(tuple(Option(letter, letter) for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"))
