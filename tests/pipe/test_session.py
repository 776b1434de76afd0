"""Tests that each request to the pipe gets one line with its id, and that standard output has nothing else."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections import Counter
from typing import Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecellm_lite import Runtime
from ecellm_lite.engine.fake import FakeBackend
from ecellm_lite.errors import ProtocolError
from ecellm_lite.pipe.lines import Output, read_lines
from ecellm_lite.pipe.messages import LONGEST_LINE, Control, read_message
from ecellm_lite.pipe.session import Session
from tests.pipe.host import FAKE_PIPE, MESSAGE, PATIENCE, converse, start
from tests.pipe.test_messages import JSON, LIKELY
from tests.support.answer_checks import EXAMPLES

REVIEW = {"id": 1, "task": "sentiment_analysis", "row": {"review": "It works."}}


def ids_by_type(messages: list[dict[str, Any]]) -> dict[str, list[Any]]:
    kinds: dict[str, list[Any]] = {}
    for message in messages:
        kinds.setdefault(message["type"], []).append(message["id"])
    return kinds


def test_every_task_is_answered() -> None:
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
    assert sorted(str(id_) for id_ in kinds["error"]) == sorted(["None"] * 4 + ["3", "5", "6", "7", "8", "9", "10"])
    answers = {message["id"]: message["answer"] for message in messages if message["type"] == "answer"}
    assert [answers[id_]["error"] is None for id_ in (1, 2, 11)] == [False, False, True]
    errors = {message["id"]: message["error"] for message in messages if message["type"] == "error"}
    assert (errors[6]["code"], errors[7]["field"], errors[8]["field"]) == ("usage", "type", "options.min_probability")


def test_only_a_line_that_is_too_long_fails() -> None:
    long = json.dumps({"id": 1, "task": "SA", "row": {"review": "x" * LONGEST_LINE}}).encode() + b"\n"
    messages = converse([long, {**REVIEW, "id": 2}])
    assert ids_by_type(messages) == {"error": [1], "answer": [2]}


def test_control_requests_are_answered() -> None:
    messages = converse([{"id": "a", "type": "ping"}, {"id": "b", "type": "tasks"}, {"id": "c", "type": "stats"}])
    assert [message["type"] for message in messages] == ["pong", "tasks", "stats"]
    assert {task["name"] for task in messages[1]["tasks"]} >= EXAMPLES.keys()
    assert messages[2]["stats"]["in_flight"] == 0


def test_options_apply_to_one_request() -> None:
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


def test_close_answers_everything_read_before_it() -> None:
    requests = [{**REVIEW, "id": number, "row": {"review": f"row {number}"}} for number in range(200)]
    messages = converse([*requests, {"id": "end", "type": "close"}, {**REVIEW, "id": "late"}])
    assert sorted(message["id"] for message in messages if message["type"] == "answer") == list(range(200))
    assert messages[-1] == {"type": "closed", "id": "end"}


def test_a_cancelled_request_still_gets_one_line() -> None:
    requests: list[Any] = [{**REVIEW, "id": n, "row": {"review": f"row {n}"}} for n in range(300)]
    cancels = [{"id": n, "type": "cancel"} for n in range(100, 300)]
    kinds = ids_by_type(converse([*requests, *cancels]))
    once = [*kinds["answer"], *kinds.get("cancelled", [])]
    assert sorted(once) == list(range(300))


@pytest.mark.slow
def test_ten_thousand_requests_in_one_write_are_answered() -> None:
    requests = [{**REVIEW, "id": number, "row": {"review": f"row {number % 500}"}} for number in range(10_000)]
    assert sorted(message["id"] for message in converse(requests)) == list(range(10_000))


ID = st.integers(0, 3) | st.sampled_from(["a", "1", "", "x" * 256])
ASK = st.fixed_dictionaries(
    {"id": ID, "task": st.sampled_from(["sentiment_analysis", "PM", "nonsense"]), "row": st.just({"review": "good"})},
    optional={"options": st.sampled_from([{}, {"seed": -1}, {"max_tokens": 1}, {"deadline_ms": 1e-3}]), "extra": JSON},
)
CONTROL = st.fixed_dictionaries({"id": ID, "type": st.sampled_from(["cancel", "ping", "tasks", "stats", "x", None])})
HUGE = st.integers(1 << 53, 1 << 60) | st.just("x" * 100_000)
LINE = (
    st.one_of(ASK, ASK, CONTROL, LIKELY, st.fixed_dictionaries({"id": HUGE, "type": st.just("ping")}), JSON)
    .filter(lambda data: not isinstance(data, dict) or data.get("type") != "close")
    .map(lambda data: json.dumps(data).encode())
)
BROKEN = st.tuples(LINE, st.integers(0, 40)).map(lambda cut: cut[0][: cut[1]]) | st.binary(max_size=40)


@given(st.lists(LINE | BROKEN, max_size=60))
def test_every_request_gets_a_line_with_its_id(lines: list[bytes]) -> None:
    messages = session_over_fake([line.replace(b"\n", b" ") for line in lines])
    expected: Counter[Any] = Counter()
    cancels = 0
    for line in lines:
        try:
            request = read_message(line.replace(b"\n", b" "))
        except ProtocolError as error:
            expected[error.id] += bool(line.strip())
        else:
            expected[request.id] += 1
            cancels += isinstance(request, Control) and request.kind == "cancel"
    replied = Counter(message["id"] for message in messages)
    assert replied <= expected
    assert (expected - replied).total() <= cancels  # one that finds its request has no line of its own
    for message in messages:
        MESSAGE.validate(message)


def session_over_fake(lines: list[bytes]) -> list[dict[str, Any]]:
    """Run a session with the fake engine in this process. Return the messages that follow `ready`."""
    written: list[bytes] = []
    output = Output(written.append)
    with Runtime.over(FakeBackend()) as runtime:
        pieces = iter([b"\n".join(lines)])
        Session(runtime, output, runtime.progress).run(read_lines(lambda _: next(pieces, b"")))
        output.close()
    return [json.loads(line) for line in b"".join(written).splitlines()][1:]


@pytest.mark.slow
def test_a_long_conversation_leaks_no_memory() -> None:
    lines = b"".join(
        b'{"id": %d, "task": "SA", "row": {"review": "row %d"}}\n' % (number, number % 50)
        + b'{"id": %d, "type": "cancel"}\n{"id": %d, "type": "tasks"\n' % (number - 20, number)
        for number in range(3000)
    )
    with start() as process:
        assert process.stdin
        assert process.stdout
        process.stdout.readline()
        sizes = []
        for turn in range(4):
            end = b'{"id": "end %d", "type": "ping"}\n' % turn
            writer = threading.Thread(target=process.stdin.write, args=(lines + end,))
            writer.start()
            while b'"pong"' not in process.stdout.readline():
                pass
            writer.join()
            sizes.append(psutil.Process(process.pid).memory_info().rss)
        process.stdin.close()
        assert process.wait(PATIENCE) == 0
        process.stdout.read()
    assert sizes[-1] - sizes[0] < 32 << 20


def test_a_model_that_does_not_load_is_reported_and_ends_the_pipe() -> None:
    with start([*FAKE_PIPE, "missing"]) as process:
        output, _ = process.communicate(b"", timeout=PATIENCE)
    assert json.loads(output)["error"]["code"] == "model"
    assert process.returncode != 0


def test_an_isolated_pipe_whose_engine_is_killed_answers_all() -> None:
    requests = [
        {**REVIEW, "id": number, "row": {"review": f"row {number} " + "and more " * 20}} for number in range(200)
    ]
    with start([*FAKE_PIPE, "isolated"]) as process:
        assert process.stdin
        assert process.stdout
        process.stdout.readline()
        [engine] = psutil.Process(process.pid).children()
        process.stdin.write(b"".join(json.dumps(request).encode() + b"\n" for request in requests))
        process.stdin.flush()
        engine.kill()
        process.stdin.close()
        messages = [json.loads(line) for line in process.stdout]
        assert process.wait(PATIENCE) == 0
    assert sorted(message["id"] for message in messages) == list(range(200))
    assert all(message["answer"]["error"] is None for message in messages)


@pytest.mark.parametrize("side", ["output", "host"])
def test_no_process_is_left_when_the_other_side_ends(side: str) -> None:
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


def test_memory_does_not_grow_if_a_host_never_reads() -> None:
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
        assert sent < 1 << 28  # it stopped accepting requests
        os.kill(process.pid, signal.SIGKILL)
