"""Tests the made-up training rows of training/hard_cases: above all, that each row's answer agrees with its texts."""

from __future__ import annotations

import json
import re
from collections import Counter
from html import unescape
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecellm_lite.answers.spans import SourceText
from ecellm_lite.tasks.multiclass_product_classification import OPTIONS
from ecellm_lite.tasks.registry import TASKS
from ecellm_lite.training.attribute_names import NAMES, other_name
from ecellm_lite.training.hard_cases import MAKERS, hard_rows
from ecellm_lite.training.hard_cases.goods import draw_good, lexicon, with_another_digit
from ecellm_lite.training.hard_cases.leftovers import with_leftovers
from ecellm_lite.training.rows import Row

SEED = st.integers(0, 1 << 30)
WORD = re.compile(r"\d+\.\d+|\w+")  # 3.2 is one word


@pytest.mark.parametrize("task", MAKERS)
def test_every_row_is_a_row_of_its_task(task: str) -> None:
    rows = hard_rows(task, 200, Random(1))
    assert len(rows) == 200
    for row in rows:
        TASKS[task].question({"input": row["input"]}).space.parse(row["output"])
    assert rows == hard_rows(task, 200, Random(1))
    assert len({json.dumps(row["input"]) for row in rows}) > 190


def test_a_task_without_a_rule_has_no_rows() -> None:
    assert hard_rows("sequential_recommendation", 5, Random(0)) == []


@pytest.mark.parametrize("task", [task for task in MAKERS if task != "attribute_value_extraction"])
def test_answers_are_balanced(task: str) -> None:
    counts = Counter(row["output"] for row in hard_rows(task, 100, Random(2)))
    assert max(counts.values()) - min(counts.values()) <= 1
    assert len(counts) in (2, 4, 5)


@settings(max_examples=20)
@given(seed=SEED)
def test_a_value_can_be_copied_out_of_the_text_that_the_answer_names(seed: int) -> None:
    for row in hard_rows("attribute_value_extraction", 10, Random(seed)):
        names = [name.lower() for name in row["input"]["attributes"]]
        assert len(set(names)) == len(names)
        assert {entry["attribute"] for entry in entries(row)} == set(names)
        for entry in entries(row):
            if entry["source"] == "None":
                assert entry["value"] == "None"
                continue
            text = row["input"][entry["source"].removeprefix("product ")]
            source = SourceText(entry["source"], text if isinstance(text, str) else ", ".join(text))
            spans = {span.value for word in range(len(source.starts)) for span in source.spans(word)}
            assert entry["value"] in spans, row


def test_attributes_are_asked_by_many_names_and_some_have_two_values_or_none() -> None:
    rows = hard_rows("attribute_value_extraction", 1500, Random(3))
    asked = Counter(name for row in rows for name in row["input"]["attributes"])
    assert sum(asked[name] > 0 for names in NAMES.values() for name in names) > 80
    values = Counter(
        sum(one["attribute"] == entry["attribute"] for one in entries(row)) for row in rows for entry in entries(row)
    )
    assert values[2] > 20
    sources = Counter(entry["source"] for row in rows for entry in entries(row))
    assert all(sources[f"product {name}"] > 50 for name in ("title", "description", "feature"))
    assert sources["None"] > 300


@settings(max_examples=20)
@given(seed=SEED)
def test_records_that_do_not_match_differ_in_a_word(seed: int) -> None:
    for row in hard_rows("product_matching", 10, Random(seed)):
        first, second = (words(" ".join(row["input"][f"product_{number}"].values())) for number in (1, 2))
        assert row["output"] == "yes" or first ^ second


def test_matching_records_have_all_telling_facts_in_common() -> None:
    for row in hard_rows("product_matching", 300, Random(4))[::2]:
        titles = [unescape(row["input"][f"product_{number}"]["title"]).lower() for number in (1, 2)]
        titles = [title.replace("3peaks", "") for title in titles]  # a title may lack the brand
        numbers = [set(re.findall(r"\d+", title)) for title in titles]
        assert numbers[0] <= numbers[1] or numbers[1] <= numbers[0], row


def test_each_degree_of_relevance_has_its_own_words() -> None:
    rows = hard_rows("multiclass_product_classification", 400, Random(5))
    shares: dict[str, list[bool]] = {option: [] for option in OPTIONS}
    for row in rows:
        query, title = words(row["input"]["query"]), words(row["input"]["title"])
        shares[row["output"]].append(query <= title)
    exact, substitute, _, irrelevant = (sum(shares[option]) / len(shares[option]) for option in OPTIONS)
    assert exact == 1.0
    assert substitute < 0.1
    assert irrelevant == 0.0


def test_documents_of_both_answers_use_the_same_sentences() -> None:
    rows = hard_rows("answerability_prediction", 4000, Random(6))
    near = {
        answer: " ".join(" ".join(row["input"]["documents"]) for row in rows if row["output"] == answer)
        for answer in ("yes", "no")
    }
    assert "The battery takes two hours to charge." in near["yes"]
    assert "The battery takes two hours to charge." in near["no"]
    assert "The battery lasts about nine hours." not in near["no"]


@settings(max_examples=30)
@given(seed=SEED)
def test_a_changed_good_differs_in_one_fact(seed: int) -> None:
    random = Random(seed)
    good = draw_good(random)
    for key, value in good.facts.items():
        other = good.changed(key, random)
        assert {name for name in good.facts if good.facts[name] != other.facts[name]} == {key}
        assert value.lower() != other.facts[key].lower()


@given(text=st.text(max_size=20), seed=SEED)
def test_another_digit_is_another_text(text: str, seed: int) -> None:
    changed = with_another_digit(text, Random(seed))
    assert changed != text
    if re.search("[0-9]", text):
        assert len(changed) == len(text)


@settings(max_examples=40)
@given(text=st.lists(st.sampled_from(["Good.", "A & B", "it's", 'a 12" pan!', "fine"])).map(" ".join), seed=SEED)
def test_leftovers_keep_the_words(text: str, seed: int) -> None:
    plain = re.sub(r"<[^>]*>", " ", unescape(with_leftovers(text, Random(seed))))
    assert plain.split() == text.split()


def test_every_fact_has_a_name_and_two_values_at_least() -> None:
    for kind in lexicon()["kinds"]:
        for key, own in kind["facts"].items():
            assert key in NAMES
            assert key == "model" or len(own or lexicon()["values"][key]) > 1


@given(name=st.sampled_from([name for names in NAMES.values() for name in names]), seed=SEED)
def test_another_name_means_the_same(name: str, seed: int) -> None:
    other = other_name(name, [], Random(seed))
    assert any(name in names and other in names for names in NAMES.values())
    assert other_name(name, [name], Random(seed)) == name


def entries(row: Row) -> list[dict[str, Any]]:
    gold: list[dict[str, Any]] = json.loads(row["output"])
    return gold


def words(text: str) -> set[str]:
    return {word.lower() for word in WORD.findall(text)}
