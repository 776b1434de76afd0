"""Checks cases (answers compared with their gold answers), and the temperature that is fitted to many cases."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from ecellm_lite import InputError, Runtime
from ecellm_lite.answers.answer import Answer
from ecellm_lite.answers.claims import Claim
from ecellm_lite.answers.decoding import Outcome
from ecellm_lite.answers.extraction import Extraction
from ecellm_lite.answers.predicate import Predicate
from ecellm_lite.answers.ranking import Ranking
from ecellm_lite.answers.score import Score
from ecellm_lite.answers.space import Space
from ecellm_lite.answers.text import Text
from ecellm_lite.engine.fake import FakeBackend
from ecellm_lite.evaluate.cases import Case, case_of
from ecellm_lite.evaluate.fitting import _Claims
from ecellm_lite.tasks.registry import TASKS
from tests.support.answer_checks import EXAMPLES
from tests.support.drawn_cases import MODEL

pytest.importorskip("scipy", reason="fitting a temperature needs the extra 'eval'")


def space_of(name: str) -> Space:
    return TASKS[name].question(EXAMPLES[name]).space


def answer_of(name: str) -> Answer:
    with Runtime.over(FakeBackend()) as runtime:
        return runtime.answer(name, EXAMPLES[name])


def test_a_choice_makes_one_claim() -> None:
    space, answer = space_of("sentiment_analysis"), answer_of("sentiment_analysis")
    assert answer.probabilities is not None
    for text, share in zip(space.alternatives, answer.probabilities.values(), strict=True):
        [claim] = case_of(space, answer, text).claims
        assert claim.probability == answer.probability
        assert claim.shares[claim.right] == share
        assert claim.correct == (text == answer.text)
        assert sum(claim.shares) == pytest.approx(1)
    with pytest.raises(InputError):
        case_of(space, answer, "F")


def test_a_predicate_a_score_and_a_ranking_make_one_claim_each() -> None:
    answer = answer_of("product_matching")
    for gold in ("yes", "no"):
        [claim] = case_of(Predicate(), answer, gold).claims
        assert claim.correct == (answer.text == gold)
    scored = Answer(
        "r", "own", "score", 1.8, "B", 0.8, {"bad": 0.2, "good": 0.8}, 0.6, 0.9, False, None, None, MODEL, ""
    )
    space = Score(("bad", "good"), ("A", "B"))
    assert case_of(space, scored, "A") == Case((Claim((0.8, 0.2), 1),), 0.9)
    assert case_of(space, scored, "B").correct


def test_a_ranking_is_one_choice_among_all_orders() -> None:
    space, ranked = space_of("query_product_ranking"), answer_of("query_product_ranking")
    order, probability = ranked.value, ranked.probability
    assert probability is not None
    others = math.factorial(len(order)) - 1
    assert case_of(space, ranked, ",".join(order)).claims == (Claim((probability, 1 - probability), 0, others),)
    # The right product first is not enough: the probability is of the whole order.
    swapped = [order[0], *order[:0:-1]]
    for gold in (swapped, order[::-1]):
        assert case_of(space, ranked, ",".join(gold)).claims == (Claim((probability, 1 - probability), 1, others),)
    assert not case_of(space, ranked, ",".join(swapped)).correct
    single = Answer("r", "own", "ranking", ["A"], "A", 1.0, {"A": 1.0}, 1.0, 1.0, False, None, None, MODEL, "")
    assert case_of(Ranking(("A",)), single, "A").claims == (Claim((1.0,), 0),)


@pytest.mark.parametrize(
    ("labels", "right"),
    [("EIS", True), ("EEE", True), ("III", True), ("ESS", True), ("ESI", False), ("SEE", False), ("CIS", False)],
)
def test_an_order_is_right_if_no_order_is_better_by_the_labels(labels: str, right: bool) -> None:
    """The answer's order is A,C,B. `labels` are the degrees of relevance of A, B and C."""
    answer = Answer(
        "r", "query_product_ranking", "ranking", ["A", "C", "B"], "A,C,B", 0.6,
        {"A": 0.7, "B": 0.1, "C": 0.2}, 0.5, 0.9, False, None, None, MODEL, "alpaca",
    )  # fmt: skip
    assert case_of(Ranking(("A", "B", "C")), answer, "A,B,C", tuple(labels)).correct is right


def test_rankings_are_fitted_by_the_same_formula_as_they_are_calibrated() -> None:
    generator = np.random.default_rng(3)
    for letters in (1, 2, 3, 26):
        keys = [chr(ord("A") + place) for place in range(letters)]
        space = Ranking(tuple(keys))
        outcomes = [
            Outcome(keys, ",".join(keys), (), float(p), dict.fromkeys(keys, 1 / letters))
            for p in generator.uniform(0.3, 0.99, 40)
        ]
        answers = [
            Answer("r", "own", "ranking", keys, one.text, one.probability if letters > 1 else 1.0,
                   one.probabilities, 0.0, 1.0, False, None, None, MODEL, "") for one in outcomes
        ]  # fmt: skip
        right = generator.random(40) < 0.5
        cases = [
            case_of(space, answer, ",".join(keys if hit or letters == 1 else keys[::-1]))
            for answer, hit in zip(answers, right, strict=True)
        ]
        claims = _Claims.of(cases)
        settings = np.tile([2.5, 0.0], (40, 1))
        shares = np.exp(claims._tempered(settings)[:, 0])
        expected = [1.0 if letters == 1 else space.calibrated(outcome, 2.5).probability for outcome in outcomes]
        assert shares == pytest.approx(expected)


def test_an_extraction_makes_a_claim_for_each_entry() -> None:
    def entry(attribute: str, value: str | None, source: str | None, probability: float = 0.9) -> dict[str, Any]:
        return {"attribute": attribute, "value": value, "source": source, "probability": probability}

    gold = [
        entry("color", "blue", "product title"),
        entry("color", "navy", "product feature"),
        entry("size", None, None),
    ]
    answer = Answer(
        "r", "attribute_value_extraction", "extraction",
        [
            entry("Color", "navy", "product feature", 0.9),  # one of two, in another case
            entry("color", "blue", "product feature", 0.8),  # the right value from the wrong place
            entry("size", None, None, 0.7),
            entry("brand", None, None, 0.6),  # missing from the gold answer: it has no value
            entry("brand", "acme", "product title", 0.5),
        ],
        "[…]", 0.15, None, None, 0.4, False, None, None, MODEL, "alpaca",
    )  # fmt: skip
    space = Extraction(("color", "size", "brand"), {})
    case = case_of(space, answer, json.dumps(gold))
    assert [claim.right for claim in case.claims] == [0, 1, 0, 0, 1]
    assert [claim.shares for claim in case.claims] == [
        pytest.approx((share, 1 - share)) for share in (0.9, 0.8, 0.7, 0.6, 0.5)
    ]
    assert case.coverage == 0.4


def test_free_text_cannot_be_calibrated() -> None:
    with pytest.raises(InputError):
        case_of(space_of("answer_generation"), answer_of("answer_generation"), "yes")
    with pytest.raises(InputError):
        Text().claims(answer_of("product_matching"), "yes")
