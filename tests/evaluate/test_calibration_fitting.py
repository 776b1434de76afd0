"""Checks that fitting a temperature corrects an overconfident model. A fit that may be due to chance is not kept."""

from __future__ import annotations

import builtins
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from ecellm_lite import InputError, UsageError
from ecellm_lite.answers.calibration import tempered
from ecellm_lite.answers.claims import Claim
from ecellm_lite.evaluate.cases import Case
from ecellm_lite.evaluate.fitting import LEAST_RATIO, check_installed, fit
from ecellm_lite.evaluate.reliability import reliability
from ecellm_lite.models.calibrations import HIGHEST, LOWEST
from tests.support.drawn_cases import drawn
from tests.support.refusals import refusal

pytest.importorskip("scipy", reason="fitting a temperature needs the extra 'eval'")


def ece(cases: Sequence[Case], temperature: float) -> float:
    first = [claim for case in cases for claim in case.claims]
    shares = [float(tempered(claim.shares, temperature)[0]) for claim in first]
    measures = reliability(shares, [claim.correct for claim in first])
    assert measures is not None
    return measures.ece


@pytest.mark.parametrize("temperature", [3.0, 2.0, 0.5])
def test_an_overconfident_or_underconfident_model_is_corrected(temperature: float) -> None:
    fitted = fit(drawn(300, temperature, seed=1))
    assert fitted.refusal is None
    assert fitted.temperature == pytest.approx(temperature, rel=0.2)
    assert fitted.after.log_likelihood > fitted.before.log_likelihood
    assert fitted.after.ece < fitted.before.ece
    assert fitted.after.brier < fitted.before.brier
    unseen = drawn(2000, temperature, seed=2)
    assert ece(unseen, fitted.temperature) < 0.05 < ece(unseen, 1.0)


def test_ten_rows_are_too_few_to_tell() -> None:
    """The model is slightly overconfident. A temperature fitted to ten rows is refused, one fitted to 300 is kept."""
    for seed in range(20):
        fitted = fit(drawn(10, 1.5, seed))
        assert fitted.rows == 10
        assert fitted.refusal is not None
    assert fit(drawn(300, 1.5, seed=0)).refusal is None


def test_ten_right_answers_do_not_justify_a_temperature() -> None:
    """Ten right answers may be chance: at a probability of 0.8 each, all ten are right one time in ten (0.8 ** 10)."""
    fitted = fit([Case((Claim((0.8, 0.2), 0),), 1.0)] * 10)
    assert fitted.temperature == pytest.approx(LOWEST, rel=0.01)
    assert fitted.gain == pytest.approx(-math.log(0.8), abs=1e-3)
    assert fitted.error == pytest.approx(0, abs=1e-9)
    assert fitted.log_ratio == pytest.approx(-5 * math.log(0.8), abs=1e-2)
    assert fitted.refusal is not None
    assert "3.1" in fitted.refusal


def test_a_calibrated_model_is_left_as_it_is() -> None:
    accepted = [fit(drawn(count, 1.0, seed)).refusal is None for count in (10, 30, 100) for seed in range(40)]
    assert sum(accepted) <= len(accepted) / LEAST_RATIO


def test_the_seed_changes_the_gain_but_not_the_temperature() -> None:
    cases = drawn(60, 2.0, seed=5)
    one, other = fit(cases, seed=0), fit(cases, seed=1)
    assert one.temperature == other.temperature
    assert one.before == other.before
    assert one.gain != other.gain
    assert fit(cases, seed=0) == one


def test_the_measures_are_as_computed_by_hand() -> None:
    """All answers have the probability 0.9, but only half of them are right.

    So the best temperature is the highest one allowed, which brings 0.9 near 0.5.
    """
    cases = [Case((Claim((0.9, 0.1), place % 2),), place / 100) for place in range(100)]
    fitted = fit(cases)
    assert fitted.before.log_likelihood == pytest.approx((math.log(0.9) + math.log(0.1)) / 2)
    assert fitted.before.ece == pytest.approx(0.4)
    assert fitted.before.brier == pytest.approx((0.01 + 0.81) / 2)
    assert fitted.temperature == pytest.approx(HIGHEST, rel=0.01)
    assert fitted.after.log_likelihood == pytest.approx(math.log(0.5), abs=0.01)
    assert fitted.least_coverage == pytest.approx(0.0099)
    assert fitted.gain == pytest.approx(fitted.after.log_likelihood - fitted.before.log_likelihood)


def test_right_answers_of_probability_zero_have_a_finite_loss() -> None:
    cases = [Case((Claim((1.0, 0.0), int(place % 4 == 0)),), 1.0) for place in range(200)]
    fitted = fit(cases)
    assert math.isfinite(fitted.before.log_likelihood)
    assert fitted.refusal is None
    assert float(tempered((1.0, 0.0), fitted.temperature)[0]) == pytest.approx(0.86, abs=0.01)  # at the bound


def test_rows_have_equal_weight_however_many_claims_they_make() -> None:
    """One row makes a hundred claims, but weighs no more than a row that makes one."""
    loud = Case(tuple(Claim((0.99, 0.01), 1) for _ in range(100)), 1.0)
    quiet = [Case((Claim((0.7, 0.3), int(place % 10 < 3)),), 1.0) for place in range(40)]
    fitted = fit([loud, *quiet])
    assert fitted.refusal is not None
    assert fitted.error > 0.5


def entries(count: int, seed: int) -> list[Case]:
    """Return extractions with three entries each.

    An entry's probability p is drawn from 0.5 to 0.99. The entry is right with probability sigmoid(logit(p) / 2 - 2).
    """
    generator = np.random.default_rng(seed)
    cases = []
    for _ in range(count):
        shares = generator.uniform(0.5, 0.99, 3)
        right = generator.random(3) < 1 / (1 + np.exp(2.0 - np.log(shares / (1 - shares)) / 2))
        cases.append(Case(tuple(Claim((p, 1 - p), int(not hit)) for p, hit in zip(shares, right, strict=True)), 1.0))
    return cases


def test_mostly_wrong_entries_get_a_bias() -> None:
    """A temperature alone cannot bring a probability of 0.9 below 0.5, but a bias can."""
    plain, fitted = fit(entries(300, seed=1)), fit(entries(300, seed=1), biased=True)
    assert plain.bias == 0
    assert plain.temperature == pytest.approx(HIGHEST, rel=0.01)
    assert plain.after.ece > 0.2
    assert fitted.refusal is None
    assert fitted.bias == pytest.approx(-2, abs=0.6)
    assert fitted.temperature == pytest.approx(2, rel=0.4)
    assert fitted.after.ece < 0.05 < 0.3 < fitted.before.ece
    accepted = [fit(drawn(10, 1.0, seed, options=2), biased=True).refusal is None for seed in range(40)]
    assert sum(accepted) <= len(accepted) / LEAST_RATIO


def test_too_few_rows_are_refused() -> None:
    with refusal(InputError, 10, 9):
        fit(drawn(9, 3.0, seed=0))


def test_without_scipy_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def absent(name: str, *arguments: Any, **named: Any) -> Any:
        if name.startswith("scipy"):
            raise ImportError(name)
        return original(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(UsageError, match=r"pip install 'ecellm-lite\[eval\]'"):
        check_installed()


def test_overconfident_rankings_are_corrected() -> None:
    """Each row has six possible orders. Its logits are three times too large."""
    cases = []
    for case in drawn(400, 3.0, seed=7, options=6):
        [claim] = case.claims
        first = claim.probability
        cases.append(Case((Claim((first, 1 - first), int(not claim.correct), 5),), 1.0))
    fitted = fit(cases)
    assert fitted.refusal is None
    assert fitted.temperature > 2
    assert fitted.after.ece < 0.1 < fitted.before.ece


def test_the_temperature_of_rankings_is_as_computed_by_hand() -> None:
    """Each ranking has three possible orders, and its answer has the probability 0.8. Half of the answers are right.

    The temperature log 8 / log 2 turns the odds 8:1:1 into 2:1:1, so the answer gets the probability 0.5.
    """
    cases = [Case((Claim((0.8, 0.2), place % 2, 2),), 1.0) for place in range(200)]
    fitted = fit(cases)
    assert fitted.temperature == pytest.approx(math.log(8) / math.log(2), rel=1e-3)
    assert fitted.after.ece == pytest.approx(0, abs=0.1)
    assert fitted.before.log_likelihood == pytest.approx((math.log(0.8) + math.log(0.2)) / 2)
