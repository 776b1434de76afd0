"""Tests the search for the most similar texts (BM25), which chooses a shortlist of labels for a prompt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecellm_lite import Runtime
from ecellm_lite.answers.label_set import LabelSet
from ecellm_lite.engine.fake import FakeBackend
from ecellm_lite.errors import InputError, UsageError
from ecellm_lite.tasks import nearest
from ecellm_lite.tasks.nearest import Nearest, words
from tests.tasks.test_label_files import labelled, paths

pytest.importorskip("bm25s", reason="the nearest texts are found by bm25s (extra 'bm25')")

ROW = {"product": "Wooden puzzles with 100 pieces"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Jigsaw Puzzles, 3-in-1!", ["jigsaw", "puzzle", "3", "in", "1"]),
        ("gas GAS Straße", ["gas", "gas", "strasse"]),
        ("cafe\u0301", ["caf\u00e9"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("产品分类", ["产品", "品分", "分类"]),
        ("ไทย", ["ไท", "ทย"]),
        ("书", ["书"]),
        ("… -- ", []),
    ],
)
def test_words(text: str, expected: list[str]) -> None:
    assert list(words(text)) == expected


def test_rare_words_count_more_than_frequent_ones() -> None:
    texts = ["red toy", "red lamp", "red chair", "blue puzzle"]
    assert Nearest(texts).find("a red puzzle", 2)[0] == 3
    assert Nearest(texts).find("Lamps", 5) == [1]
    assert Nearest(texts).find("nothing here", 5) == []
    assert Nearest(texts).find("", 5) == []


@settings(max_examples=30)
@given(st.lists(st.text(max_size=20), min_size=1, max_size=8), st.text(max_size=20), st.integers(1, 10))
def test_any_texts_can_be_searched(texts: list[str], text: str, count: int) -> None:
    index = Nearest(texts)
    places = index.find(text, count)
    assert len(places) <= count
    assert len(set(places)) == len(places)
    assert all(set(words(texts[place])) & set(words(text)) for place in places)
    assert index.find(text, count) == places


def test_a_shortlist_stands_in_the_prompt_and_the_answer_may_be_any_label(tmp_path: Path) -> None:
    labels = [*paths(600), "Toys > Puzzles", "Toys > Puzzles > Wooden Puzzles", "Toys > Balls"]
    task = labelled(tmp_path, "labels.txt", "\n".join(labels), ", shortlist = 2")
    question = task.question(ROW)
    assert question.options is not None
    assert json.loads(question.options) == ["Toys > Puzzles > Wooden Puzzles", "Toys > Puzzles"]
    assert isinstance(question.space, LabelSet)
    assert list(question.space.labels.texts) == labels
    assert task.question({"product": "?"}).options is None
    with Runtime.over(FakeBackend()) as runtime:
        prompt = runtime.prompt(task, ROW)
        assert "Toys > Puzzles > Wooden Puzzles" in prompt
        assert runtime.answer(task, ROW).value in labels


def test_a_list_that_fits_the_prompt_is_listed_whole(tmp_path: Path) -> None:
    task = labelled(tmp_path, "labels.txt", "Toys\nLamps\nChairs", ", shortlist = 1")
    assert len(json.loads(str(task.question(ROW).options))) == 3


@pytest.mark.parametrize("number", ["-1", "101", "true", '"20"', "1.5"])
def test_a_wrong_number_is_refused(number: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused:
        labelled(tmp_path, "labels.txt", "\n".join(paths(600)), f", shortlist = {number}")
    assert "shortlist" in refused.value.message


def test_without_the_library_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str, *_: Any) -> None:
        return None

    monkeypatch.setattr(nearest, "find_spec", absent)
    with pytest.raises(UsageError) as refused:
        labelled(tmp_path, "labels.txt", "\n".join(paths(600)), ", shortlist = 2")
    assert "bm25" in str(refused.value.step)
