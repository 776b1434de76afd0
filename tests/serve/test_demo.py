"""`ecellm-lite serve` as a user starts it, with the demo model."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from ecellm_lite import Runtime
from ecellm_lite.models.store import StoredModel
from ecellm_lite.tasks.questions import question_task
from tests.serve.demo_server import demo_server

REVIEW = {"review": "Works, but it is loud."}
STATE = "The parcel came late and the box was open, but the umbrella inside works. " * 10
PREDICATE = {"type": "predicate", "instructions": "Was the parcel late?"}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def base(demo_model: StoredModel) -> Iterator[str]:
    with demo_server("--deterministic") as (address, _):
        yield address


def post(base: str, path: str, body: Any) -> Any:
    request = urllib.request.Request(base + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=600) as response:
        return json.load(response)


def test_answers_are_those_of_the_runtime(base: str) -> None:
    answer = post(base, "/v1/tasks/sentiment_analysis", {"row": REVIEW})
    questions = [PREDICATE, {**PREDICATE, "instructions": "Is it about shoes?"}]
    decision = post(base, "/v1/decisions", {"model": "demo", "input": STATE, "questions": questions})
    with Runtime("demo", deterministic=True) as runtime:
        assert answer["probabilities"] == runtime.answer("sentiment_analysis", REVIEW).probabilities
        expected = runtime.answer(question_task(PREDICATE), {"state": STATE}).probabilities
    assert expected
    assert decision["answers"][0]["probability"] == expected["yes"]


def test_json_is_written_by_its_schema(base: str) -> None:
    schema = {"type": "object", "properties": {"loud": {"type": "boolean"}}, "required": ["loud"]}
    body = {
        "model": "demo",
        "messages": [{"role": "user", "content": "Is a loud fan loud?"}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "noise", "schema": schema}},
    }
    message = post(base, "/v1/chat/completions", body)["choices"][0]["message"]
    assert isinstance(json.loads(message["content"])["loud"], bool)
