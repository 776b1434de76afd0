"""Rows that are too long: as little is cut as makes them fit, where their task allows it, and the answer says what."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecellm_lite import ContextError, Runtime, schema
from ecellm_lite.answers.decoding import Scene
from ecellm_lite.answers.extraction import Extraction
from ecellm_lite.answers.predicate import Predicate
from ecellm_lite.answers.space import Space
from ecellm_lite.answers.text import Text
from ecellm_lite.engine.fake import FakeBackend, FakeVocabulary
from ecellm_lite.engine.request import Request
from ecellm_lite.tasks.registry import TASKS
from ecellm_lite.tasks.shortening import LONGEST_WORD, Latest, Words, least_cut
from ecellm_lite.tasks.task import Question
from tests.support.answer_checks import EXAMPLES, HOSTILE, check

Row = Mapping[str, Any]


class Recording(Runtime):
    """A runtime that keeps its last question and request, and counts its tokenizations."""

    question: Question
    last: Request
    tokenized = 0

    def request(self, question: Question, space: Space | None = None, *, seed: int = 0) -> Request:
        self.question, self.last = question, super().request(question, space, seed=seed)
        return self.last

    def tokenize(self, prompt: str) -> list[int]:
        self.tokenized += 1
        return super().tokenize(prompt)

    def needs(self, name: str, row: Row) -> int:
        """The tokens of a row's prompt, and the room for its answer."""
        space = TASKS[name].question(row).space
        return len(super().tokenize(self.prompt(name, row))) + space.longest(
            Scene(FakeVocabulary(), self._backend.longest)
        )


def over(context: int) -> Recording:
    runtime = Recording.over(FakeBackend(cells=context))
    assert isinstance(runtime, Recording)
    return runtime


def words(count: int, letter: str = "w") -> list[str]:
    return [f"{letter}{number}" + "!" * (number % 5) for number in range(count)]


def text(count: int, letter: str = "w") -> str:
    return " ".join(words(count, letter))


@dataclass(frozen=True)
class Case:
    """A row of a size, the same row with some of its parts, and how a cut is named; written out by hand."""

    task: str
    context: int
    row: Callable[[int], Row]
    part: Callable[[Row, int], Row]
    note: Callable[[int, int], str]
    least: int = 1


def first_documents(row: Row, kept: int) -> Row:
    documents: list[str] = []
    for document in row["documents"]:
        some = document.split(" ")[:kept]
        kept -= len(some)
        documents.append(" ".join(some))
        if not kept:
            break
    return {**row, "documents": documents}


def documents_said(kept: int, size: int) -> str:
    return f"documents: the first {kept:,} of {size * 4:,} words, {-(-kept // 4)} of {size:,} texts"


def evenly(row: Row, kept: int) -> Row:
    return {
        name: {**row[name], "description": " ".join(row[name]["description"].split(" ")[:share])}
        for name, share in (("product_1", -(-kept // 2)), ("product_2", kept // 2))
    }


def documents(size: int) -> Row:
    return {"question": "How long?", "documents": [text(4, f"d{number}.") for number in range(size)]}


CASES = [
    Case(
        "sentiment_analysis",
        700,
        lambda size: {"review": text(size)},
        lambda row, kept: {"review": " ".join(row["review"].split(" ")[:kept])},
        lambda kept, size: f"review: the first {kept:,} of {size:,} words",
    ),
    Case("answerability_prediction", 700, documents, first_documents, documents_said),
    Case("answer_generation", 900, documents, first_documents, documents_said),
    Case(
        "sequential_recommendation",
        900,
        lambda size: {"history": words(size), "candidates": ["tent", "lamp"]},
        lambda row, kept: {**row, "history": row["history"][-kept:]},
        lambda kept, size: f"history: the last {kept} of {size:,} items",
    ),
    Case(
        "product_matching",
        700,
        lambda size: {
            "product_1": {"title": "a", "description": text(size)},
            "product_2": {"title": "b", "description": text(size, "v")},
        },
        evenly,
        lambda kept, size: "; ".join(
            f"product_{place}.description: the first {share} of {size:,} words"
            for place, share in ((1, -(-kept // 2)), (2, kept // 2))
            if share < size
        ),
        least=2,
    ),
    Case(
        "attribute_value_extraction",
        1100,
        lambda size: {"title": "a tent", "description": text(size), "attributes": ["color", "size"]},
        lambda row, kept: {**row, "description": " ".join(row["description"].split(" ")[:kept])},
        lambda kept, size: f"description: the first {kept:,} of {size:,} words",
    ),
]


@pytest.mark.parametrize("size", [1, 2, 5, 11, 20, 35, 50, 120, 1200])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.task)
def test_the_least_is_cut(case: Case, size: int) -> None:
    row = case.row(size)
    with over(case.context) as runtime:
        answer = runtime.answer(case.task, row, shorten=True)
        prompt = runtime.last.prompt
        if runtime.needs(case.task, row) <= case.context:
            assert answer.shortened is None
            assert prompt == runtime.tokenize(runtime.prompt(case.task, row))
            return
        kept = next(kept for kept in range(case.least, 2 * 4 * size) if answer.shortened == case.note(kept, size))
        part = case.part(row, kept)
        assert prompt == runtime.tokenize(runtime.prompt(case.task, part))
        assert runtime.needs(case.task, part) <= case.context
        assert runtime.needs(case.task, case.part(row, kept + 1)) > case.context
        check(answer, part, TASKS[case.task].question(part).space)


def test_long_rows_are_cut_at_all() -> None:
    """So that the test above does not pass by never cutting."""
    for case in CASES:
        with over(case.context) as runtime:
            assert runtime.needs(case.task, case.row(1)) <= case.context
            assert runtime.needs(case.task, case.row(120)) > case.context


def test_an_extraction_offers_only_what_the_model_sees() -> None:
    row = {"title": "a tent", "description": text(300), "feature": text(40, "f"), "attributes": ["color"] * 3}
    with over(1600) as runtime:
        answer = runtime.answer("attribute_value_extraction", row, shorten=True)
        space = runtime.last.space
    assert isinstance(space, Extraction)
    assert answer.shortened is not None
    found = re.fullmatch(r"description: the first (\d+) of 300 words", answer.shortened)
    assert found
    assert space.sources["product description"] == text(int(found[1]))
    assert space.sources["product feature"] == row["feature"]


def test_the_next_field_is_cut_where_the_first_is_not_enough() -> None:
    row = {"title": "a tent", "description": text(300), "feature": text(300, "f"), "attributes": ["color"]}
    with over(1100) as runtime:
        answer = runtime.answer("attribute_value_extraction", row, shorten=True)
        assert answer.shortened is not None
        found = re.fullmatch(
            r"description: the first 1 of 300 words; feature: the first (\d+) of 300 words", answer.shortened
        )
        assert found
        kept = {**row, "description": "w0", "feature": text(int(found[1]), "f")}
        more = {**row, "description": "w0", "feature": text(int(found[1]) + 1, "f")}
        assert runtime.last.prompt == runtime.tokenize(runtime.prompt("attribute_value_extraction", kept))
        assert runtime.needs("attribute_value_extraction", more) > 1100


def test_the_longer_of_two_is_cut_first() -> None:
    row = {
        "product_1": {"title": "a", "description": text(12)},
        "product_2": {"title": "b", "description": text(49, "v")},
    }
    with over(700) as runtime:
        answer = runtime.answer("product_matching", row, shorten=True)
        first = runtime.question.values
        assert first is not None
        assert first["product_1"] == row["product_1"]
        assert re.fullmatch(r"product_2.description: the first \d+ of 49 words", answer.shortened or "")
    row["product_2"].pop("description")
    row["product_1"]["description"] = text(3, "w" * 200)
    with over(700) as runtime:
        answer = runtime.answer("product_matching", row, shorten=True)
        assert re.fullmatch(r"product_1.description: the first \d+ of 21 words", answer.shortened or "")


def test_a_row_is_cut_only_when_asked_and_the_error_says_how() -> None:
    row = {"review": text(200)}
    with over(700) as runtime:
        with pytest.raises(ContextError, match="review"):
            runtime.answer("sentiment_analysis", row)
        [failed] = runtime.answers("sentiment_analysis", [row])
        [cut] = runtime.answers("sentiment_analysis", [row], shorten=True)
        with pytest.raises(ContextError, match="characters") as caught:
            runtime.answer("sentiment_analysis", {"review": text(200_000)})
        assert caught.value.settings == ("context", "shorten")
    assert failed.error is not None
    assert failed.error.code == "context_exceeded"
    assert failed.usage is not None
    assert failed.usage.prompt_tokens > 700
    assert failed.shortened is None
    assert cut.error is None
    assert cut.shortened is not None


@pytest.mark.parametrize(
    "name",
    [
        "product_relation_prediction",
        "multiclass_product_classification",
        "product_substitute_identification",
        "query_product_ranking",
    ],
)
def test_titles_are_not_cut(name: str) -> None:
    row = {
        key: ["t" * 3000, "b"] if key == "products" else "q" if key == "query" else "t" * 3000
        for key in (field.name for field in TASKS[name].fields)
    }
    with over(1500) as runtime:
        for shorten in (False, True):
            with pytest.raises(ContextError) as caught:
                runtime.answer(name, row, shorten=shorten)
            assert caught.value.settings == ("context",)


def test_a_row_in_the_data_sets_form_is_not_cut() -> None:
    row = {"instruction": "Rate it.", "input": text(500), "options": '["A: good", "B: bad"]'}
    with over(700) as runtime:
        for shorten in (False, True):
            with pytest.raises(ContextError) as caught:
                runtime.answer("sentiment_analysis", row, shorten=shorten)
            assert caught.value.settings == ("context",)
        assert runtime.answer("sentiment_analysis", {**row, "input": "good"}, shorten=True).shortened is None


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("sentiment_analysis", {"review": "x"}),
        ("sentiment_analysis", {"review": " " * 5000 + "x"}),
        ("sequential_recommendation", {"history": ["one"], "candidates": ["a", "b" * 600]}),
        ("attribute_value_extraction", {"title": "t" * 900, "description": "one", "attributes": ["color"]}),
        ("answer_generation", {"question": "q" * 900, "documents": ["one", "two"]}),
    ],
)
def test_what_cannot_be_made_to_fit_is_an_error(name: str, row: Row) -> None:
    with over(380) as runtime, pytest.raises(ContextError):
        runtime.answer(name, row, shorten=True)


def test_an_instruction_too_long_is_not_blamed_on_the_field() -> None:
    with over(700) as runtime, pytest.raises(ContextError, match="review is not enough") as caught:
        runtime.answer("sentiment_analysis", {"review": text(50)}, instruction="Rate it. " * 100, shorten=True)
    assert caught.value.settings == ("context",)


@pytest.mark.parametrize("piece", ["word ", "x", "漢", "🧨", "a\n", "\ud800", '"\\ ', "! "])
def test_a_megabyte_is_cut_in_few_looks(piece: str) -> None:
    with over(1200) as runtime:
        answer = runtime.answer("sentiment_analysis", {"review": piece * (1_000_000 // len(piece))}, shorten=True)
        assert runtime.tokenized < 14
    assert answer.error is None
    assert re.fullmatch(r"review: the first [\d,]+ of [\d,]+ words", answer.shortened or "")


def test_the_same_row_is_cut_the_same() -> None:
    rows = [documents(size) for size in (30, 50, 30, 80, 30)]
    with over(900) as runtime, over(900) as other:
        answers = [answer.shortened for answer in runtime.answers("answer_generation", rows, shorten=True)]
        assert answers == [other.answer("answer_generation", row, shorten=True).shortened for row in rows]
    assert answers[0] == answers[2] == answers[4]


def test_open_answers_get_room() -> None:
    row = documents(200)
    with over(1200) as runtime:
        for space, room in ((Text(50), 50), (Text(5000), 300), (schema({"type": "integer"}), 300)):
            answer = runtime.answer("answer_generation", row, space=space, shorten=True)
            assert 1200 - room - 10 <= len(runtime.last.prompt) <= 1200 - room
            assert (answer.shortened or "").startswith("documents: the first ")


@pytest.mark.parametrize("name", [name for name in TASKS if TASKS[name].question(EXAMPLES[name]).space != Predicate()])
def test_answers_keep_to_their_room(name: str) -> None:
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
def test_the_boundary_is_found_whatever_parts_weigh(weights: list[int], data: st.DataObject) -> None:
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
        kept = len(cut.values["items"])
        assert sum(weights[-kept:]) <= most < sum(weights[-kept - 1 :])
        assert cut.note == f"items: the last {kept} of {len(weights)} items"


def test_words_end_where_they_end() -> None:
    review = Words(("review",))
    row = {"review": "  One,  two\n\nthree\t— four  "}
    assert review.size(row) == 5
    assert [review.cut(row, kept)["review"] for kept in (1, 2, 3, 5)] == [
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
