"""Tests of validation during training: macro-F1 as in scikit-learn, the share of exact answers, and the likelihood."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecellm_lite.training.lessons import Lesson
from ecellm_lite.training.validation import LEAST_ROWS, Validation

END, CHOICES, SIZE = 9, (3, 5, 7), 10


def row(gold: int, task: str = "sentiment_analysis") -> Lesson:
    return Lesson(task, [1, 2, CHOICES[gold], END], 2, CHOICES, gold)


def logits(*likeliest: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    values = np.zeros((len(likeliest), SIZE), dtype=np.float32)
    values[np.arange(len(likeliest)), likeliest] = 5
    return values


@settings(max_examples=20)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=LEAST_ROWS, max_size=120))
def test_macro_f1_is_scikit_learns(pairs: list[tuple[int, int]]) -> None:
    metrics = pytest.importorskip("sklearn.metrics", reason="macro-F1 is held against scikit-learn (extra 'eval')")
    validation = Validation()
    for gold, likeliest in pairs:
        validation.add(row(gold), logits(CHOICES[likeliest], END))
    result = validation.result()
    right, guessed = zip(*pairs, strict=True)
    expected = metrics.f1_score(right, guessed, average="macro")
    assert result["tasks"]["sentiment_analysis"]["macro_f1"] == pytest.approx(expected, abs=1e-4)
    assert result["tasks"]["sentiment_analysis"]["accuracy"] == pytest.approx(np.equal(right, guessed).mean(), abs=1e-4)
    assert result["score"] == pytest.approx(expected, abs=1e-4)


def test_an_answer_is_exact_if_every_token_is_the_likeliest() -> None:
    validation = Validation()
    validation.add(row(0), logits(3, END))
    validation.add(row(0), logits(3, 3))  # the right choice, and no end
    validation.add(row(0), logits(2, END))  # no choice at all is the likeliest token, and of them the first is taken
    scores = validation.result()["tasks"]["sentiment_analysis"]
    assert scores["exact"] == pytest.approx(1 / 3, abs=1e-4)
    assert scores["accuracy"] == 1


def test_the_loss_is_the_answers_negative_log_likelihood() -> None:
    validation = Validation()
    validation.add(Lesson("answer_generation", [1, 2, 3, END], 2), logits(3, 4) + np.float32(1000))
    whole = math.log(math.exp(5) + SIZE - 1)
    result = validation.result()
    assert result["tasks"]["answer_generation"] == {
        "rows": 1,
        "loss": pytest.approx((whole - 5) + whole, abs=1e-3),
        "exact": 0,
    }


def test_the_score_is_the_mean_over_tasks_with_enough_rows() -> None:
    validation = Validation()
    for number in range(LEAST_ROWS):
        validation.add(row(number % 2), logits(CHOICES[number % 2], END))
        validation.add(Lesson("answer_generation", [1, 2, END], 1), logits(END if number % 4 else 0))
    validation.add(row(1, "product_matching"), logits(CHOICES[0], END))
    assert validation.result()["score"] == pytest.approx((1 + 0.75) / 2)


def test_the_likelihood_decides_if_no_task_has_enough_rows() -> None:
    better, worse = Validation(), Validation()
    better.add(row(0), logits(3, END))
    worse.add(row(0), logits(5, END))
    assert better.result()["score"] > worse.result()["score"]


def test_rows_of_sources_that_were_left_out_have_figures_of_their_own() -> None:
    validation = Validation()
    for _ in range(LEAST_ROWS):
        validation.add(row(0), logits(CHOICES[0], END))
        validation.add(replace(row(1), left_out=True), logits(CHOICES[0], END))
    result = validation.result()
    assert result["tasks"]["sentiment_analysis"]["macro_f1"] == 1
    assert result["left_out"]["sentiment_analysis"]["macro_f1"] == 0
    assert result["score"] == 0.5
