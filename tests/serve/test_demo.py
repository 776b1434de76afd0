"""Tests `ecellm-lite serve` with the demo model, started as a user starts it."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import ecellm_lite.serve
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


def test_served_answers_equal_those_of_the_runtime(base: str) -> None:
    answer = post(base, "/v1/tasks/sentiment_analysis", {"row": REVIEW})
    questions = [PREDICATE, {**PREDICATE, "instructions": "Is it about shoes?"}]
    decision = post(base, "/v1/decisions", {"model": "demo", "input": STATE, "questions": questions})
    with Runtime("demo", deterministic=True) as runtime:
        assert answer["probabilities"] == runtime.answer("sentiment_analysis", REVIEW).probabilities
        expected = runtime.answer(question_task(PREDICATE), {"state": STATE}).probabilities
    assert expected
    assert decision["answers"][0]["probability"] == expected["yes"]


def test_json_obeys_its_schema(base: str) -> None:
    schema = {"type": "object", "properties": {"loud": {"type": "boolean"}}, "required": ["loud"]}
    body = {
        "model": "demo",
        "messages": [{"role": "user", "content": "Is a loud fan loud?"}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "noise", "schema": schema}},
    }
    message = post(base, "/v1/chat/completions", body)["choices"][0]["message"]
    assert isinstance(json.loads(message["content"])["loud"], bool)


def example(base: str, form: str) -> Any:
    """Return the example that the server's OpenAPI document gives for this form of request.

    The documentation and the web page show the same example.
    """
    with urllib.request.urlopen(f"{base}/openapi.json", timeout=600) as response:
        return json.load(response)["components"]["schemas"][form]["examples"][0]


def page_example() -> Any:
    """Return the request that the web page sends if its first questions stay unchanged."""
    text = (Path(ecellm_lite.serve.__file__).parent / "page" / "question.js").read_text("utf-8")
    [state] = re.findall(r'state: ("[^"]+")', text)
    questions: list[dict[str, Any]] = []
    for kind, asked, lines in re.findall(r'\["(predicate|choice|score)", ("[^"]+"), ("[^"]*")\]', text):
        options = [line.split(": ") for line in json.loads(lines).split("\n")]
        question: dict[str, Any] = {"type": kind, "instructions": json.loads(asked)}
        if kind == "choice":
            question["choices"] = [{"value": value, "description": means} for value, means in options]
        if kind == "score":
            question["levels"] = [{"label": label} for [label] in options]
        questions.append(question)
    return {"model": "demo", "input": json.loads(state), "questions": questions}


@pytest.mark.parametrize("place", ["document", "page"])
def test_the_demo_answers_the_example_decisions_rightly(base: str, place: str) -> None:
    request = example(base, "Decisions") if place == "document" else page_example()
    satisfied, desk, urgency = post(base, "/v1/decisions", request)["answers"]
    assert satisfied["probability"] < 0.2
    assert desk["choice"] == "repairs"
    assert max(one["probability"] for one in desk["probabilities"]) > 0.6
    assert urgency["score"] > 1.5


def test_the_demo_answers_the_systemone_example_rightly(base: str) -> None:
    answers = post(base, "/v1/systemone", example(base, "SystemOne"))["answers"]
    assert answers["satisfied"]["noul"] < 0.2
    assert answers["desk"]["choice"] == "repairs"
    assert answers["urgency"]["score"] > 1
