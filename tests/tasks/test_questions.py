"""Tests of questions that a request defines: their prompts and their possible answers."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecellm_lite import InputError, Runtime
from ecellm_lite.engine.fake import FakeBackend
from ecellm_lite.pipe.child_runtime import ChildRuntime
from ecellm_lite.tasks.questions import question_task
from tests.pipe.host import FAKE_PIPE

STATE = {"state": "My parcel never came."}
PREDICATE = {"type": "predicate", "instructions": "Is it about a parcel?"}
CHOICE = {
    "type": "choice",
    "instructions": "Which desk?",
    "choices": [{"value": "billing", "description": "invoices"}, {"value": "x"}],
}
SCORE = {
    "type": "score",
    "instructions": "How urgent?",
    "levels": [{"label": "low"}, {"label": "high", "description": "now"}],
}


def test_the_state_comes_before_the_question() -> None:
    question = question_task(CHOICE).question(STATE)
    assert question.text == "My parcel never came.\n\nQuestion: Which desk?"
    assert question.text.startswith(question.stem)
    assert question.options == '["A: billing: invoices", "B: x"]'
    assert question_task(SCORE).question(STATE).options == '["A: low", "B: high: now"]'
    assert len({question_task(one).question(STATE).instruction for one in (PREDICATE, CHOICE, SCORE)}) == 1


def test_the_name_of_a_question_depends_on_its_contents() -> None:
    names = {question_task(one).name for one in (PREDICATE, CHOICE, SCORE, {**PREDICATE, "instructions": "Other?"})}
    assert len(names) == 4
    assert question_task(CHOICE).name == question_task(dict(reversed(CHOICE.items()))).name


@pytest.mark.parametrize("definition", [PREDICATE, CHOICE, SCORE])
def test_a_child_process_gives_the_same_answers(definition: dict[str, Any]) -> None:
    task = question_task(definition)
    with ChildRuntime(command=FAKE_PIPE) as child, Runtime.over(FakeBackend()) as runtime:
        there, here = child.answer(task, STATE), runtime.answer(task, STATE)
    assert (there.value, there.probabilities, there.task) == (here.value, here.probabilities, here.task)


def test_a_state_is_never_saved_to_disk() -> None:
    with Runtime.over(FakeBackend()) as runtime:
        request = runtime.request(question_task(PREDICATE).question(STATE))
        plain = runtime.request(question_task(PREDICATE).question(STATE | {"state": "y"}))
    assert request.shared > plain.shared
    assert not request.storable


@pytest.mark.parametrize(
    ("definition", "field"),
    [
        ({}, "task"),
        ({"type": []}, "task"),
        ({"type": "wish", "instructions": "x"}, "task.type"),
        ({**PREDICATE, "choices": [{"value": "a"}, {"value": "b"}]}, "task.choices"),
        ({**SCORE, "choices": [{"value": "a"}, {"value": "b"}]}, "task.choices"),
        ({**CHOICE, "levels": [{"label": "a"}, {"label": "b"}]}, "task.levels"),
        ({**CHOICE, "choices": [{"value": "a"}, "A10"]}, "task.choices[1]"),
        ({**SCORE, "levels": [{"value": "a"}, {"label": "b"}]}, "task.levels[0]"),
        ({**PREDICATE, "instructions": 1}, "task"),
        ({**PREDICATE, "more": 1}, "task"),
        ({**PREDICATE, "instructions": "x" * 70_000}, "task.instructions"),
        ({"type": "choice", "instructions": "x"}, "task.choices"),
        ({"type": "score", "instructions": "x", "levels": []}, "task.levels"),
        ({**CHOICE, "choices": [{"value": "a"}]}, "task.choices"),
        ({**CHOICE, "choices": [{"value": "a"}] * 2}, "task.choices"),
        ({**CHOICE, "choices": [{"value": " "}, {"value": "b"}]}, "task.choices"),
        ({**CHOICE, "choices": [{"value": str(number)} for number in range(256)]}, "task.choices"),
        ({**SCORE, "levels": [{"label": str(number)} for number in range(11)]}, "task.levels"),
    ],
)
def test_an_invalid_question_names_its_field(definition: dict[str, Any], field: str) -> None:
    with pytest.raises(InputError) as error:
        question_task(definition)
    assert error.value.field == field


@pytest.mark.parametrize(
    ("definition", "example"),
    [
        ({**CHOICE, "choices": ["A10", "A11"]}, '{"value": "A10"}'),
        ({**SCORE, "levels": [{"label": "low"}, "high"]}, '{"label": "high"}'),
        ({**CHOICE, "choices": ["\ud800", "A11"]}, '{"value": "\ufffd"}'),
    ],
)
def test_an_item_that_is_a_text_is_shown_in_its_form(definition: dict[str, Any], example: str) -> None:
    with pytest.raises(InputError) as error:
        question_task(definition, "questions.3")
    assert example in str(error.value.step)
    assert str(error.value.field).startswith("questions.3.")


@given(st.lists(st.text(min_size=1, max_size=20).filter(str.strip), min_size=2, max_size=40, unique=True))
def test_any_choices_get_probabilities_that_sum_to_one(values: list[str]) -> None:
    definition = {"type": "choice", "instructions": "?", "choices": [{"value": value} for value in values]}
    try:
        task = question_task(definition)
    except InputError:  # two that differ only in what UTF-8 cannot hold
        return
    with Runtime.over(FakeBackend(cells=1 << 14)) as runtime:
        answer = runtime.answer(task, STATE)
    assert answer.probabilities
    assert sum(answer.probabilities.values()) == pytest.approx(1, abs=1e-9)
