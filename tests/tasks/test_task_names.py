"""Tests that a task is found by each of its names, and that the error for an unknown name suggests similar names."""

from __future__ import annotations

from pathlib import Path

import pytest

from ecellm_lite.errors import UsageError
from ecellm_lite.tasks.registry import CASLIE_TASKS, TASKS, get_task
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


def test_an_unknown_task_with_none_near_lists_them_and_the_users_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ECELLM_HOME", str(tmp_path))
    (tmp_path / "tasks").mkdir()
    for number in range(12):
        (tmp_path / "tasks" / f"desk_{number:02}.toml").write_text("")
    with pytest.raises(UsageError) as caught:
        get_task("qqqq")
    step = caught.value.step or ""
    assert all(task.abbreviation in step for task in (*TASKS.values(), *CASLIE_TASKS.values()))
    assert ("desk_09" in step, "desk_10" in step) == (True, False)
    with pytest.raises(UsageError) as caught:
        get_task("sentiment_analisys")
    assert "sentiment_analysis" in (caught.value.step or "")
    assert "desk_00" in (caught.value.step or "")
    assert "AVE" not in (caught.value.step or "")


def test_the_begin_of_a_name_is_near() -> None:
    with pytest.raises(UsageError) as caught:
        get_task("senti")
    assert caught.value.step == "use sentiment_analysis"
