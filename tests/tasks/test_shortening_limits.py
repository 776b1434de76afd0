"""Tests that equal rows are cut at the same place, between words or items, after tokenizing them only a few times."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecellm_lite import Runtime, schema
from ecellm_lite.answers.decoding import Scene
from ecellm_lite.answers.predicate import Predicate
from ecellm_lite.answers.text import Text
from ecellm_lite.engine.fake import FakeBackend, FakeVocabulary
from ecellm_lite.tasks.registry import TASKS
from ecellm_lite.tasks.shortening import LONGEST_WORD, Latest, Words, least_cut
from tests.support.answer_checks import EXAMPLES, HOSTILE
from tests.support.shortening import Row, documents, over, text


@pytest.mark.parametrize("piece", ["word ", "x", "漢", "🧨", "a\n", "\ud800", '"\\ ', "! "])
def test_a_megabyte_is_cut_with_few_tokenizations(piece: str) -> None:
    with over(1200) as runtime:
        answer = runtime.answer("sentiment_analysis", {"review": piece * (1_000_000 // len(piece))}, shorten=True)
        assert runtime.tokenized < 14
    assert answer.error is None
    assert re.fullmatch(r"review: the first [\d,]+ of [\d,]+ words", answer.shortened or "")


def test_the_same_row_is_always_cut_alike() -> None:
    rows = [documents(size) for size in (30, 50, 30, 80, 30)]
    with over(900) as runtime, over(900) as other:
        answers = [answer.shortened for answer in runtime.answers("answer_generation", rows, shorten=True)]
        assert answers == [other.answer("answer_generation", row, shorten=True).shortened for row in rows]
    assert answers[0] == answers[2] == answers[4]


def test_free_text_answers_get_room() -> None:
    row = documents(200)
    with over(1200) as runtime:
        for space, room in ((Text(50), 50), (Text(5000), 300), (schema({"type": "integer"}), 300)):
            answer = runtime.answer("answer_generation", row, space=space, shorten=True)
            assert 1200 - room - 10 <= len(runtime.last.prompt) <= 1200 - room
            assert (answer.shortened or "").startswith("documents: the first ")


@pytest.mark.parametrize("name", [name for name in TASKS if TASKS[name].question(EXAMPLES[name]).space != Predicate()])
def test_answers_fit_the_room_reserved_for_them(name: str) -> None:
    with over(4096) as runtime:
        runtime.answer(name, EXAMPLES[name])
        assert runtime.last.outcome is not None
        assert len(runtime.last.outcome.tokens) <= runtime.last.space.longest(Scene(FakeVocabulary(), 4096))


PIECES = st.sampled_from([*'"\\ \n.w0é漢🧨\ud800', "the", "long"])
NASTY = st.lists(PIECES, max_size=400).map("".join).filter(str.strip)
TEXTS = st.one_of(NASTY, st.integers(1, 90).map(text), st.sampled_from(HOSTILE))


@st.composite
def rows(draw: st.DrawFn) -> tuple[str, Row]:
    name = draw(st.sampled_from(list(TASKS)))
    some = st.lists(TEXTS, min_size=1, max_size=6)
    record = st.fixed_dictionaries({"title": NASTY}, optional={"description": TEXTS})
    kinds: dict[str, st.SearchStrategy[Any]] = {
        "documents": some,
        "history": some,
        "candidates": st.lists(NASTY, min_size=2, max_size=4),
        "products": st.lists(NASTY, min_size=1, max_size=3),
        "attributes": st.lists(st.sampled_from(["color", "Größe", '"']), min_size=1, max_size=3),
    }
    if name == "product_matching":
        return name, {"product_1": draw(record), "product_2": draw(record)}
    return name, {field.name: draw(kinds.get(field.name, TEXTS)) for field in TASKS[name].fields}


@given(rows(), st.integers(300, 2500))
def test_any_row_is_answered_or_too_long(row: tuple[str, Row], context: int) -> None:
    name, fields = row
    with Runtime.over(FakeBackend(cells=context)) as runtime:
        [answer] = runtime.answers(name, [fields], shorten=True)
    if answer.error is None:
        assert answer.value is not None
    else:
        assert answer.error.code == "context_exceeded"
        assert answer.shortened is None


@given(st.lists(st.integers(1, 40), min_size=2, max_size=300), st.data())
def test_the_largest_size_that_fits_is_found(weights: list[int], data: st.DataObject) -> None:
    values = {"items": tuple(weights)}
    total = sum(weights)
    most = data.draw(st.integers(0, total - 1))

    def needs(row: Row) -> int:
        return sum(row["items"])

    cut = least_cut((Latest("items"),), values, needs, most, whole=total)
    if weights[-1] > most:
        assert cut is None
    else:
        assert cut is not None
        count = len(cut.values["items"])
        assert sum(weights[-count:]) <= most < sum(weights[-count - 1 :])
        assert cut.note == f"items: the last {count} of {len(weights)} items"


def test_words_are_cut_at_their_ends() -> None:
    review = Words(("review",))
    row = {"review": "  One,  two\n\nthree\t— four  "}
    assert review.size(row) == 5
    assert [review.cut(row, words)["review"] for words in (1, 2, 3, 5)] == [
        "  One,",
        "  One,  two",
        "  One,  two\n\nthree",
        row["review"],
    ]
    long = {"review": "x" * (2 * LONGEST_WORD + 1)}
    assert review.size(long) == 3
    assert review.cut(long, 2) == {"review": "x" * (2 * LONGEST_WORD)}
    assert [review.size({"review": nothing}) for nothing in ("", " \n")] == [0, 0]
    assert Words(("absent", "also.absent")).size(row) == 0
