"""Tests of extractions: the place of each value in the row, and attributes with several values."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecellm_lite import InputError, Runtime
from ecellm_lite.answers.answer import Answer
from ecellm_lite.answers.attribute_forms import AttributeForm
from ecellm_lite.answers.decoding import Logits
from ecellm_lite.answers.extraction import Extraction
from ecellm_lite.answers.spans import SourceText
from ecellm_lite.engine.fake import FakeBackend, FakeVocabulary, scattered
from ecellm_lite.tasks.fields import is_blank
from ecellm_lite.tasks.registry import TASKS
from tests.support.decoding import decoded, writes
from tests.support.refusals import refusal

AVE = "attribute_value_extraction"
COLORS = {"title": "Mug, Red and Blue", "feature": "Blue handle"}


def entry(attribute: str, value: str | None, source: str | None) -> dict[str, str]:
    return {"attribute": attribute, "value": value or "None", "source": source or "None"}


def text_of(*entries: dict[str, str]) -> str:
    return json.dumps(list(entries))


def colors(at_most: int, *more: str) -> Extraction:
    return Extraction(("Color", *more), COLORS, {0: AttributeForm(at_most)})


def asked(row: Mapping[str, Any]) -> Answer:
    with Runtime.over(FakeBackend(cells=1 << 14)) as runtime:
        return runtime.answer(AVE, row)


def text_at(row: Mapping[str, Any], place: Mapping[str, Any]) -> str:
    text = row[place["field"]] if place["item"] is None else row[place["field"]][place["item"]]
    assert isinstance(text, str)
    return text[place["start"] : place["end"]]


@pytest.mark.parametrize("text", ["cafe\u0301 noir", "\u0928\u0940\u0932\u093e \u0930\u0902\u0917"])
def test_a_letter_keeps_its_marks(text: str) -> None:
    source = SourceText("title", text)
    assert source.words == set(text.split())
    first = text.split()[0]
    assert {span.value for span in source.spans(0)} == {first, text}
    assert list(source.places(first)) == [(0, len(first))]


RED, BLUE = entry("color", "red", "title"), entry("color", "blue", "title")
TWICE, SIZE = entry("color", "blue", "feature"), entry("size", None, None)


@pytest.mark.parametrize(
    ("at_most", "more", "entries"),
    [
        (1, (), [RED]),
        (3, (), [RED]),
        (3, (), [RED, BLUE]),
        (3, (), [RED, BLUE, TWICE]),
        (3, (), [entry("color", None, None)]),
        (3, ("Size",), [RED, BLUE, SIZE]),
        (3, ("Size",), [RED, SIZE]),
        (3, ("Size", "Color map"), [RED, BLUE, TWICE, SIZE, entry("color map", "mug", "title")]),
    ],
)
def test_the_model_writes_as_many_values_as_it_wants(
    at_most: int, more: tuple[str, ...], entries: list[dict[str, str]]
) -> None:
    text = text_of(*entries)
    space = colors(at_most, *more)
    outcome = decoded(space, writes(text))
    assert outcome.text == text
    assert outcome.tokens == FakeVocabulary().tokenize(text)
    assert outcome.probability == pytest.approx(1.0, abs=1e-6)
    assert space.value_of(text) == [{**each, "probability": None} for each in outcome.value]


def test_it_writes_no_more_than_the_form_allows_and_no_value_twice() -> None:
    blue = writes(text_of(*[BLUE] * 9))
    for at_most in (1, 2, 5):
        values = [(each["value"], each["source"]) for each in decoded(colors(at_most), blue).value]
        assert len(values) == len(set(values)) == at_most
    one_word = Extraction(("Color",), {"title": "Blue"}, {0: AttributeForm(5)})
    assert [each["value"] for each in decoded(one_word, blue).value] == ["blue"]


@settings(max_examples=40)
@given(seed=st.integers(0, 1 << 30), at_most=st.integers(1, 4))
def test_several_values_have_the_tokens_of_their_text(seed: int, at_most: int) -> None:
    def logits(tokens: Sequence[int]) -> Logits:
        return scattered([seed, *tokens])

    space = Extraction(("Color", "Size", "Color"), COLORS, {0: AttributeForm(at_most), 2: AttributeForm(at_most)})
    outcome = decoded(space, logits)
    assert outcome.tokens == FakeVocabulary().tokenize(outcome.text)
    values = [(each["value"], each["source"]) for each in space.parse(outcome.text)]
    assert values == [(each["value"], each["source"]) for each in outcome.value]
    assert 0 < (outcome.probability or 0) <= 1


# Letters that become two in lower case, or whose lower case depends on their place, and signs outside the BMP.
texts = st.text('aB s5İßΣ-😀é,"\n', min_size=1, max_size=12).filter(lambda text: not is_blank(text))


@settings(max_examples=60)
@given(title=texts, features=st.lists(texts | st.just(" "), min_size=1, max_size=4), at_most=st.integers(1, 3))
def test_the_place_gives_back_the_text(title: str, features: list[str], at_most: int) -> None:
    row = {"title": title, "feature": features, "attributes": [{"name": "a", "at_most": at_most}, {"name": "b"}]}
    for each in asked(row).value:
        if each["value"] is None:
            assert each["written"] is each["place"] is None
            continue
        assert each["value"].casefold() in each["written"].casefold()
        if each["place"]:
            assert text_at(row, each["place"]) == each["written"]
        else:  # only a value that begins in one text of the list and ends in another
            assert "," in each["written"]
            assert not any(list(SourceText("feature", feature).places(each["value"])) for feature in features)


@settings(max_examples=100)
@given(text=texts)
def test_every_span_is_found(text: str) -> None:
    source = SourceText("title", text)
    for word in range(len(source.starts)):
        for span in source.spans(word):
            places = list(source.places(span.value))
            assert places
            assert all(span.value.casefold() in text[slice(*place)].casefold() for place in places)


def test_a_value_is_found_where_it_stands_as_whole_words() -> None:
    source = SourceText("title", "Redwood shoes, RED Shoe")
    assert list(source.places("red")) == [(15, 18)]
    assert list(source.places("shoe")) == [(8, 12), (19, 23)]
    assert not list(source.places("wood"))
    assert not list(source.places(""))


def test_the_text_of_the_row_is_in_every_entry_and_the_place_in_those_of_objects() -> None:
    row = {"title": "Navy Blue Mug", "attributes": ["Color", {"name": "Material"}]}
    plain, placed = asked(row).value
    assert list(plain) == ["attribute", "value", "source", "probability", "written"]
    assert list(placed) == [*plain, "place"]
    assert plain["written"] in row["title"]
    names = {**row, "attributes": ["Color", "Material"]}
    assert TASKS[AVE].question(row).text == TASKS[AVE].question(names).text
    assert [{name: each[name] for name in plain} for each in asked(row).value] == asked(names).value


def test_a_shortened_list_keeps_its_places() -> None:
    row = {"feature": ["Warm", " ", "Navy Blue, " * 200], "attributes": [{"name": "Color"}]}
    task = TASKS[AVE]
    question = task.shortened(task.question(row), lambda question: len(question.text), 400)
    assert question.shortened
    assert isinstance(question.space, Extraction)
    outcome = decoded(question.space, writes(text_of(entry("color", "navy blue", "product feature"))))
    assert outcome.value[0]["place"] == {"field": "feature", "item": 2, "start": 0, "end": 9}


@pytest.mark.parametrize(
    ("attribute", "field"),
    [
        ({}, "attributes[1].name"),
        ({"name": "x" * 201}, "attributes[1].name"),
        ({"name": "x", "at_most": 0}, "attributes[1].at_most"),
        ({"name": "x", "at_most": True}, "attributes[1].at_most"),
        ({"name": "x", "at_mots": 2}, "attributes[1].at_mots"),
        ({"name": ["x"]}, "attributes[1].name"),
        (["x"], "attributes[1]"),
    ],
)
def test_attributes_that_are_refused(attribute: Any, field: str) -> None:
    with refusal(InputError, field=field):
        asked({"title": "Mug", "attributes": ["Color", attribute]})
