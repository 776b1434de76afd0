"""The protocol as a host sees it: every request gets one line with its id, and nothing else reaches standard output."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import Any

import pytest

from ecellm_lite.pipe.messages import LONGEST_LINE
from tests.pipe.host import FAKE_PIPE, PATIENCE, converse, start
from tests.support.answer_checks import EXAMPLES

REVIEW = {"id": 1, "task": "sentiment_analysis", "row": {"review": "It works."}}


def ids_by_type(messages: list[dict[str, Any]]) -> dict[str, list[Any]]:
    kinds: dict[str, list[Any]] = {}
    for message in messages:
        kinds.setdefault(message["type"], []).append(message["id"])
    return kinds


def test_every_task_answers_in_the_contract() -> None:
    requests = [{"id": name, "task": name, "row": row} for name, row in EXAMPLES.items()]
    answers = {message["id"]: message["answer"] for message in converse(requests)}
    assert answers.keys() == EXAMPLES.keys()
    assert all(answer["task"] == name and answer["error"] is None for name, answer in answers.items())


def test_a_bad_row_is_an_answer_and_a_bad_request_an_error() -> None:
    messages = converse(
        [
            {**REVIEW, "row": {}},
            {**REVIEW, "id": 2, "row": 7},
            b"no JSON\n",
            b"[1]\n",
            b"\n",
            b'{"id": 3, "id": 4, "task": "SA", "row": {}}\n',
            b'{"id": 5, "task": "SA", "row": {"review": NaN}}\n',
            {"task": "SA", "row": {}},
            {**REVIEW, "id": 6, "task": "nonsense"},
            {**REVIEW, "id": 7, "type": "nonsense"},
            {**REVIEW, "id": 8, "options": {"min_probability": "much"}},
            {**REVIEW, "id": 9, "extra": 1},
            {**REVIEW, "id": True},
            {"id": 10, "type": "cancel"},
            b'{"id": 11, "task": "SA", "row": {"review": "half a line"}}',
        ]
    )
    kinds = ids_by_type(messages)
    assert sorted(kinds["answer"]) == [1, 2, 11]
    assert sorted(str(id_) for id_ in kinds["error"]) == sorted(["None"] * 6 + ["6", "7", "8", "9", "10"])
    answers = {message["id"]: message["answer"] for message in messages if message["type"] == "answer"}
    assert [answers[id_]["error"] is None for id_ in (1, 2, 11)] == [False, False, True]
    errors = {message["id"]: message["error"] for message in messages if message["type"] == "error"}
    assert (errors[6]["code"], errors[7]["field"], errors[8]["field"]) == ("usage", "type", "options.min_probability")


def test_a_line_that_is_too_long_costs_itself_alone() -> None:
    long = json.dumps({"id": 1, "task": "SA", "row": {"review": "x" * LONGEST_LINE}}).encode() + b"\n"
    messages = converse([long, {**REVIEW, "id": 2}])
    assert ids_by_type(messages) == {"error": [None], "answer": [2]}


def test_control_requests_are_answered() -> None:
    messages = converse([{"id": "a", "type": "ping"}, {"id": "b", "type": "tasks"}, {"id": "c", "type": "stats"}])
    assert [message["type"] for message in messages] == ["pong", "tasks", "stats"]
    assert {task["name"] for task in messages[1]["tasks"]} >= EXAMPLES.keys()
    assert messages[2]["stats"]["in_flight"] == 0


def test_options_are_those_of_the_request() -> None:
    schema = {"type": "object", "properties": {"good": {"type": "boolean"}}, "required": ["good"]}
    row = {"task": "answer_generation", "row": EXAMPLES["answer_generation"]}
    messages = converse(
        [
            {"id": 1, **row, "options": {"max_tokens": 3}},
            {"id": 2, **row, "options": {"schema": schema}},
            {"id": 3, **REVIEW, "options": {"min_probability": 1, "instruction": "Rate it.", "calibration": False}},
            {"id": 4, **row, "options": {"schema": {"type": "nonsense"}}},
            {**REVIEW, "id": 5, "options": {"max_tokens": 3}},
        ]
    )
    replies = {message["id"]: message for message in messages}
    assert replies[1]["answer"]["usage"]["decoded_tokens"] <= 3
    assert isinstance(replies[2]["answer"]["value"]["good"], bool)
    assert replies[1]["type"] == replies[2]["type"] == "answer"
    assert (replies[4]["error"]["code"], replies[5]["error"]["code"]) == ("grammar", "protocol")


def test_close_drains_and_a_second_id_is_refused_while_the_first_is_open() -> None:
    requests = [{**REVIEW, "id": number, "row": {"review": f"row {number}"}} for number in range(200)]
    messages = converse([*requests, {"id": "end", "type": "close"}, {**REVIEW, "id": "late"}])
    assert sorted(message["id"] for message in messages if message["type"] == "answer") == list(range(200))
    assert messages[-1] == {"type": "closed", "id": "end"}


def test_a_cancelled_request_gets_one_line_all_the_same() -> None:
    requests: list[Any] = [{**REVIEW, "id": n, "row": {"review": f"row {n}"}} for n in range(300)]
    cancels = [{"id": n, "type": "cancel"} for n in range(100, 300)]
    kinds = ids_by_type(converse([*requests, *cancels]))
    once = [*kinds["answer"], *kinds.get("cancelled", [])]
    assert sorted(once) == list(range(300))


def test_ten_thousand_requests_in_one_write() -> None:
    requests = [{**REVIEW, "id": number, "row": {"review": f"row {number % 500}"}} for number in range(10_000)]
    assert sorted(message["id"] for message in converse(requests)) == list(range(10_000))


def test_a_model_that_does_not_load_is_said_and_ends_it() -> None:
    with start([*FAKE_PIPE, "missing"]) as process:
        output, _ = process.communicate(b"", timeout=PATIENCE)
    assert json.loads(output)["error"]["code"] == "model"
    assert process.returncode != 0


@pytest.mark.parametrize("side", ["output", "host"])
def test_nobody_is_left_when_the_other_side_goes(side: str) -> None:
    process = start()
    assert process.stdin
    assert process.stdout
    assert process.stderr
    process.stdout.readline()
    process.stdin.write(json.dumps(REVIEW).encode() + b"\n")
    if side == "output":
        process.stdout.close()
        process.stdin.write(json.dumps({**REVIEW, "id": 2}).encode() + b"\n")
        process.stdin.flush()
    else:
        process.stdin.write(b'{"id": 3, "task": "SA"')
        process.stdin.close()
    assert process.wait(PATIENCE) == 0
    for stream in (process.stdin, process.stdout, process.stderr):
        stream.close()


def test_a_host_that_never_reads_stops_nobody_and_nothing_grows() -> None:
    with start() as process:
        assert process.stdin
        big = json.dumps({**REVIEW, "row": {"review": "x" * 1000}}).encode() + b"\n"
        os.set_blocking(process.stdin.fileno(), False)
        sent = 0
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            try:
                sent += os.write(process.stdin.fileno(), big * 50)
            except BlockingIOError:
                time.sleep(0.05)
        assert sent < 1 << 28  # it stopped taking requests in
        os.kill(process.pid, signal.SIGKILL)
