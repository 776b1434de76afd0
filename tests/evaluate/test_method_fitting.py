"""Tests that each calibration method is chosen for the rows that it suits.

The methods are temperature, vector scaling and isotonic regression."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from ecellm_lite.answers.claims import Claim
from ecellm_lite.answers.option_corrections import MOST_POINTS, IsotonicRegression, VectorScaling
from ecellm_lite.evaluate.cases import Case
from ecellm_lite.evaluate.fitting import LEAST_RATIO, Fit, fit
from ecellm_lite.evaluate.method_fitting import (
    ISOTONIC,
    LEAST_ROWS,
    METHODS,
    TEMPERATURE,
    VECTOR,
    Floats,
    OptionRows,
    choose_method,
)

pytest.importorskip("scipy", reason="fitting needs the extra 'eval'")
isotonic = pytest.importorskip("sklearn.isotonic", reason="fitting needs the extra 'eval'")

KEYS = "ABCDE"


def softmax(logits: Floats) -> Floats:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: Floats = powers / powers.sum(axis=1, keepdims=True)
    return shares


def rows_of(shares: Floats, true: Floats, seed: int) -> OptionRows:
    """Return rows for which the model gives the probabilities `shares`.

    Their right answers are drawn at random, with the probabilities `true`.
    """
    generator = np.random.default_rng(seed)
    right = np.array([generator.choice(len(row), p=row) for row in true], dtype=np.intp)
    return OptionRows(tuple(KEYS[: shares.shape[1]]), shares, right)


def too_sure(count: int, times: float, seed: int = 1) -> OptionRows:
    """Return rows of a simulated model. Its logits are the true logits multiplied by `times`."""
    logits = np.random.default_rng(seed).normal(size=(count, 4)) * 2
    return rows_of(softmax(logits * times), softmax(logits), seed + 1)


def leaning(count: int, seed: int = 2) -> OptionRows:
    """Return rows of a simulated model that gives the first option too much probability, and the last too little."""
    logits = np.random.default_rng(seed).normal(size=(count, 4)) * 2
    return rows_of(softmax(logits + np.array([2.5, 0.0, 0.0, -1.0])), softmax(logits), seed + 1)


def stepped(count: int, seed: int = 3) -> OptionRows:
    """Return rows answered by a simulated model. Its logits vary, but the true probabilities have only three values."""
    logits = np.random.default_rng(seed).uniform(-6, 6, count)
    true = np.select([logits < -3, logits < 3], [0.02, 0.5], 0.98)
    first = 1 / (1 + np.exp(-logits))
    return rows_of(np.stack([first, 1 - first], axis=1), np.stack([true, 1 - true], axis=1), seed + 1)


def chosen(rows: OptionRows) -> Fit:
    cases = []
    for shares, right in zip(rows.shares.tolist(), rows.right.tolist(), strict=True):
        order = sorted(range(len(shares)), key=lambda place: -shares[place])
        cases.append(Case((Claim(tuple(shares[place] for place in order), order.index(right)),), 1.0))
    return choose_method(fit(cases), rows)


def test_logits_that_are_too_large_need_a_temperature_alone() -> None:
    kept = chosen(too_sure(400, 3.0))
    assert kept.by_option is None
    assert kept.refusal is None
    assert kept.temperature == pytest.approx(3, rel=0.25)
    assert kept.methods is not None
    assert kept.methods[TEMPERATURE].behind <= kept.methods[TEMPERATURE].error
    assert list(kept.methods) == list(METHODS)


def test_a_preferred_option_needs_vector_scaling() -> None:
    rows = leaning(400)
    kept = chosen(rows)
    assert isinstance(kept.by_option, VectorScaling)
    assert kept.refusal is None
    assert kept.temperature == 1.0
    biases = kept.by_option.biases
    assert biases["A"] - biases["B"] == pytest.approx(-2.5, abs=0.8)
    assert kept.after.ece < 0.1 < 0.2 < kept.before.ece
    assert kept.methods is not None
    assert kept.methods[VECTOR].log_likelihood > kept.methods[TEMPERATURE].log_likelihood + 0.1


def test_groups_of_probabilities_need_isotonic_regression() -> None:
    rows = stepped(800)
    kept = chosen(rows)
    assert isinstance(kept.by_option, IsotonicRegression)
    assert kept.refusal is None
    assert kept.by_option.corrected(np.array([[0.8, 0.2], [0.3, 0.7]]))[:, 0] == pytest.approx(0.5, abs=0.12)
    assert kept.methods is not None
    assert kept.methods[ISOTONIC].behind == 0
    assert kept.methods[VECTOR].behind > kept.methods[VECTOR].error


def test_few_rows_have_a_temperature_alone() -> None:
    assert chosen(leaning(LEAST_ROWS - 1)).methods is None
    assert chosen(leaning(LEAST_ROWS)).methods is not None


def test_a_calibrated_model_is_left_as_it_is() -> None:
    fits = [chosen(too_sure(LEAST_ROWS, 1.0, seed)) for seed in range(10, 20)]
    assert sum(kept.refusal is None for kept in fits) <= 1
    assert {kept.least_ratio for kept in fits} == {3 * LEAST_RATIO}


def test_the_same_seed_gives_the_same_fit() -> None:
    rows = leaning(LEAST_ROWS)
    assert chosen(rows) == chosen(rows)


def test_the_curves_are_those_of_scikit_learn() -> None:
    rows = stepped(300)
    correction = METHODS[ISOTONIC](rows)
    least = 1 / 302
    columns = []
    for place in range(2):
        regression = isotonic.IsotonicRegression(y_min=least, y_max=1 - least, out_of_bounds="clip")
        regression.fit(rows.shares[:, place], rows.right == place)
        columns.append(regression.predict(np.linspace(0, 1, 101) if place == 0 else 1 - np.linspace(0, 1, 101)))
    grid = np.stack([np.linspace(0, 1, 101), 1 - np.linspace(0, 1, 101)], axis=1)
    values = np.stack(columns, axis=1)
    assert correction.corrected(grid) == pytest.approx(values / values.sum(axis=1, keepdims=True), abs=1e-12)


def test_vector_scaling_has_the_best_figures_by_hand() -> None:
    """The first option is right in 90% of the rows, so vector scaling must bring its probability near 0.9."""
    shares = np.tile([0.5, 0.5], (1000, 1))
    rows = OptionRows(("yes", "no"), shares, np.array([0] * 900 + [1] * 100, dtype=np.intp))
    after = METHODS[VECTOR](rows).corrected(shares)
    assert after[0, 0] == pytest.approx(0.9, abs=0.005)


def test_an_option_that_is_never_right_gets_no_extreme_bias() -> None:
    logits = np.random.default_rng(5).normal(size=(300, 3))
    rows = OptionRows(tuple("ABC"), softmax(logits), np.random.default_rng(6).integers(0, 2, 300))
    correction = METHODS[VECTOR](rows)
    correction.check()
    assert isinstance(correction, VectorScaling)
    assert math.isfinite(sum(correction.biases.values()))
    assert float(correction.corrected(rows.shares)[:, 2].mean()) < 0.05


def test_curves_with_too_many_points_are_not_kept() -> None:
    rows = stepped(800)
    many = MOST_POINTS // 2 + 1
    kept = chosen(rows)
    assert isinstance(kept.by_option, IsotonicRegression)
    curve = replace(
        kept.by_option.curves["A"],
        before=tuple(np.linspace(0, 1, many).tolist()),
        after=tuple(np.linspace(0.1, 1, many).tolist()),
    )
    with pytest.raises(ValueError, match="points"):
        IsotonicRegression({"A": curve, "B": curve}).check()
