"""Tests of rows like those of real shops: blank and missing texts, numbers, other scripts and non-ASCII characters."""

from __future__ import annotations

import io
import json
import pickle
import unicodedata
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from ecellm_lite import Answer, Runtime
from ecellm_lite.answers.decoding import Logits
from ecellm_lite.cli.show import render
from ecellm_lite.engine.fake import END, FakeBackend, scattered
from ecellm_lite.errors import InputError
from ecellm_lite.tables.json_lines import read_rows
from ecellm_lite.tasks.fields import TextsField, is_blank, text_of
from ecellm_lite.tasks.registry import TASKS
from ecellm_lite.tasks.task import Question
from ecellm_lite.tasks.transliteration import Transliteration
from ecellm_lite.tasks.written import read_json


def ask(task: str, row: Any) -> Question:
    return TASKS[task].question(row)


BLANKS = ["", " ", "\n\t", "\u00a0", "\u200b", "\ufeff \u2060", "\0"]


# Blank texts


@pytest.mark.parametrize("blank", BLANKS, ids=ascii)
@pytest.mark.parametrize(
    ("task", "row", "field"),
    [
        ("sentiment_analysis", {"review": "BLANK"}, "review"),
        ("sentiment_analysis", {"instruction": "i", "input": "BLANK", "options": '["A: x", "B: y"]'}, "input"),
        ("product_relation_prediction", {"product_1": "a", "product_2": "BLANK"}, "product_2"),
        ("product_matching", {"product_1": {"title": "BLANK"}, "product_2": {"title": "b"}}, "product_1.title"),
        ("multiclass_product_classification", {"query": "BLANK", "title": "b"}, "query"),
        ("product_substitute_identification", {"query": "a", "title": "BLANK"}, "title"),
        ("query_product_ranking", {"query": "a", "products": ["b", "BLANK"]}, "products[1]"),
        ("sequential_recommendation", {"history": ["BLANK"], "candidates": ["a", "b"]}, "history[0]"),
        ("sequential_recommendation", {"history": [1], "candidates": [{"title": "BLANK"}, "b"]}, "candidates[0].title"),
        ("answerability_prediction", {"question": "a?", "documents": ["b", "BLANK"]}, "documents[1]"),
        ("answer_generation", {"question": "BLANK", "documents": ["b"]}, "question"),
        ("attribute_value_extraction", {"title": "a", "attributes": ["BLANK"]}, "attributes[0]"),
    ],
)  # fmt: skip
def test_a_blank_text_is_an_error_that_names_its_field(task: str, row: dict[str, Any], field: str, blank: str) -> None:
    with pytest.raises(InputError) as caught:
        ask(task, json.loads(json.dumps(row).replace("BLANK", json.dumps(blank)[1:-1])))
    assert caught.value.field == field
    assert caught.value.step


@pytest.mark.parametrize("nothing", [*BLANKS, None, float("nan"), [], [""], [None, " "]], ids=ascii)
@pytest.mark.parametrize(
    ("task", "row", "place"),
    [
        ("product_matching", {"product_1": {"title": "a"}, "product_2": {"title": "b"}}, ("product_1", "price")),
        ("product_matching", {"product_1": {"title": "a"}, "product_2": {"title": "b"}}, ("product_2", "description")),
        ("product_matching", {"product_1": {"title": "a"}, "product_2": {"title": "b"}}, ("product_2", "manufacturer")),
        ("attribute_value_extraction", {"title": "a", "attributes": ["b"]}, ("price",)),
        ("attribute_value_extraction", {"title": "a", "attributes": ["b"]}, ("feature",)),
    ],
)
def test_an_empty_optional_field_counts_as_absent(
    task: str, row: dict[str, Any], place: tuple[str, ...], nothing: Any
) -> None:
    emptied = json.loads(json.dumps(row))
    at = emptied[place[0]] if len(place) > 1 else emptied
    at[place[-1]] = nothing
    assert ask(task, emptied) == ask(task, row)


def test_blank_paragraphs_are_left_out() -> None:
    row = {"description": ["A shirt.", "", None, "For rain."], "attributes": ["Color"]}
    assert '"product description": "A shirt., For rain."' in ask("attribute_value_extraction", row).text
    item = {"title": "Stove", "category": ["", "Sports", " ", "Camping"], "brand": ""}
    question = ask("sequential_recommendation", {"history": [item], "candidates": ["a", "b"]})
    assert question.text == "['1st: Stove. Sports. Camping.']"
    assert TextsField("tags", "Tags.", ["x"], required=False).read(["", "a"], "tags") == ("a",)


# Numbers


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("19.5", "19.5"),
        ("19.50", "19.50"),
        ("20", "20"),
        ("20.0", "20.0"),
        ("-0", "0"),
        ("1E3", "1E3"),
        ("4006381333931", "4006381333931"),
        ("123456789012345678901234567890", "123456789012345678901234567890"),
    ],
)
def test_a_number_keeps_its_spelling(written: str, text: str) -> None:
    row = read_json(f'{{"query": {written}, "title": {written}}}')
    question = ask("multiclass_product_classification", row)
    assert question.text == f'{{"query": "{text}", "product title": "{text}"}}'
    assert ask("multiclass_product_classification", pickle.loads(pickle.dumps(row))) == question


def test_numbers_in_a_file_of_rows_keep_their_spelling() -> None:
    [row] = read_rows(io.BytesIO(b'{"review": 19.50}\n'))
    assert not isinstance(row, InputError)
    assert ask("sentiment_analysis", row).text == "19.50"


def test_every_text_field_takes_numbers() -> None:
    assert ask("sentiment_analysis", {"review": 19.5}).text == "19.5"
    row = {"title": 501, "description": ["a", 2], "price": 9.5, "attributes": [3]}
    assert ask("attribute_value_extraction", row).text == (
        '{"product title": "501", "product description": "a, 2", "product price": "9.5", "target attributes": "3"}'
    )
    bought = {"history": [7, {"title": 1984, "brand": 4711}], "candidates": [1, 2.5]}
    question = ask("sequential_recommendation", bought)
    assert (question.text, question.options) == ("['1st: 7', '2nd: 1984.  4711.']", "['A: 1', 'B: 2.5']")


@pytest.mark.parametrize("written", ["1e400", "-1e400", "Infinity", "true", "false", "{}", "1" + "0" * 400])
def test_values_that_are_not_finite_numbers_are_refused(written: str) -> None:
    with pytest.raises(InputError) as caught:
        ask("sentiment_analysis", read_json(f'{{"review": {written}}}'))
    assert caught.value.field == "review"


@given(st.integers(-(10**30), 10**30) | st.floats(allow_nan=False, allow_infinity=False))
def test_any_finite_number_reads_back(number: float) -> None:
    assert type(number)(text_of(number) or "") == number


# To ASCII


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("Café ™", "Cafe TM"),
        ('¼" drill', '1/4" drill'),
        ("1½–2⅛ cups", "1 1/2-2 1/8 cups"),
        ("5–6 mm", "5-6 mm"),
        ("Größe Łódź Ærø Straße", "Grosse Lodz Aero Strasse"),
        ("Women’s “soft” 9″ pan", "Women's \"soft\" 9\" pan"),
        ("10 × 20 cm, ±1", "10 x 20 cm, +-1"),
        ("180° hinge, 30 ℃", "180deg hinge, 30 degC"),
        ("5 µm 5 μm 10 kΩ 10 k\u2126", "5 um 5 um 10 kohm 10 kohm"),
        ("£5 €6", "GBP5 EUR6"),
        ("x² ２Ｌ ﬁt …", "x2 2L fit ..."),
        ("★ Bosch® ☕ ↔", " Bosch  "),
        ("a\u200bb\u00a0c", "ab c"),
    ],
)  # fmt: skip
def test_symbols_and_latin_letters_become_ascii(text: str, written: str) -> None:
    question = ask("product_substitute_identification", {"query": text, "title": "x"})
    assert json.loads(question.text)["query"] == written
    assert not question.warnings


@pytest.mark.parametrize(
    ("text", "written", "count"),
    [("子供 靴", " ", 3), ("Кофе café", " cafe", 4), ("한국어", "", 3), ("μπλε", "", 4), ("हिन्दी", "", 3)],
)
def test_letters_of_other_scripts_are_dropped_and_counted(text: str, written: str, count: int) -> None:
    rows = {
        "multiclass_product_classification": {"query": text, "title": "shoe"},
        "product_substitute_identification": {"query": "shoe", "title": text},
        "query_product_ranking": {"query": "shoe", "products": ["shoe", text]},
    }
    for task, row in rows.items():
        question = ask(task, row)
        [warning] = question.warnings
        assert warning.code == "characters_dropped"
        assert str(count) in warning.message.split()
        assert json.dumps(written)[1:-1] in question.text
    assert "products[1]" in warning.message


def test_a_row_in_the_data_sets_form_is_not_transliterated() -> None:
    text = '{"query": "子供 ½", "product": "x"}'
    question = ask("product_substitute_identification", {"instruction": "i", "input": text})
    assert question.text == text
    assert not question.warnings


@given(st.text())
def test_text_is_transliterated_as_in_the_training_data(text: str) -> None:
    transliteration = Transliteration()
    written = transliteration.write("query", text)
    assert written.isascii()
    plain = "".join(part for part in unicodedata.normalize("NFKD", text) if unicodedata.category(part)[0] != "M")
    if plain.isascii() and "´" not in text:
        assert written == plain
        assert not transliteration.warnings


# The answers' warnings


def unwilling(tokens: Sequence[int]) -> Logits:
    """Return the logits of a simulated model that ends every answer at once."""
    logits = scattered(tokens)
    logits[END] = 12
    return logits


def willing(tokens: Sequence[int]) -> Logits:
    """Return the logits of a simulated model that answers "yes" or "no"."""
    logits = scattered(tokens)
    logits[[ord("y"), ord("n")]] = 12, 11
    return logits


def test_an_answer_carries_its_warnings() -> None:
    rows: list[Any] = [{"query": "子供 shoe", "title": "shoe"}, {"query": "kids' shoe", "title": "shoe"}, {}]
    with Runtime.over(FakeBackend(willing)) as runtime:
        dropping, fitting, failed = runtime.answers("product_substitute_identification", rows)
    assert [warning.code for warning in dropping.warnings or ()] == ["characters_dropped"]
    assert (dropping.error, dropping.value) == (None, True)
    assert fitting.warnings is None
    assert failed.warnings is None
    assert Answer.from_dict(json.loads(json.dumps(dropping.as_dict()))) == dropping


def test_low_coverage_is_a_warning() -> None:
    row = {"query": "子供", "title": "shoe"}
    with Runtime.over(FakeBackend(unwilling)) as runtime:
        answer = runtime.answer("product_substitute_identification", row)
        text = runtime.answer("answer_generation", {"question": "a?", "documents": ["b"]})
    assert [warning.code for warning in answer.warnings or ()] == ["characters_dropped", "low_coverage"]
    assert answer.coverage is not None
    assert answer.coverage < 0.01
    assert text.warnings is None


def test_a_terminal_shows_the_warnings() -> None:
    row = {"query": "子供", "title": "shoe"}
    terminal = Console(file=io.StringIO(), width=200)
    with Runtime.over(FakeBackend(unwilling)) as runtime:
        answer = runtime.answer("product_substitute_identification", row)
    terminal.print(render(answer, ask("product_substitute_identification", row).space))
    assert isinstance(terminal.file, io.StringIO)
    lines = terminal.file.getvalue().splitlines()
    for warning in answer.warnings or ():
        assert sum(warning.message in line for line in lines) == 1


@given(st.dictionaries(st.sampled_from(["title", "description", "feature", "price", "brand"]), st.text() | st.none()))
def test_any_texts_are_taken_unless_all_are_blank(texts: dict[str, Any]) -> None:
    there = [text for text in texts.values() if text is not None and not is_blank(text)]
    with nullcontext() if there else pytest.raises(InputError, match="title"):
        assert ask("attribute_value_extraction", {**texts, "attributes": ["Color"]}).values
