"""The restricted softmax holds its promises for any logits at all."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ecellm_lite.answers.probabilities import confidence, restrict

any_logits = arrays(np.float32, 32, elements=st.floats(width=32))
some_tokens = st.lists(st.integers(0, 31), min_size=1, max_size=8, unique=True)


@given(any_logits, some_tokens)
def test_any_logits_give_probabilities(logits: np.ndarray, allowed: list[int]) -> None:
    restricted = restrict(logits, allowed)
    assert abs(restricted.shares.sum() - 1) < 1e-9
    assert (restricted.shares >= 0).all()
    assert 0 <= restricted.coverage <= 1


def test_it_is_a_softmax() -> None:
    logits = np.array([0.0, 1.0, 2.0, -50.0], dtype=np.float32)
    restricted = restrict(logits, [0, 2])
    assert restricted.shares[1] == pytest.approx(math.exp(2) / (1 + math.exp(2)))
    assert restricted.coverage == pytest.approx((1 + math.exp(2)) / (1 + math.e + math.exp(2)))


def test_no_logit_at_all_is_no_preference() -> None:
    assert restrict(np.full(8, np.nan, dtype=np.float32), [1, 2]).shares.tolist() == [0.5, 0.5]
    assert restrict(np.full(8, -np.inf, dtype=np.float32), [1, 2]).shares.tolist() == [0.5, 0.5]


def test_infinities_are_taken_as_they_are_meant() -> None:
    logits = np.zeros(8, dtype=np.float32)
    logits[3], logits[4] = np.inf, -np.inf
    assert restrict(logits, [3, 5]).shares.tolist() == [1.0, 0.0]
    assert restrict(logits, [4, 5]).shares.tolist() == [0.0, 1.0]


def test_the_input_is_left_alone() -> None:
    logits = np.array([np.nan, 1.0], dtype=np.float32)
    restrict(logits, [0])
    assert np.isnan(logits[0])


@pytest.mark.parametrize(
    ("shares", "expected"),
    [([1.0], 1.0), ([0.5, 0.5], 0.0), ([0.75, 0.25], 0.5), ([0.2] * 5, 0.0), ([0.81, 0.12, 0.05, 0.01, 0.01], 0.7625)],
)
def test_confidence(shares: list[float], expected: float) -> None:
    assert confidence(shares) == pytest.approx(expected)
