"""Checks that the softmax over the allowed tokens gives valid probabilities for any finite logits."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ecellm_lite.answers.probabilities import confidence, restrict, shares
from ecellm_lite.errors import ModelError
from tests.support.refusals import refusal

finite_logits = arrays(np.float32, 32, elements=st.floats(width=32, allow_nan=False, allow_infinity=False))
some_tokens = st.lists(st.integers(0, 31), min_size=1, max_size=8, unique=True)


@given(finite_logits, some_tokens)
def test_any_finite_logits_give_probabilities(logits: np.ndarray, allowed: list[int]) -> None:
    restricted = restrict(logits, allowed)
    assert abs(restricted.shares.sum() - 1) < 1e-9
    assert (restricted.shares >= 0).all()
    assert 0 <= restricted.coverage <= 1
    assert shares(logits, allowed).tolist() == restricted.shares.tolist()


def test_restrict_is_a_softmax_over_the_allowed_tokens() -> None:
    logits = np.array([0.0, 1.0, 2.0, -50.0], dtype=np.float32)
    restricted = restrict(logits, [0, 2])
    assert restricted.shares[1] == pytest.approx(math.exp(2) / (1 + math.exp(2)))
    assert restricted.coverage == pytest.approx((1 + math.exp(2)) / (1 + math.e + math.exp(2)))


@given(finite_logits, some_tokens, st.integers(0, 31), st.sampled_from([math.nan, math.inf, -math.inf]))
def test_a_logit_that_is_not_finite_is_an_error(
    logits: np.ndarray, allowed: list[int], place: int, value: float
) -> None:
    """Coverage depends on all logits, so each of them must be finite."""
    logits[place] = value
    with refusal(ModelError, settings=("gpu_layers",)):
        restrict(logits, allowed)
    with refusal(ModelError, settings=("gpu_layers",)):
        shares(logits, allowed)


def test_restrict_does_not_change_its_input() -> None:
    logits = np.array([3e38, 1.0], dtype=np.float32)
    restrict(logits, [0])
    assert logits[0] == np.float32(3e38)


@pytest.mark.parametrize(
    ("parts", "expected"),
    [([1.0], 1.0), ([0.5, 0.5], 0.0), ([0.75, 0.25], 0.5), ([0.2] * 5, 0.0), ([0.81, 0.12, 0.05, 0.01, 0.01], 0.7625)],
)
def test_confidence_is_the_distance_from_uniform(parts: list[float], expected: float) -> None:
    assert confidence(parts) == pytest.approx(expected)
