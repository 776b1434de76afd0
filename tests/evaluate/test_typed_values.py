"""Tests the evaluation of a user's task that extracts attributes with typed values, such as numbers and dates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ecellm_lite import InputError, Runtime, load_task
from ecellm_lite.answers.answer import Answer
from ecellm_lite.engine.fake import FakeBackend
from ecellm_lite.evaluate.evaluation import measure_rows
from ecellm_lite.evaluate.labelled import labelled
from ecellm_lite.evaluate.metrics.kinds import primary_metric
from ecellm_lite.evaluate.metrics.typed import typed_counts
from ecellm_lite.tasks.task import Task
from tests.support.own_tasks import task_text

pytest.importorskip("pint")
pytest.importorskip("dateutil")

FIELDS = """
[[fields]]
name = "title"
"""
ANSWER = """
type = "extraction"
attributes = [
  "Brand",
  { name = "Weight", type = "quantity", unit = "kg" },
  { name = "Made", type = "date" },
  { name = "Color", values = [{ id = "c1", value = "Red" }, "Blue"] },
]
"""
ROW = {"title": "Lodge Red Pan 20-lb, 3 April 2025"}


@pytest.fixture
def task(tmp_path: Path) -> Task:
    """Return a task with four attributes: one without a type, two with types, and one with a closed list of values."""
    path = tmp_path / "own.toml"
    path.write_text(task_text(ANSWER, FIELDS))
    return load_task(path)


def entries(**values: str | None) -> list[dict[str, Any]]:
    return [{"attribute": name, "value": value} for name, value in values.items()]


def metrics(task: Task, output: list[dict[str, Any]], answered: list[dict[str, Any]]) -> dict[str, float]:
    """Return the metrics of one row. `output` is the right answer, and `answered` is the model's answer."""
    row = labelled(task, 1, {**ROW, "output": output})
    with Runtime.over(FakeBackend(cells=1 << 14)) as runtime:
        answer = runtime.answer(task, ROW)
    text = row.space.written(answered)
    answer = Answer.from_dict({**answer.as_dict(), "text": text, "value": row.space.value_of(text)})
    return measure_rows(task, [row], [answer]).values()[1]


def test_typed_values_count_however_they_are_written(task: Task) -> None:
    right = entries(Brand="Lodge", Weight="20-lb", Made="3 April 2025", Color="Red")
    assert primary_metric(task) == "f1"
    assert metrics(task, right, right) == {**dict.fromkeys(metrics(task, right, right), 1.0)}
    other = entries(Brand="Lodge", Weight="9.07 kg", Made="2025-04-03", Color="Red")
    assert metrics(task, other, right)["typed"] == 1.0
    assert metrics(task, other, right)["f1"] == 0.5
    wrong = entries(Weight="20-lb", Made=None, Color="Blue")
    assert metrics(task, right, wrong)["typed"] == pytest.approx(1 / 3)
    assert "typed" not in metrics(task, entries(Brand="Lodge", Weight="heavy"), right)


@pytest.mark.parametrize("none", [None, "", " ", "None", "none"])
def test_a_gold_attribute_may_have_no_value_or_be_left_out(task: Task, none: str | None) -> None:
    answered = entries(Brand="Lodge", Weight="20-lb", Made=None, Color=None)
    for output in (entries(Color=none, Brand="Lodge", Weight="20-lb", Made=none), answered[:2], answered[1::-1]):
        assert labelled(task, 1, {**ROW, "output": output}).gold == labelled(task, 1, {**ROW, "output": answered}).gold
        assert set(metrics(task, output, answered).values()) == {1.0}


@pytest.mark.parametrize(
    ("kind", "gold", "value", "right"),
    [
        ("number", "2025", "2024", 0),
        ("number", "1001", "1000", 0),
        ("number", "4006381333931", "4006381333930", 0),
        ("number", "0.5", "1/2", 1),
        ("number", "1,234.5", "1234.50", 1),
        ("quantity", "1 kg", "2.2 lb", 0),
        ("quantity", "1 kg", "2.2047 lb", 1),
    ],
)
def test_only_quantities_may_be_rounded(tmp_path: Path, kind: str, gold: str, value: str, right: int) -> None:
    unit = ', unit = "kg"' if kind == "quantity" else ""
    path = tmp_path / "own.toml"
    path.write_text(
        task_text(f'type = "extraction"\nattributes = [{{ name = "Size", type = "{kind}"{unit} }}]', FIELDS)
    )
    space = load_task(path).question({"title": f"{gold} {value}"}).space
    answered = space.value_of(space.written(entries(Size=value)))
    assert typed_counts(space, space.written(entries(Size=gold)), answered) == (right, 1)


def test_labels_that_are_no_entries_are_refused(task: Task) -> None:
    outputs: list[list[Any]] = [["Lodge"], [{"attribute": "Size", "value": "10"}], [{}]]
    for output in outputs:
        with pytest.raises(InputError) as raised:
            labelled(task, 1, {**ROW, "output": output})
        assert raised.value.field == "output"
