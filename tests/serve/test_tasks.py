"""Tests of tasks over HTTP: the answers equal those of an Answerer, and an error names the part that is wrong."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from typing import Any

import pytest

from ecellm_lite import Runtime
from ecellm_lite.engine.fake import FakeBackend
from ecellm_lite.serve.limits import Limits
from ecellm_lite.serve.workers import Workers
from tests.serve.serving import PATIENCE, Server, serving, until
from tests.support.answer_checks import EXAMPLES
from tests.support.gated import Gated

REVIEW = {"review": "Works, but it is loud."}


@pytest.mark.parametrize("task", EXAMPLES)
def test_a_served_answer_equals_the_runtimes(server: Server, task: str) -> None:
    reply = server.post(f"/v1/tasks/{task}", {"row": {**EXAMPLES[task], "id": "r1"}})
    assert reply.status == 200
    with Runtime.over(FakeBackend()) as runtime:
        expected = runtime.answer(task, EXAMPLES[task])
    answer = reply.json
    assert answer["id"] == "r1"
    for name in ("value", "text", "probability", "probabilities", "coverage", "envelope", "model"):
        assert answer[name] == json.loads(json.dumps(expected.as_dict()[name]))


def test_a_list_has_an_answer_for_each_row_with_errors_in_their_place(server: Server) -> None:
    rows = [{"id": 1, **REVIEW}, {"id": 2}, "no row", {"id": 4, "review": "x" * 100_000}, {"id": 5, **REVIEW}]
    reply = server.post("/v1/tasks/sentiment_analysis", {"rows": rows})
    answers = reply.json["answers"]
    assert [answer["id"] for answer in answers] == [1, 2, None, 4, 5]
    codes = [answer["error"] and answer["error"]["code"] for answer in answers]
    assert codes == [None, "input", "input", "context_exceeded", None]


def test_options_apply_to_one_request(server: Server) -> None:
    path = "/v1/tasks/sentiment_analysis"
    least = server.post(path, {"row": REVIEW, "options": {"min_probability": 1}}).json
    assert (least["abstained"], least["value"]) == (True, None)
    schema = {"type": "object", "properties": {"loud": {"type": "boolean"}}, "required": ["loud"]}
    formed = server.post(path, {"row": REVIEW, "options": {"schema": schema, "max_tokens": 30}}).json
    assert (formed["type"], type(formed["value"]["loud"])) == ("schema", bool)
    other = server.post(path, {"row": REVIEW, "options": {"instruction": "Say it.", "calibration": False}}).json
    assert other["usage"]["prompt_tokens"] < least["usage"]["prompt_tokens"]


def test_a_price_keeps_its_spelling(server: Server) -> None:
    body = b'{"row": {"review": 19.50}}'
    spelled = server.post("/v1/tasks/SA", body).json
    assert spelled["probabilities"] == server.post("/v1/tasks/SA", {"row": {"review": "19.50"}}).json["probabilities"]


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"row": {}}, 422, "row.review"),
        ({"row": {"review": "x" * 100_000}}, 422, "row"),
        ({"row": REVIEW, "options": {"min_probability": 2}}, 422, "options.min_probability"),
        ({"row": REVIEW, "options": {"seed": True}}, 422, "options.seed"),
        ({"row": REVIEW, "options": {"seed": "1"}}, 422, "options.seed"),
        ({"row": REVIEW, "options": {"calibration": "/etc/passwd"}}, 422, "options.calibration.literal['auto',False]"),
        ({"row": REVIEW, "options": {"deadline_ms": -1}}, 422, "options.deadline_ms"),
        ({"row": REVIEW, "options": {"schema": {"type": "nonsense"}}}, 422, None),
        ({"row": REVIEW, "options": {"max_tokens": 5}}, 422, "options"),
        ({"row": REVIEW, "rows": [REVIEW]}, 422, None),
        ({}, 422, None),
        ({"rows": []}, 422, "rows"),
        ({"rows": [REVIEW] * 1001}, 422, "rows"),
        ({"row": REVIEW, "more": 1}, 422, "more"),
        ([REVIEW], 422, None),
        ("text", 422, None),
    ],
)
def test_an_invalid_request_names_the_place(server: Server, body: Any, status: int, param: str | None) -> None:
    reply = server.post("/v1/tasks/sentiment_analysis", body)
    assert (reply.status, reply.error["type"]) == (status, "invalid_request_error")
    if param is None or "literal" not in param:
        assert reply.error["param"] == param


@pytest.mark.parametrize("path", ["sentiment_analysis", "sentiment_analysis/prompt"])
def test_fields_outside_of_a_row_are_shown_in_one(server: Server, path: str) -> None:
    reply = server.post(f"/v1/tasks/{path}", {**REVIEW, "\ud800": 1, "model": "fake"})
    assert (reply.status, reply.json["error"]["code"]) == (422, "extra_forbidden")
    assert '{"row": {"review": …' in reply.json["error"]["message"]


@pytest.mark.parametrize("name", ["nonsense", "..%2F..%2Fetc", "x.toml", "%2Ftmp%2Ftask.toml", "a" * 500, "%00"])
def test_an_unknown_task_is_not_found(server: Server, name: str) -> None:
    assert server.post(f"/v1/tasks/{name}", {"row": REVIEW}).status == 404
    assert server.get(f"/v1/tasks/{name}").status == 404


def test_a_prompt_is_shown_without_asking_the_model(server: Server) -> None:
    shown = server.post("/v1/tasks/SA/prompt", {"row": REVIEW}).json
    with Runtime.over(FakeBackend()) as runtime:
        assert shown["prompt"] == runtime.prompt("sentiment_analysis", REVIEW)
    assert list(shown["labels"]) == list("ABCDE")
    assert server.post("/v1/tasks/SA/prompt", {"row": {}}).error["param"] == "row.review"


def test_tasks_are_described_without_paths(server: Server) -> None:
    tasks = {task["name"]: task for task in server.get("/v1/tasks").json["tasks"]}
    assert tasks.keys() == {*EXAMPLES, "category_classification"}
    assert tasks["sentiment_analysis"] == server.get("/v1/tasks/sa").json
    assert tasks["sentiment_analysis"]["example"] == EXAMPLES["sentiment_analysis"]
    assert "file" not in tasks["sentiment_analysis"]


def test_a_full_queue_says_when_to_ask_again() -> None:
    backend = Gated()
    with serving(Runtime.over(backend), limits=Limits(waiting=3)) as server:
        replies = []
        body = {"rows": [{"review": "a"}, {"review": "b"}]}
        thread = threading.Thread(target=lambda: replies.append(server.post("/v1/tasks/SA", body)))
        thread.start()
        until(lambda: server.service.admission.waiting == 2)
        full = server.post("/v1/tasks/SA", body)
        assert (full.status, full.error["code"]) == (429, "queue_full")
        assert 1 <= int(full.headers["Retry-After"]) <= 60
        backend.gate.set()
        thread.join(PATIENCE)
        assert replies[0].status == 200
        assert server.post("/v1/tasks/SA", body).status == 200


def test_rows_of_a_client_that_went_away_are_dropped() -> None:
    backend = Gated()
    engine = Workers([Runtime.over(backend)])
    with serving(engine) as server:
        body = {"rows": [{"review": f"row {number}"} for number in range(300)]}
        with server.begin("/v1/tasks/SA", body):
            until(lambda: server.service.admission.waiting == 300)
        until(lambda: server.service.admission.waiting == 0)
        assert server.log[-1]["status"] == 499
        until(lambda: engine.members[0].waiting == 0)
        before = backend.decoded
        backend.gate.set()
        usage = server.post("/v1/tasks/SA", {"row": REVIEW}).json["usage"]
        assert backend.decoded - before - usage["prompt_tokens"] <= 3 * backend.batch


def test_a_missed_deadline_is_a_gateway_timeout() -> None:
    backend = Gated()
    with serving(Runtime.over(backend)) as server:
        reply = server.post("/v1/tasks/SA", {"row": REVIEW, "options": {"deadline_ms": 50}})
        backend.gate.set()
        assert (reply.status, reply.error["code"]) == (504, "deadline")


def test_a_closed_engine_is_reported_as_unavailable() -> None:
    runtime = Runtime.over(FakeBackend())
    with serving(runtime) as server:
        runtime.close()
        reply = server.post("/v1/tasks/SA", {"row": REVIEW})
        assert (reply.status, reply.error["code"]) == (503, "closed")
        assert reply.headers["Retry-After"]


def test_metrics_and_the_log_contain_no_texts() -> None:
    limits = replace(Limits(), rows=2)
    with serving(limits=limits) as server:
        server.post("/v1/tasks/SA", {"row": {"id": "secret-id", "review": "secret words"}})
        server.post("/v1/tasks/secret-task", {"row": {"review": "secret words"}})
        server.post("/v1/tasks/SA?secret=1", {"rows": [{"secret": 1}, {"review": 2}]}, {"X-Request-Id": "my-id.1"})
        server.get("/secret")
        text = server.get("/metrics").body.decode()
        assert server.get("/health").json == {"status": "ok"}
        assert server.get("/ready").status == 200
    assert 'ecellm_rows_total{model="fake",outcome="answered",task="sentiment_analysis"} 2.0' in text
    assert 'ecellm_rows_total{model="fake",outcome="input",task="sentiment_analysis"} 1.0' in text
    assert 'ecellm_requests_total{route="/v1/tasks/{task}",status="404"} 1.0' in text
    assert "secret" not in text
    lines = json.dumps(server.log)
    assert "secret" not in lines
    assert server.log[2]["id"] == "my-id.1"
    assert server.log[2]["rows"] == 2
    assert {"time", "id", "method", "route", "status", "ms", "rows", "key"} == server.log[0].keys()
