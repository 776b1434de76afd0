"""Tests the results of one task: rows without an answer, which answers count as right, and reliability."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecellm_lite.answers.answer import RowError
from ecellm_lite.evaluate.evaluation import no_rows
from ecellm_lite.evaluate.reliability import reliability, risk
from ecellm_lite.evaluate.results import (
    TaskResult,
    Unreadable,
)
from ecellm_lite.tasks.registry import get_task
from tests.support.evaluations import answer_of, result_of, rows_of, whole


def test_rows_without_answer_are_counted() -> None:
    rows = rows_of("PM", 4)  # yes, no, yes, no
    failed = answer_of(rows[1], None, None, error=RowError("context_exceeded", "Too long."))
    abstained = answer_of(rows[2], None, 0.4, abstained=True)
    task = result_of(rows, [answer_of(rows[0], "yes", 0.9), failed, abstained, answer_of(rows[3], "no", 0.6)])
    assert (task.rows, task.answered, task.failed, task.abstained) == (4, 2, 1, 1)
    assert [task.metrics.paper["f1"], task.metrics.all["f1"]] == pytest.approx([1, 2 / 3])
    assert (task.metrics.paper["accuracy"], task.metrics.all["accuracy"]) == (1, 0.5)
    assert task.confusion
    assert (task.confusion.labels, task.confusion.counts) == (["yes", "no"], [[1, 0, 1], [0, 1, 1]])
    assert [record.score for record in task.records] == [1, 0, 0, 1]
    assert [(point.answered, point.accuracy) for point in task.risk or []] == [(0.25, 1), (0.5, 1)]
    complete = whole({"product_matching": task, "sentiment_analysis": no_rows(get_task("SA"), [Unreadable(3, "No.")])})
    assert complete.failures == 2


def test_unusual_settings_have_a_note() -> None:
    [one] = rows_of("PM", 1)
    shot = replace(one, row={**one.row, "setting": "IND_Diverse_Instruction_1-shot"})
    assert len(result_of([shot], [answer_of(shot, "yes")]).notes) == 1
    assert not result_of([one], [answer_of(one, "yes")]).notes
    [one] = rows_of("AVE", 1)
    outside = replace(one, row={**one.row, "setting": "OOD_Diverse_Instruction"})
    [note] = result_of([outside], [answer_of(outside, None)]).notes
    assert [value for value in ("contained_f1", "0.000", "0.397", "0.335") if value not in note] == []
    assert not result_of([one], [answer_of(one, None)]).notes


def test_a_ranking_is_right_only_if_its_whole_order_is() -> None:
    """An answer with the correct first product, but a wrong order after it, counts as wrong."""
    rows = rows_of("QPR", 2)  # B,A,C and C,B,A
    shares = {"A": 0.1, "B": 0.9, "C": 0.0}
    fields = {"type": "ranking", "probabilities": shares}
    answers = [
        answer_of(rows[0], "B,C,A", 0.7, value=["B", "C", "A"], **fields),
        answer_of(rows[1], "C,B,A", 0.4, value=["C", "B", "A"], **fields),
    ]

    def judged(task: TaskResult) -> list[tuple[float, float]]:
        assert task.reliability
        return [(one.probability, one.accuracy) for one in task.reliability.bins if one.count]

    task = result_of(rows, answers)
    assert judged(task) == [(0.4, 1), (0.7, 0)]
    assert [(point.min_probability, point.accuracy) for point in task.risk or []] == [(0.7, 0), (0.4, 0.5)]
    # Two equally relevant products may come in either order, and if all are equal no order is wrong.
    labels = [("S", "E", "S"), ("I", "I", "I")]
    alike = [replace(one, labels=own) for one, own in zip(rows, labels, strict=True)]
    assert judged(result_of(alike, answers)) == [(0.4, 1), (0.7, 1)]


def test_an_extraction_is_right_only_if_all_its_entries_are() -> None:
    """An answer has one value for each attribute.

    The gold answer may list several values for an attribute. Any of them is right.
    """
    [one] = rows_of("AVE", 1)
    second = {"attribute": "color", "value": "blue", "source": "product title"}
    gold = json.dumps([*json.loads(one.gold), second])
    entry = {"attribute": "Color", "value": "navy", "source": "product title", "probability": 0.9}
    none = {"attribute": "Size", "value": None, "source": None, "probability": 0.8}
    for rest, right in ((none, 1), ({**none, "value": "m", "source": "product title"}, 0)):
        answer = answer_of(one, "[]", 0.72, type="extraction", value=[entry, rest])
        task = result_of([replace(one, gold=gold)], [answer])
        assert [(point.min_probability, point.accuracy) for point in task.risk or []] == [(0.72, right)]


def test_an_extractions_entries_are_judged_one_by_one() -> None:
    [one] = rows_of("AVE", 1)
    value = [
        {"attribute": "Color", "value": "navy", "source": "product title", "probability": 0.9},
        {"attribute": "Size", "value": "m", "source": "product title", "probability": 0.3},
    ]
    task = result_of([one], [answer_of(one, "[]", 0.27, type="extraction", value=value)])
    assert task.reliability
    filled = [one for one in task.reliability.bins if one.count]
    assert [(one.probability, one.accuracy) for one in filled] == [(0.3, 0), (0.9, 1)]
    assert task.reliability.brier == pytest.approx((0.3**2 + 0.1**2) / 2)
    assert task.reliability.ece == pytest.approx((0.3 + 0.1) / 2)


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60))
def test_reliability_agrees_with_naive_code(drawn: list[tuple[float, bool]]) -> None:
    measures = reliability([probability for probability, _ in drawn], [right for _, right in drawn])
    assert measures
    gap = 0.0
    for place, one in enumerate(measures.bins):
        inside = [(p, right) for p, right in drawn if min(int(p * 10), 9) == place]
        assert one.count == len(inside)
        if inside:
            assert one.probability == pytest.approx(sum(p for p, _ in inside) / len(inside))
            assert one.accuracy == pytest.approx(sum(right for _, right in inside) / len(inside))
            gap += abs(sum(p - right for p, right in inside))
    assert measures.ece == pytest.approx(gap / len(drawn))
    assert measures.brier == pytest.approx(sum((p - right) ** 2 for p, right in drawn) / len(drawn))


@given(st.lists(st.tuples(st.sampled_from([0.1, 0.25, 0.5, 0.9, 1.0]) | st.floats(0, 1), st.booleans()), max_size=120))
def test_risk_points_agree_with_applying_the_threshold(drawn: list[tuple[float, bool]]) -> None:
    points = risk([probability for probability, _ in drawn], [right for _, right in drawn], len(drawn) + 5)
    if not drawn:
        assert points is None
        return
    assert points
    assert len(points) <= 50
    assert [point.min_probability for point in points] == sorted({p.min_probability for p in points}, reverse=True)
    assert points[-1].min_probability == min(probability for probability, _ in drawn)
    for point in points:
        answered = [right for probability, right in drawn if probability >= point.min_probability]
        assert point.answered == len(answered) / (len(drawn) + 5)
        assert point.accuracy == pytest.approx(sum(answered) / len(answered))
