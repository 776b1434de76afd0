"""Tests of answers with several labels: probabilities, thresholds, the number of labels, and labelled rows."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ecellm_lite import Answer, InputError, Runtime
from ecellm_lite.answers.calibration import Correction
from ecellm_lite.answers.decoding import Outcome
from ecellm_lite.answers.several_labels import SeveralLabels
from ecellm_lite.engine.fake import FakeBackend, FakeVocabulary, scattered
from ecellm_lite.tasks.fields import TextField
from ecellm_lite.tasks.task import Task, Wire
from tests.support.drawn_cases import MODEL

NAMES = st.text("abc: yn", min_size=1, max_size=6).map(str.strip).filter(bool)
SHARES = st.floats(0.0, 1.0)


@st.composite
def spaces(draw: st.DrawFn, least: int = 1) -> SeveralLabels:
    labels = tuple(draw(st.lists(NAMES, min_size=least, max_size=8, unique=True)))
    thresholds = tuple(draw(SHARES) for _ in labels)
    at_least = draw(st.integers(0, len(labels)))
    return SeveralLabels(labels, thresholds, at_least, draw(st.integers(max(1, at_least), len(labels))))


def task_of(space: SeveralLabels) -> Task:
    def write(row: Mapping[str, Any]) -> Wire:
        return Wire(row["mail"], json.dumps(space.labels), space)

    fields = (TextField("mail", "A mail.", "x"),)
    return Task("topics", "", "", "Topics.", "Topics.", "Which?", fields, write, lambda text, options: space)


def outcome_of(space: SeveralLabels, shares: Sequence[float]) -> Outcome:
    probabilities = dict(zip(space.labels, shares, strict=True))
    return Outcome([], "none", (), 1.0, probabilities, coverage=1.0)


def answer_of(value: list[str], shares: Mapping[str, float], probability: float) -> Answer:
    return Answer("r", "t", "labels", value, "", probability, shares, None, 1.0, False, None, None, MODEL, "")


@given(spaces(), st.text("xyz", min_size=1))
@example(SeveralLabels((":", ":: :"), (0.5, 0.5), 0, 2), "x")  # one is asked where the other one's tokens lead through
def test_each_label_has_the_probability_that_it_has_when_asked_alone(space: SeveralLabels, mail: str) -> None:
    """The probability follows from the logits of "yes" and "no" after a prompt that ends with the label."""
    task, vocabulary = task_of(space), FakeVocabulary()
    with Runtime.over(FakeBackend()) as runtime:
        answer = runtime.answer(task, {"mail": mail})
        prompt = runtime.tokenize(runtime.prompt(task, {"mail": mail}))
    assert answer.error is None
    assert answer.probabilities is not None
    coverage = 1.0
    for label in space.labels:
        after = vocabulary.tokenize(f"x\n{label}: ")[2:]
        logits = scattered([*prompt, *after]).astype(np.float64)
        powers = np.exp(logits)
        yes, no = (float(powers[vocabulary.tokenize(word)[0]]) for word in ("yes", "no"))
        assert answer.probabilities[label] == pytest.approx(yes / (yes + no), rel=1e-5)
        coverage = min(coverage, (yes + no) / float(powers.sum()))
    assert answer.coverage == pytest.approx(coverage, rel=1e-5)
    assert set(answer.value) <= set(space.labels)
    assert space.parse(answer.text or "") == answer.value
    expected = math.prod(share if label in answer.value else 1 - share for label, share in answer.probabilities.items())
    assert answer.probability == pytest.approx(expected)


@given(spaces(), st.data())
def test_thresholds_and_limits_choose_the_labels(space: SeveralLabels, data: st.DataObject) -> None:
    shares = [data.draw(SHARES) for _ in space.labels]
    value = space._chosen(shares)
    assert value == [label for label in space.labels if label in set(value)]
    assert space.at_least <= len(value) <= space.at_most
    by_label = dict(zip(space.labels, shares, strict=True))
    reached = [
        label
        for label, share, threshold in zip(space.labels, shares, space.thresholds, strict=True)
        if share >= threshold
    ]
    if len(reached) < space.at_least:
        assert set(reached) <= set(value)
        assert len(value) == space.at_least
        others = set(space.labels) - set(value)
        added = set(value) - set(reached)
        assert min(by_label[label] for label in added) >= max((by_label[label] for label in others), default=0.0)
    elif len(reached) > space.at_most:
        assert set(value) <= set(reached)
        assert len(value) == space.at_most
        dropped = set(reached) - set(value)
        assert min(by_label[label] for label in value) >= max(by_label[label] for label in dropped)
    else:
        assert value == reached


@given(spaces(), st.data(), st.floats(0.2, 5.0), st.floats(-3.0, 3.0))
def test_a_calibration_chooses_the_labels_again(
    space: SeveralLabels, data: st.DataObject, temperature: float, bias: float
) -> None:
    shares = [data.draw(SHARES) for _ in space.labels]
    before = outcome_of(space, shares)
    assert space.calibrated(before, 1.0, 0.0) is before
    after = space.calibrated(before, temperature, bias)
    assert after.probabilities is not None
    corrected = [Correction(temperature, bias).odds(share) for share in shares]
    assert list(after.probabilities.values()) == corrected
    if after is not before:
        assert after.value == space._chosen(corrected)
        assert after.text == space.text_of(after.value)
    first = {space.labels[0]: Correction(1.0, 1.0)}
    mixed = space.corrected(before, Correction(), first)
    assert list((mixed.probabilities or {}).values())[1:] == shares[1:]
    assert (mixed.probabilities or {})[space.labels[0]] == Correction(1.0, 1.0).odds(shares[0])


def test_a_label_below_its_threshold_after_calibration_is_removed() -> None:
    space = SeveralLabels(("a", "b"), (0.5, 0.5), 0, 2)
    after = space.calibrated(outcome_of(space, (0.6, 0.95)), 1.0, -1.0)
    assert (after.value, after.text) == (["b"], "b")


def test_labels_are_read_from_what_people_write() -> None:
    space = SeveralLabels(("size", "color"), (0.5, 0.5), 0, 2)
    assert space.parse("none") == []
    assert space.parse("color, size") == space.parse("size,color") == ["size", "color"]
    assert space.value_of("color") == ["color"]
    for text, answer in {
        " Color ": "color",
        "COLOR,size": "size, color",
        '["Color"]': "color",
        "[]": "none",
        "None": "none",
    }.items():
        assert space.normalized(text) == answer
    assert space.written(["color", "size"]) == "size, color"
    assert (space.written([]), space.written("color")) == ("none", "color")
    for wrong in ("", "weight", "size; color", "none, size", "color,", '["weight"]', "[1]"):
        with pytest.raises(InputError):
            space.normalized(wrong)
    for output in (["weight"], [1], [["size"]], [None]):
        with pytest.raises(InputError):
            space.written(output)


def test_labels_that_differ_only_in_case_are_told_apart() -> None:
    space = SeveralLabels(("Küche", "küche", "Bad"), (0.5,) * 3, 0, 3)
    assert space.normalized("küche, BAD") == "küche, Bad"
    assert space.normalized("Küche") == "Küche"
    with pytest.raises(InputError):
        space.normalized("KÜCHE")


def test_an_answer_has_as_many_labels_as_the_task_wants() -> None:
    space = SeveralLabels(("a", "b", "c"), (0.5,) * 3, 1, 2)
    assert space.parse("a, b") == ["a", "b"]
    for text in ("none", "a, b, c"):
        with pytest.raises(InputError):
            space.parse(text)


def test_each_label_makes_one_claim() -> None:
    space = SeveralLabels(("a", "b", "c", "d"), (0.5, 0.5, 0.2, 0.5), 0, 4)
    answer = answer_of(["a", "c"], {"a": 0.9, "b": 0.4, "c": 0.3, "d": 0.1}, 0.1)
    claims = space.claims(answer, "a, b")
    assert [claim.shares[0] for claim in claims] == [0.9, 0.4, 0.3, 0.1]
    assert [claim.right for claim in claims] == [0, 0, 1, 1]
    assert [claim.correct for claim in claims] == [True, False, False, True]
    assert [claim.probability for claim in claims] == pytest.approx([0.9, 0.6, 0.3, 0.9])
    with pytest.raises(InputError):
        space.claims(answer, "e")


def test_details_list_each_label_with_its_probability() -> None:
    space = SeveralLabels(("a", "b"), (0.5, 0.5), 0, 2)
    answer = answer_of(["b"], {"a": 0.4, "b": 0.9}, 0.54)
    assert [(detail.label, detail.share, detail.chosen) for detail in space.details(answer)] == [
        ("a", 0.4, False),
        ("b", 0.9, True),
    ]


@pytest.mark.parametrize(("envelope", "least", "most"), [("qwen2.5", 0.9, 1.0), ("alpaca", 0.4, 0.6)])
def test_yes_with_a_capital_counts_for_a_general_model(envelope: str, least: float, most: float) -> None:
    scores = np.zeros(FakeVocabulary.size, dtype=np.float32)
    scores[FakeVocabulary().tokenize("Y")[0]] = 9
    task = task_of(SeveralLabels(("a", "b"), (0.5, 0.5), 0, 2))
    with Runtime.over(FakeBackend(lambda _: scores), envelope=envelope) as runtime:
        answer = runtime.answer(task, {"mail": "x"})
    assert all(least <= share <= most for share in (answer.probabilities or {}).values())
    assert list(answer.probabilities or {}) == ["a", "b"]
