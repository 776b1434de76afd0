"""Tests that a task is found by each of its names, and that the error for an unknown name suggests similar names."""

from __future__ import annotations

import pytest

from ecellm_lite.errors import UsageError
from ecellm_lite.tasks.registry import TASKS, get_task
from tests.support.questions import NAMES


@pytest.mark.parametrize(("name", "hub_name", "abbreviation"), NAMES)
def test_a_task_is_found_by_each_of_its_names(name: str, hub_name: str, abbreviation: str) -> None:
    for alias in (name, hub_name, abbreviation, abbreviation.lower(), hub_name.upper()):
        assert get_task(alias).name == name
    assert (get_task(name).hub_name, get_task(name).abbreviation) == (hub_name, abbreviation)


def test_there_are_ten_tasks() -> None:
    assert tuple(TASKS) == tuple(name for name, _, _ in NAMES)


@pytest.mark.parametrize(
    ("unknown", "near"),
    [
        ("sentiment_analisys", "sentiment_analysis"),
        ("Product-Match", "product_matching"),
        ("query_product_ranker", "query_product_ranking"),
        ("answer generation", "answer_generation"),
        ("ave2", "attribute_value_extraction"),
        ("multi_class_classification", "multiclass_product_classification"),
    ],
)
def test_an_unknown_task_names_near_ones(unknown: str, near: str) -> None:
    with pytest.raises(UsageError) as caught:
        get_task(unknown)
    assert repr(unknown) in caught.value.message
    assert near in (caught.value.step or "")


def test_an_unknown_task_with_none_near_lists_them() -> None:
    with pytest.raises(UsageError) as caught:
        get_task("qqqq")
    assert all(name in (caught.value.step or "") for name in TASKS)
