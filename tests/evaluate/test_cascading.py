"""Tests the choice of the probability below which a cascade passes a row on to the next model.

The cascade should agree with its last model as often as the user wants, and pass on as few rows as possible.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecellm_lite import TASKS, Runtime
from ecellm_lite.answers.answer import AnswerWarning, RowError
from ecellm_lite.engine.fake import FakeBackend
from ecellm_lite.errors import ContextError, InputError
from ecellm_lite.evaluate.cascading import ComparedRow, cascade_result, compared_rows, curve
from ecellm_lite.evaluate.labelled import Labelled
from tests.support.labelled_rows import row

compared = st.builds(ComparedRow, st.floats(0, 1), st.booleans(), st.booleans(), st.booleans())


@given(st.lists(compared, min_size=1, max_size=40))
def test_the_curve_goes_from_the_first_model_to_the_last(rows: list[ComparedRow]) -> None:
    points = curve(rows)
    assert points[0].escalated == 0
    assert points[0].accuracy == sum(row.first_right for row in rows) / len(rows)
    assert points[-1].escalated == sum((row.probability or 0.0) < 1 for row in rows) / len(rows)
    for before, after in pairwise(points):
        assert before.escalate_below < after.escalate_below
        assert before.escalated <= after.escalated
        assert before.agreement <= after.agreement


def test_the_point_with_the_fewest_escalated_rows_is_chosen() -> None:
    # Of 200 rows the 40 least sure disagree: escalating 34 of them leaves 6, an agreement of 97%.
    rows = [ComparedRow((n + 1) / 201, n >= 40, n >= 40, True) for n in range(200)]
    result = cascade_result(rows, 0.97)
    assert result.chosen.escalated == 34 / 200
    assert result.chosen.agreement == 194 / 200
    assert result.chosen.accuracy == 194 / 200
    assert (result.first_accuracy, result.last_accuracy) == (160 / 200, 1)
    assert abs(result.held_out - 0.97) < 0.03


def test_an_unreachable_agreement_escalates_every_row() -> None:
    rows = [ComparedRow(1.0, False, True, False) for _ in range(100)]
    assert cascade_result(rows, 0.9).chosen.escalate_below == 1


def test_rows_are_compared_as_a_cascade_treats_them() -> None:
    task = TASKS["product_matching"]
    labelled = Labelled(task, 1, row(task.name, 0)["input"], "yes")
    with Runtime.over(FakeBackend()) as runtime:
        answer = runtime.answer(task, labelled.row)
    right, wrong = (
        replace(answer, text=text, probability=0.9, probabilities={text: 0.9, other: 0.1}, warnings=None)
        for text, other in (("yes", "no"), ("no", "yes"))
    )
    odd = replace(right, warnings=[AnswerWarning("low_coverage", "It is odd.")])
    long, invalid = (
        replace(right, value=None, text=None, probability=None, error=RowError.of(error("It is wrong")))
        for error in (ContextError, InputError)
    )
    pairs = [(right, wrong), (odd, wrong), (long, right), (right, long), (long, long), (invalid, invalid)]
    first, last = zip(*pairs, strict=True)
    assert compared_rows([labelled] * len(pairs), first, last) == [
        ComparedRow(0.9, agree=False, first_right=True, last_right=False),
        ComparedRow(None, agree=False, first_right=True, last_right=False),
        ComparedRow(None, agree=True, first_right=False, last_right=True),
        ComparedRow(0.9, agree=True, first_right=True, last_right=True),
        ComparedRow(None, agree=True, first_right=False, last_right=False),
    ]


def test_a_row_without_a_usable_probability_is_escalated_at_every_level() -> None:
    rows = [ComparedRow(None, False, False, True)] * 10 + [ComparedRow(0.9, True, False, False)] * 90
    first = curve(rows)[0]
    assert (first.escalate_below, first.escalated, first.agreement, first.accuracy) == (0, 0.1, 1, 0.1)


def test_few_rows_are_refused() -> None:
    with pytest.raises(InputError):
        cascade_result([ComparedRow(0.5, True, True, True)] * 99, 0.9)


def test_a_level_has_few_decimals_and_passes_on_exactly_the_rows_that_it_says() -> None:
    rows = [ComparedRow(0.9990001 + n / 250_000, n >= 40, n >= 40, True) for n in range(200)]
    chosen = cascade_result(rows, 0.97).chosen
    assert len(repr(chosen.escalate_below)) <= len("0.999137")
    assert chosen.escalated == 34 / 200
    assert sum((row.probability or 0.0) < chosen.escalate_below for row in rows) == 34


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_the_levels_tell_all_probabilities_apart(probabilities: list[float]) -> None:
    points = curve([ComparedRow(each, True, True, True) for each in probabilities])
    counts = {sum(each < level for each in probabilities) for level in [*probabilities, 1.0]}
    assert {round(point.escalated * len(probabilities)) for point in points} == counts
