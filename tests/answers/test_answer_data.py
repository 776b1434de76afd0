"""Checks that answers stay the same when they are converted to plain data or JSON and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecellm_lite import Answer, Runtime, schema
from ecellm_lite.answers.answer import AnswerWarning, ModelName, RowError, Usage
from ecellm_lite.engine.fake import FakeBackend
from ecellm_lite.tasks.registry import TASKS
from tests.support.answer_checks import EXAMPLES

TEXTS = st.text(max_size=20)
SHARES = st.floats(0, 1)
COUNTS = st.integers(0, 1 << 40)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda values: st.lists(values, max_size=3) | st.dictionaries(TEXTS, values, max_size=3),
    max_leaves=8,
)
ENTRIES = st.fixed_dictionaries(
    {"attribute": TEXTS, "value": st.none() | TEXTS, "source": st.none() | TEXTS, "probability": SHARES}
)
VALUES: Mapping[str, st.SearchStrategy[Any]] = {
    "predicate": st.booleans(),
    "choice": TEXTS,
    "score": st.floats(1, 10),
    "ranking": st.lists(st.sampled_from("ABCDE"), unique=True),
    "extraction": st.lists(ENTRIES, max_size=3),
    "text": TEXTS,
    "schema": JSON_VALUES,
}


@st.composite
def answers(draw: st.DrawFn) -> Answer:
    """Draw an answer with arbitrary values, even in combinations that no task produces."""
    type_ = draw(st.sampled_from(list(VALUES)))
    return Answer(
        id=draw(st.none() | TEXTS | st.integers(-(1 << 63), 1 << 63)),
        task=draw(TEXTS),
        type=draw(st.sampled_from([type_, None])),
        value=draw(st.none() | VALUES[type_]),
        text=draw(st.none() | TEXTS),
        probability=draw(st.none() | SHARES),
        probabilities=draw(st.none() | st.dictionaries(TEXTS, SHARES)),
        confidence=draw(st.none() | SHARES),
        coverage=draw(st.none() | SHARES),
        abstained=draw(st.booleans()),
        usage=draw(st.none() | st.builds(Usage, COUNTS, st.none() | COUNTS, COUNTS, COUNTS)),
        seconds=draw(st.none() | st.floats(0, 1e6)),
        model=draw(st.builds(ModelName, TEXTS, TEXTS)),
        envelope=draw(TEXTS),
        calibration=draw(st.none() | TEXTS),
        shortened=draw(st.none() | TEXTS),
        warnings=draw(st.none() | st.lists(st.builds(AnswerWarning, TEXTS, TEXTS), max_size=3)),
        error=draw(st.none() | st.builds(RowError, TEXTS, TEXTS, st.none() | TEXTS, st.none() | TEXTS)),
    )


def check_inverse(answer: Answer) -> None:
    """Check that converting an answer to data and back changes nothing, not even the order of the keys."""
    for data in (answer.as_dict(), json.loads(json.dumps(answer.as_dict()))):
        again = Answer.from_dict(data)
        assert again == answer
        assert type(again.value) is type(answer.value)
        assert list(again.probabilities or ()) == list(answer.probabilities or ())
        assert json.dumps(again.as_dict()) == json.dumps(answer.as_dict())


@given(answers())
def test_an_answer_survives_a_round_trip(answer: Answer) -> None:
    check_inverse(answer)


@pytest.mark.parametrize("name", TASKS)
def test_the_answers_of_each_task_survive_a_round_trip(name: str) -> None:
    with Runtime.over(FakeBackend()) as runtime:
        answer = runtime.answer(name, EXAMPLES[name])
        [failed] = runtime.answers(name, [{}])
    check_inverse(answer)
    check_inverse(failed)
    check_inverse(replace(answer, value=None, text=None, abstained=True))


def test_an_object_survives_a_round_trip() -> None:
    definition = {"type": "object", "properties": {"count": {"type": "integer"}}, "required": ["count"]}
    with Runtime.over(FakeBackend()) as runtime:
        check_inverse(runtime.answer("answer_generation", EXAMPLES["answer_generation"], space=schema(definition)))


@pytest.mark.parametrize("key", ["usage", "model", "error", "warnings", "value"])
def test_a_missing_key_raises(key: str) -> None:
    with Runtime.over(FakeBackend()) as runtime:
        data = runtime.answer("sentiment_analysis", EXAMPLES["sentiment_analysis"]).as_dict()
    del data[key]
    with pytest.raises((KeyError, TypeError)):
        Answer.from_dict(data)
