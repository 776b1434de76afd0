"""Tests the answer "none of these": its probability, its calibration, and that it is not an abstention."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecellm_lite import Answer, Runtime, load_task
from ecellm_lite.answers.decoding import Logits, Outcome
from ecellm_lite.answers.label_set import Labels, LabelSet
from ecellm_lite.answers.none_of_these import ChoiceOrNone, LabelSetOrNone, NoneRule, OrNone
from ecellm_lite.answers.options import Option
from ecellm_lite.answers.probabilities import confidence
from ecellm_lite.engine.fake import FakeBackend, FakeVocabulary, scattered
from ecellm_lite.tasks.task import Task

NAMES = ("billing", "delivery", "returns")
OPTIONS = tuple(map(Option, NAMES, "ABC"))
CHOICE = ChoiceOrNone(OPTIONS, Option("none", "D"))
LABELS = LabelSetOrNone(Labels(NAMES, NAMES), none=Option("none", "none"))
SHARES = st.lists(st.floats(0.01, 1.0), min_size=3, max_size=3).map(lambda weights: [w / sum(weights) for w in weights])
NONES = st.floats(0.0, 1.0)


def outcome_of(shares: Sequence[float]) -> Outcome:
    best = max(range(3), key=shares.__getitem__)
    return Outcome(NAMES[best], "", (), shares[best], dict(zip(NAMES, shares, strict=True)), coverage=0.5)


def written(tmp_path: Path, answer: str) -> Task:
    path = tmp_path / "desk.toml"
    path.write_text(
        'name = "desk"\nsummary = "A desk."\ninstruction = "Which desk?"\n[[fields]]\nname = "mail"\n[answer]\n'
        f'type = "choice"\n{answer}\n'
    )
    return load_task(path)


def in_favor_of(text: str, by: float) -> Mapping[int, float]:
    return {FakeVocabulary().tokenize(text)[0]: by}


def over(favored: Mapping[int, float]) -> Runtime:
    """Return a runtime with a fake engine that favors some tokens.

    `favored`: the token ids, and the number that is added to each token's logit.
    """

    def logits(tokens: Sequence[int]) -> Logits:
        values = scattered(tokens)
        for token, by in favored.items():
            values[token] += by
        return values

    return Runtime.over(FakeBackend(logits))


@pytest.mark.parametrize("space", [CHOICE, LABELS])
@given(shares=SHARES, none=NONES)
@settings(max_examples=30, deadline=None)
def test_none_and_the_labels_share_the_probability(space: OrNone, shares: list[float], none: float) -> None:
    joined = space.joined(outcome_of(shares), none)
    probabilities = joined.probabilities or {}
    assert sum(probabilities.values()) == pytest.approx(1)
    assert joined.probability == max(probabilities.values()) == probabilities[joined.value]
    assert joined.confidence == pytest.approx(confidence(list(probabilities.values())))
    assert space.is_none(joined.text) == (joined.value == "none")
    labels, outside = space.parted(joined)
    assert outside == pytest.approx(none, abs=2e-6)
    assert list((labels.probabilities or {}).values()) == pytest.approx(shares)


@pytest.mark.parametrize("space", [CHOICE, LABELS])
@given(shares=SHARES, none=st.floats(0.001, 0.999), temperature=st.floats(0.3, 4.0))
@settings(max_examples=20, deadline=None)
def test_a_temperature_is_for_the_labels_alone(
    space: OrNone, shares: list[float], none: float, temperature: float
) -> None:
    before = space.joined(outcome_of(shares), none)
    assert space.calibrated(before, 1.0) is before
    after = space.calibrated(before, temperature)
    assert (after.probabilities or {})["none"] == pytest.approx(none)
    labels, _ = space.parted(after)
    plain = LabelSet(LABELS.labels) if isinstance(space, LabelSet) else None
    if plain:
        assert labels.probability == pytest.approx(plain.calibrated(outcome_of(shares), temperature).probability)
    else:
        powers = [share ** (1 / temperature) for share in shares]
        assert list((labels.probabilities or {}).values()) == pytest.approx([p / sum(powers) for p in powers])


@given(outside=st.floats(0.001, 0.999), label=st.floats(0.34, 0.999))
def test_a_rule_weighs_the_outside_and_the_likeliest_label(outside: float, label: float) -> None:
    assert NoneRule().probability(outside, label) == pytest.approx(outside)
    odds = math.log(outside / (1 - outside)), math.log(label / (1 - label))
    expected = 1 / (1 + math.exp(-(0.5 + 2 * odds[0] - 3 * odds[1])))
    assert NoneRule(0.5, 2.0, 3.0).probability(outside, label) == pytest.approx(expected)
    before = CHOICE.joined(outcome_of([label, (1 - label) / 2, (1 - label) / 2]), outside)
    after = CHOICE.ruled(before, NoneRule(0.5, 2.0, 3.0))
    assert (after.probabilities or {})["none"] == pytest.approx(expected, abs=2e-6)


FEW = 'choices = [{ value = "billing" }, { value = "delivery", description = "parcels" }]\nnone = '


def test_none_is_the_last_of_the_listed_options(tmp_path: Path) -> None:
    task = written(tmp_path, FEW + "true")
    question = task.question({"mail": "Hello."})
    assert question.options == '["A: billing", "B: delivery: parcels", "C: none"]'
    assert question.space.parse("C") == "none"
    assert question.space.normalized("None") == "C"
    assert task.question({"mail": "x"}).space == written(tmp_path, FEW + '"none"').question({"mail": "x"}).space
    assert written(tmp_path, FEW + "false").question({"mail": "x"}).options == '["A: billing", "B: delivery: parcels"]'


@pytest.mark.parametrize(("favored", "value"), [("A", "billing"), ("C", "elsewhere"), ("x", "elsewhere")])
def test_what_the_model_writes_decides(tmp_path: Path, favored: str, value: str) -> None:
    task = written(tmp_path, FEW + '"elsewhere"')
    with over(in_favor_of(favored, 20.0)) as runtime:
        answer = runtime.answer(task, {"mail": "Hello."}, min_probability=0.5)
    assert (answer.value, answer.abstained, answer.warnings) == (value, False, None)
    assert sum((answer.probabilities or {}).values()) == pytest.approx(1)
    assert Answer.from_dict(answer.as_dict()) == answer


def test_the_probability_of_none_is_what_no_label_has(tmp_path: Path) -> None:
    row = {"mail": "Hello."}
    plain = written(tmp_path, FEW.replace("none = ", "").replace("]\n", ', { value = "none" }]\n'))
    favored = in_favor_of("A", 6.0)
    with over(favored) as runtime:
        listed = runtime.answer(plain, row)
        answer = runtime.answer(written(tmp_path, FEW + "true"), row)
    assert answer.coverage == listed.coverage
    written_share = (listed.probabilities or {})["none"]
    expected = 1 - (listed.coverage or 0) * (1 - written_share)
    assert (answer.probabilities or {})["none"] == pytest.approx(expected)


def test_a_row_below_the_least_probability_still_abstains(tmp_path: Path) -> None:
    task = written(tmp_path, FEW + "true")
    with over({**in_favor_of("A", 20.0), **in_favor_of("C", 20.0)}) as runtime:
        answer = runtime.answer(task, {"mail": "Hello."}, min_probability=0.99999)
    assert (answer.value, answer.abstained) == (None, True)


def test_none_of_many_labels(tmp_path: Path) -> None:
    names = [f"{letter}{number} shelf" for letter in "abc" for number in range(100)]
    (tmp_path / "labels.txt").write_text("\n".join(names))
    task = written(tmp_path, 'labels = { file = "labels.txt" }\nnone = true')
    space = task.question({"mail": "x"}).space
    assert isinstance(space, LabelSetOrNone)
    assert (task.question({"mail": "x"}).options, space.parse("none"), space.normalized("NONE")) == (
        None,
        "none",
        "none",
    )
    values = []
    for favored in ("b", "z"):
        with over(in_favor_of(favored, 20.0)) as runtime:
            answer = runtime.answer(task, {"mail": "Hello."})
        values.append(answer.value)
        assert "none" in (answer.probabilities or {})
        assert [detail.label for detail in space.details(answer)] == list(answer.probabilities or {})
        assert answer.unexplored is not None
    assert values[0] in names
    assert values[1] == "none"


def test_extreme_logits_give_finite_probabilities(tmp_path: Path) -> None:
    task = written(tmp_path, FEW + "true")
    for favored in ("C", "x", "A"):
        with over(in_favor_of(favored, 2e4)) as runtime:
            answer = runtime.answer(task, {"mail": "Hello."})
        shares = list((answer.probabilities or {}).values())
        assert np.isfinite(shares).all()
        assert sum(shares) == pytest.approx(1)
