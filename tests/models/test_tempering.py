"""Tests how a calibration's temperature changes probabilities and answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecellm_lite.answers.calibration import tempered, tempered_among, tempered_listed, tempered_odds
from ecellm_lite.answers.choice import Choice
from ecellm_lite.answers.decoding import Outcome
from ecellm_lite.answers.extraction import Extraction
from ecellm_lite.answers.label_set import Labels, LabelSet
from ecellm_lite.answers.none_of_these import LabelSetOrNone
from ecellm_lite.answers.option_corrections import Curve, IsotonicRegression, VectorScaling
from ecellm_lite.answers.options import Option
from ecellm_lite.answers.probabilities import confidence
from ecellm_lite.answers.ranking import Ranking
from ecellm_lite.answers.score import Score
from ecellm_lite.answers.text import Text
from ecellm_lite.models.calibrations import HIGHEST, LARGEST_BIAS, LOWEST

TEMPERATURES = st.floats(LOWEST, HIGHEST)


def softmax(weights: Sequence[float]) -> list[float]:
    powers = np.exp(np.asarray(weights, dtype=np.float64) - max(weights))
    shares: list[float] = (powers / powers.sum()).tolist()
    return shares


# Ordinary probabilities, and some that are 0, 1, or tiny.
SHARES = st.one_of(
    st.lists(st.floats(-800, 800), min_size=2, max_size=26).map(softmax),
    st.integers(2, 26).map(lambda count: [1.0] + [0.0] * (count - 1)),
    st.integers(2, 26).map(lambda count: [1 / count] * count),
)


@given(SHARES, TEMPERATURES)
def test_shares_keep_their_order_and_sum_to_one(shares: list[float], temperature: float) -> None:
    after = tempered(shares, temperature)
    assert np.isfinite(after).all()
    assert after.sum() == pytest.approx(1)
    assert after[int(np.argmax(shares))] == after.max()
    for one, other in zip(np.argsort(shares)[:-1], np.argsort(shares)[1:], strict=True):
        assert after[one] <= after[other]


@given(st.lists(st.floats(-30, 30), min_size=2, max_size=26), TEMPERATURES)
def test_tempering_equals_a_softmax_of_the_logits_at_that_temperature(logits: list[float], temperature: float) -> None:
    whole = [logit - max(logits) for logit in logits]
    shares = softmax([max(logit, -30.0) for logit in whole])
    expected = softmax([max(logit, -30.0) / temperature for logit in whole])
    assert tempered(shares, temperature) == pytest.approx(expected, abs=1e-9)


@given(SHARES)
def test_temperature_one_changes_nothing(shares: list[float]) -> None:
    assert tempered(shares, 1.0) == pytest.approx(shares, abs=1e-12)


@given(st.floats(0, 1), st.floats(0, 1), TEMPERATURES)
def test_tempered_odds_are_monotone_and_stay_on_their_side_of_one_half(
    one: float, other: float, temperature: float
) -> None:
    low, high = (tempered_odds(probability, temperature) for probability in sorted((one, other)))
    assert 0 <= low <= high <= 1
    assert (tempered_odds(one, temperature) - 0.5) * (one - 0.5) >= 0


# Away from 0 and 1, where the others' probabilities are too small to compare.
@given(st.floats(1e-9, 1 - 1e-9), st.integers(2, 24), TEMPERATURES)
def test_one_tempered_share_equals_the_softmax_over_all(probability: float, count: int, temperature: float) -> None:
    shares = [probability, *[(1 - probability) / (count - 1)] * (count - 1)]
    assert tempered_among(probability, count, temperature) == pytest.approx(tempered(shares, temperature)[0], abs=1e-6)


@given(st.lists(st.floats(1e-6, 1.0), min_size=1, max_size=5), st.integers(0, 20), st.floats(1e-6, 1.0), TEMPERATURES)
def test_listed_shares_equal_the_softmax_over_all(
    weights: list[float], others: int, rest: float, temperature: float
) -> None:
    whole = sum(weights) + (rest if others else 0.0)
    listed = [weight / whole for weight in weights]
    after = tempered_listed(listed, others, temperature)
    every = tempered([*listed, *[rest / whole / max(1, others)] * others], temperature)
    assert after == pytest.approx(every[: len(listed)].tolist(), abs=1e-6)
    assert sum(after) <= 1 + 1e-12


@given(st.floats(0, 1), st.floats(0, 1), TEMPERATURES, st.floats(-LARGEST_BIAS, LARGEST_BIAS))
def test_a_bias_keeps_the_order(one: float, other: float, temperature: float, bias: float) -> None:
    low, high = (tempered_odds(probability, temperature, bias) for probability in sorted((one, other)))
    assert 0 <= low <= high <= 1


def test_tempered_odds_are_as_computed_by_hand() -> None:
    # logit(0.9) = log 9; half of it is log 3, which is 3 to 1.
    assert tempered_odds(0.9, 2.0) == pytest.approx(0.75)
    assert tempered_odds(0.75, 0.5) == pytest.approx(0.9)
    assert tempered_odds(0.9, 2.0, -np.log(3)) == pytest.approx(0.5)
    assert tempered_odds(0.0, 2.0) == pytest.approx(0, abs=1e-7)
    assert tempered_odds(1.0, 2.0) == pytest.approx(1, abs=1e-7)


def test_a_tempered_choice_is_as_computed_by_hand() -> None:
    space = Choice((Option("A", "A: bad"), Option("B", "B: good"), Option("C", "C: so so")))
    before = Outcome("B", "B: good", [1], 0.64, {"A": 0.04, "B": 0.64, "C": 0.32}, confidence((0.04, 0.64, 0.32)), 0.5)
    after = space.calibrated(before, 2.0)
    roots = np.sqrt([0.04, 0.64, 0.32])
    assert after.probabilities == pytest.approx(dict(zip("ABC", roots / roots.sum(), strict=True)))
    assert after.probability == pytest.approx(0.8 / roots.sum())
    assert after.confidence == pytest.approx((0.8 / roots.sum() - 1 / 3) / (2 / 3))
    assert (after.value, after.text, after.coverage) == ("B", "B: good", 0.5)
    assert space.calibrated(before, 1.0) is before


@pytest.mark.parametrize("none", [False, True])
@given(
    weights=st.lists(st.floats(0.001, 1.0), min_size=1, max_size=5),
    unexplored=st.floats(0, 1),
    temperature=TEMPERATURES,
)
def test_the_probabilities_of_labels_never_sum_to_more_than_one(
    none: bool, weights: list[float], unexplored: float, temperature: float
) -> None:
    names = [f"label {number}" for number in range(300)]
    space = LabelSetOrNone(Labels(names, names)) if none else LabelSet(Labels(names, names))
    whole = sum(weights) + unexplored
    shares = sorted((weight / whole for weight in weights), reverse=True)
    probabilities = dict(zip(names, shares, strict=False))
    before = Outcome(names[0], names[0], [1], shares[0], probabilities, 0.5, 0.9, unexplored=unexplored / whole)
    if isinstance(space, LabelSetOrNone):
        before = space.joined(before, 0.1)
    after = space.calibrated(before, temperature)
    assert after.probabilities
    assert after.unexplored is not None
    assert sum(after.probabilities.values()) + after.unexplored <= 1 + 1e-9
    assert after.probability == max(after.probabilities.values()) == after.probabilities[after.value]


@given(st.lists(st.floats(0.01, 1.0), min_size=1, max_size=5), st.integers(0, 9), TEMPERATURES)
def test_a_label_sets_claim_says_what_a_temperature_does(weights: list[float], gold: int, temperature: float) -> None:
    names = [f"label {number}" for number in range(10)]
    space = LabelSet(Labels(names, names))
    shares = sorted((weight / (sum(weights) + 0.1) for weight in weights), reverse=True)
    outcome = Outcome(names[0], names[0], [1], shares[0], dict(zip(names, shares, strict=False)), 0.5, 0.9)
    claim = space.claim(outcome.probabilities or {}, names[gold])
    # A claim's likelihood, as `calibrate` computes it; see evaluate/fitting.py.
    alike = np.ones(len(claim.shares))
    alike[-1] = claim.alike
    powers = alike * (np.array(claim.shares) / alike) ** (1 / temperature)
    after = space.calibrated(outcome, temperature).probabilities or {}
    expected = after.get(names[gold], 1 - sum(after.values()))
    assert powers[claim.right] / powers.sum() == pytest.approx(expected, abs=1e-9)


def test_a_score_moves_with_its_probabilities() -> None:
    before = Outcome(1.8, "good", [1], 0.8, {"bad": 0.2, "good": 0.8}, 0.6, 1.0)
    after = Score(("bad", "good")).calibrated(before, 2.0)
    assert after.probabilities == pytest.approx({"bad": 1 / 3, "good": 2 / 3})
    assert after.value == pytest.approx(1 + 2 / 3)
    assert after.probability == pytest.approx(2 / 3)


def test_a_ranking_is_tempered_by_its_first_place_and_as_a_whole() -> None:
    before = Outcome(["B", "A", "C"], "B,A,C", [1], 0.5, {"A": 0.2, "B": 0.8, "C": 0.0}, 0.7, 1.0)
    after = Ranking(("A", "B", "C")).calibrated(before, 2.0)
    # 0.5 against five other orders of 0.1 each: their square roots.
    assert after.probability == pytest.approx(0.5**0.5 / (0.5**0.5 + 5 * 0.1**0.5))
    assert after.probabilities == pytest.approx({"A": 1 / 3, "B": 2 / 3, "C": 0.0}, abs=1e-7)
    single = Outcome(["A"], "A", [1], 1.0, {"A": 1.0}, 1.0, 1.0)
    assert Ranking(("A",)).calibrated(single, 7.0) is single


def test_an_extraction_is_tempered_by_its_entries() -> None:
    entries: list[dict[str, Any]] = [{"attribute": "color", "value": "blue", "source": "title", "probability": 0.9},
               {"attribute": "size", "value": None, "source": None, "probability": 0.8}]  # fmt: skip
    space = Extraction(("color", "size"), {"title": "blue"})
    after = space.calibrated(Outcome(entries, "[…]", [1], 0.72, coverage=0.3), 2.0)
    assert [entry["probability"] for entry in after.value] == pytest.approx([0.75, 2 / 3])
    assert after.probability == pytest.approx(0.5)
    biased = space.calibrated(Outcome(entries, "[…]", [1], 0.72, coverage=0.3), 1.0, -np.log(9))
    assert [entry["probability"] for entry in biased.value] == pytest.approx([0.5, 4 / 13])
    assert [{**entry, "probability": 0} for entry in after.value] == [{**entry, "probability": 0} for entry in entries]
    assert (after.probabilities, after.coverage) == (None, 0.3)


def test_a_choice_corrected_by_option_has_the_answer_that_is_now_the_likeliest() -> None:
    space = Choice((Option("A", "A: bad"), Option("B", "B: good")))
    before = Outcome("B", "B: good", [1], 0.6, {"A": 0.4, "B": 0.6}, confidence((0.4, 0.6)), 0.5)
    # Half of each logarithm, and twice the odds of A: sqrt(0.4) * 2 against sqrt(0.6).
    after = space.corrected_by_option(before, VectorScaling({"B": 0.5, "A": 0.5}, {"B": 0.0, "A": float(np.log(2))}))
    first = 2 * 0.4**0.5 / (2 * 0.4**0.5 + 0.6**0.5)
    assert after.probabilities == pytest.approx({"A": first, "B": 1 - first})
    assert (after.value, after.text, after.coverage) == ("A", "A: bad", 0.5)
    assert after.probability == pytest.approx(first)
    assert after.confidence == pytest.approx(2 * first - 1)


def test_a_curve_by_hand() -> None:
    space = Choice((Option("A", "A: bad"), Option("B", "B: good")))
    before = Outcome("B", "B: good", [1], 0.6, {"A": 0.4, "B": 0.6}, 0.2, 0.5)
    curves = {"A": Curve((0.2, 0.6), (0.1, 0.5)), "B": Curve((0.7,), (0.9,))}
    after = space.corrected_by_option(before, IsotonicRegression(curves))
    assert after.probabilities == pytest.approx({"A": 0.25, "B": 0.75})
    level = IsotonicRegression(dict.fromkeys("AB", Curve((0.5,), (0.3,))))
    even = space.corrected_by_option(before, level)
    assert even.value == "B"  # equally likely now: the answer stays
    shares = even.probabilities or {}
    assert max(shares, key=shares.__getitem__) == "B"
    assert even.probability == shares["B"] == pytest.approx(0.5)


def test_a_score_corrected_by_option_moves() -> None:
    before = Outcome(1.8, "good", [1], 0.8, {"bad": 0.2, "good": 0.8}, 0.6, 1.0)
    even = VectorScaling({"bad": 1.0, "good": 1.0}, {"bad": float(np.log(4)), "good": 0.0})
    assert Score(("bad", "good")).corrected_by_option(before, even).value == pytest.approx(1.5)


@given(SHARES, st.data())
def test_corrections_by_option_give_probabilities(shares: list[float], data: st.DataObject) -> None:
    keys = tuple(map(str, range(len(shares))))
    scales = data.draw(st.lists(st.floats(0.05, 20), min_size=len(keys), max_size=len(keys)))
    biases = data.draw(st.lists(st.floats(-10, 10), min_size=len(keys), max_size=len(keys)))
    scaling = VectorScaling(dict(zip(keys, scales, strict=True)), dict(zip(keys, biases, strict=True)))
    values = sorted(data.draw(st.lists(st.floats(1e-9, 1), min_size=3, max_size=3)))
    curves = IsotonicRegression(dict.fromkeys(keys, Curve((0.0, 0.3, 0.9), tuple(values))))
    for correction in (scaling, curves):
        correction.check()
        after = correction.corrected(np.array([shares, shares]))
        assert after.shape == (2, len(shares))
        assert (after >= 0).all()
        assert after.sum(axis=1) == pytest.approx([1, 1])


def test_free_text_is_not_tempered() -> None:
    before = Outcome("yes", "yes", [1])
    assert Text().calibrated(before, 3.0) is before
