"""Tests of decisions that TypeSafe's own client asks for. All tests run twice: with zstd compression and without."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.serve.serving import Server

typesafe = pytest.importorskip("typesafe_sdk", reason="TypeSafe's client is not installed")

STATE = {"mail": "My parcel never came.", "price": 19.5, "tags": ["late", None]}
QUESTIONS: dict[str, Any] = {
    "refund": {
        "type": "noul",
        "instructions": "Is it about a refund?",
        "criteria": {"true": "money", "false": {"a": 1}},
    },
    "desk": {"type": "choice", "criteria": {"billing": "invoices", "delivery": None, "other": ["all", "else"]}},
    "urgency": {
        "type": "score",
        "instructions": {"task": "How urgent?"},
        "criteria": ["low", "mid", {"level": "high"}],
    },
}


@pytest.fixture(scope="module", params=["zstd", False], ids=["zstd", "plain"])
def client(server: Server, request: pytest.FixtureRequest) -> Iterator[Any]:
    with typesafe.TypeSafeClient(
        api_key="placeholder",
        base_url=f"http://127.0.0.1:{server.port}",
        compression=request.param,
        retry=typesafe.RetryPolicy(max_retries=0),
    ) as client:
        yield client


def test_all_kinds_are_answered_by_their_ids(client: Any) -> None:
    result = client.system_one(STATE, QUESTIONS)
    assert list(result.answers) == list(QUESTIONS)
    assert 0 < result.nouls["refund"].noul < 1
    desk = result.choices["desk"]
    assert list(desk.probabilities) == ["billing", "delivery", "other"]
    assert desk.choice == max(desk.probabilities, key=desk.probabilities.__getitem__)
    urgency = result.scores["urgency"]
    assert urgency.legend == {0: "low", 1: "mid", 2: {"level": "high"}}
    assert urgency.score == pytest.approx(sum(place * share for place, share in urgency.probabilities.items()))
    for answer in (desk, urgency):
        assert sum(answer.probabilities.values()) == pytest.approx(1, abs=1e-9)
        assert 0 <= answer.confidence <= 1
    assert result.model == "fake"
    assert (result.usage.input_tokens > 100, result.usage.output_tokens) == (True, 0)


def test_a_large_packed_state_is_answered(client: Any, server: Server) -> None:
    state = "My parcel never came. " * 150
    assert client.system_one(state, QUESTIONS).answers


def test_the_models_are_listed(client: Any) -> None:
    [model] = client.models.list().models
    assert model.name == "fake"


def test_errors_have_their_class(client: Any, server: Server) -> None:
    with pytest.raises(typesafe.TypeSafeNotFoundError):
        client.system_one(STATE, QUESTIONS, model="other")
    with pytest.raises(typesafe.TypeSafeUnprocessableEntityError):
        client.system_one(STATE, {"a": {"type": "score", "criteria": ["one"]}})
    with pytest.raises(typesafe.TypeSafeBadRequestError):
        client.system_one(STATE, {"a": {"type": "box", "instructions": "where?"}})
    detail = server.post("/v1/systemone", {"model": "fake", "questions": {}}).json["detail"]
    assert {"loc": ["body", "state"], "msg": "Field required", "type": "missing"} in detail


def test_a_question_that_does_not_fit_fails_the_request(client: Any) -> None:
    with pytest.raises(typesafe.TypeSafeUnprocessableEntityError):
        client.system_one(STATE, {**QUESTIONS, "long": {"type": "noul", "instructions": "x" * 60_000}})
