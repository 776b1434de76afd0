"""Tests that a ChildRuntime answers as a Runtime does. If a request kills the child, only that request fails."""

from __future__ import annotations

import math
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from datetime import date
from pathlib import Path
from typing import Any, cast

import psutil
import pytest

from ecellm_lite import Answer, InputError, ModelError, Runtime, UsageError, schema
from ecellm_lite.answerer import KeepsCalibrations
from ecellm_lite.answers.answer import ModelName
from ecellm_lite.answers.choice import Choice
from ecellm_lite.answers.options import Option
from ecellm_lite.answers.text import Text
from ecellm_lite.engine.fake import FakeBackend
from ecellm_lite.errors import ClosedError, CrashError, DeadlineError
from ecellm_lite.models.calibration_scope import Scope
from ecellm_lite.models.calibrations import FORMAT, Calibration, Measures
from ecellm_lite.models.store import Store
from ecellm_lite.pipe import supervisor
from ecellm_lite.pipe.asking import MOST_SENT, PendingRequest, RequestQueue
from ecellm_lite.pipe.child_runtime import ChildRuntime
from ecellm_lite.pipe.messages import Ask
from ecellm_lite.tasks.questions import question_task
from ecellm_lite.tasks.registry import load_task
from ecellm_lite.tasks.task import Task
from ecellm_lite.tasks.written import read_json
from tests.pipe.host import FAKE_PIPE, PATIENCE, ROOT
from tests.support.answer_checks import EXAMPLES
from tests.support.tiny_models import write_tiny_model

pytestmark = pytest.mark.usefixtures("in_root")


@pytest.fixture
def in_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def kill(child: ChildRuntime) -> None:
    restarts = child.restarts
    wait_until(lambda: child.pid is not None)
    os.kill(cast("int", child.pid), signal.SIGKILL)
    wait_until(lambda: child.restarts > restarts)


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_answers_equal_those_of_a_runtime_in_this_process() -> None:
    rows: list[Any] = [{"id": number, "review": f"row {number}"} for number in range(300)]
    rows[7] = {"id": 7}
    rows[8] = InputError("Line 9 is not JSON.")
    with ChildRuntime(command=FAKE_PIPE) as child, Runtime.over(FakeBackend()) as runtime:
        assert (child.model, child.tasks) == (runtime.model, runtime.tasks)
        for name, row in EXAMPLES.items():
            ours, theirs = child.answer(name, row), runtime.answer(name, row)
            assert (ours.value, ours.probabilities) == (theirs.value, theirs.probabilities)
        answers = list(child.answers("sentiment_analysis", rows))
        expected = list(runtime.answers("sentiment_analysis", rows))
    assert [(answer.id, answer.probabilities) for answer in answers if not answer.error] == [
        (answer.id, answer.probabilities) for answer in expected if not answer.error
    ]
    assert [answer.error for answer in answers] == [answer.error for answer in expected]


OWN_TASK = """
name = "routing"
summary = "Send a mail to the right desk."
instruction = "Choose a desk."

[[fields]]
name = "input"

[answer]
type = "choice"
choices = [{ value = "billing" }, { value = "delivery" }]
"""
UNREAD: dict[Any, Any] = {"when": date(2024, 5, 1), "raw": b"x", ("a", 1): 1, "more": {"x": math.inf}, 7: {1, 2}}
PRODUCTS = {"product_1": {"title": "A mug", **UNREAD}, "product_2": {"title": "A cup"}}
WIRE = {"instruction": "Rate it.", "input": "Good.", "options": '["A: very positive", "B: positive"]'}
ROWS: list[tuple[str, Any]] = [
    ("sentiment_analysis", {"id": 1, "review": "good", **UNREAD}),
    ("sentiment_analysis", {"id": 2, "input": {"review": "good", **UNREAD}, **UNREAD}),
    ("sentiment_analysis", {"id": 3, **WIRE, **UNREAD}),
    ("product_matching", {"id": 4, **PRODUCTS, **UNREAD}),
    ("attribute_value_extraction", {"title": 5, "feature": ["a", 1.5], "attributes": ["Color"], "price": math.nan}),
    ("sentiment_analysis", {"id": 5, "revue": "good", **UNREAD}),
    ("sentiment_analysis", {"review": b"good"}),
    ("sentiment_analysis", read_json('{"review": 1e999}')),
    ("sentiment_analysis", read_json('{"id": 1.5, "review": "good"}')),
    ("sentiment_analysis", {"id": date(2024, 5, 1), "review": "good"}),
    ("sentiment_analysis", {**WIRE, "options": b"A"}),
    ("sentiment_analysis", {**WIRE, "options": "A"}),
    ("sentiment_analysis", [1]),
]


def test_a_row_is_read_as_by_a_runtime_in_this_process(tmp_path: Path) -> None:
    path = tmp_path / "routing.toml"
    path.write_text(OWN_TASK, "utf-8")
    question = question_task({"type": "predicate", "instructions": "Is it good?"})
    own: list[tuple[str | Task, Any]] = [
        (load_task(path), {"input": "a mail", **UNREAD}),
        (question, {"state": "a mail", **UNREAD}),
    ]
    with ChildRuntime(command=FAKE_PIPE) as child, Runtime.over(FakeBackend()) as runtime:
        for task, row in [*own, *ROWS]:
            ours, theirs = child.submit(task, row).result(PATIENCE), runtime.submit(task, row).result(PATIENCE)
            assert (ours.id, ours.error, ours.value) == (theirs.id, theirs.error, theirs.value)
            assert ours.probabilities == theirs.probabilities


def test_options_are_sent_to_the_child() -> None:
    row = EXAMPLES["answer_generation"]
    form = schema({"type": "object", "properties": {"good": {"type": "boolean"}}, "required": ["good"]}, max_tokens=90)
    with ChildRuntime(command=FAKE_PIPE) as child, Runtime.over(FakeBackend()) as runtime:
        for options in ({"space": Text(5)}, {"space": form}, {"instruction": "Say more."}, {"min_probability": 0.5}):
            ours = child.answer("answer_generation", row, **options)
            assert ours.text == runtime.answer("answer_generation", row, **options).text
        with pytest.raises(UsageError):
            child.submit("answer_generation", row, space=Choice((Option("A", "A"), Option("B", "B"))))
        with pytest.raises(UsageError):
            child.submit("nonsense", row)
        unknown: Any = {"min_probabilty": 0.99}
        for each in (row, InputError("Line 9 is not JSON.")):
            with pytest.raises(TypeError, match="'min_probabilty'"):
                child.submit("answer_generation", each, **unknown)
        with pytest.raises(InputError):
            child.answer("sentiment_analysis", {"review": object()})


def test_kept_calibration_reads_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECELLM_HOME", str(tmp_path))
    scope = Scope("sentiment_analysis", "choice", "5" * 64, "alpaca", "6" * 64, None)
    measures = Measures(-1.0, 0.1, 0.1)
    calibration = Calibration(scope, 2.0, 0.0, 0.0, 30, 30, measures, measures, "rows", "a" * 64, {}, FORMAT)
    path = Store().root / "calibration" / scope.model / "sentiment_analysis.json"
    calibration.write(path)
    with ChildRuntime(command=FAKE_PIPE) as child:
        assert isinstance(child, KeepsCalibrations)
        assert child.kept_calibration("SA") is None
        child.model = ModelName("shop", scope.model)
        assert child.kept_calibration("SA") == child.kept_calibration("SA", calibration=path) == calibration
        assert child.kept_calibration("SA", calibration=False) is None
        assert child.kept_calibration("product_matching") is None


@pytest.mark.parametrize(("how", "error"), [("missing", ModelError), ("crash", CrashError)])
def test_a_child_that_cannot_start_raises_one_error(how: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        ChildRuntime(command=[*FAKE_PIPE, how])


def test_an_invalid_command_raises_one_error() -> None:
    with pytest.raises(CrashError) as caught:
        ChildRuntime(command=["/nonsense/ecellm-lite"])
    assert caught.value.step
    assert "/nonsense/ecellm-lite" in caught.value.message


@pytest.mark.parametrize(("kills", "count"), [(2, 300), pytest.param(30, 2000, marks=pytest.mark.slow)])
def test_a_child_killed_repeatedly_loses_and_repeats_no_answer(kills: int, count: int) -> None:
    chance = random.Random(7)
    ended: list[int] = []
    futures: dict[int, Future[Answer]] = {}
    with ChildRuntime(command=FAKE_PIPE) as child:

        def ask(client: int) -> None:
            for number in range(client, count, 8):
                row = {"id": number, "review": f"row {number} " + "of a long text " * 30}
                futures[number] = child.submit("sentiment_analysis", row)
                futures[number].add_done_callback(lambda _, number=number: ended.append(number))  # type: ignore[misc]
                time.sleep(kills / 300)

        clients = [threading.Thread(target=ask, args=(client,)) for client in range(8)]
        for client in clients:
            client.start()
        for _ in range(kills):
            wait_until(lambda: child.ready)
            time.sleep(chance.uniform(0.0, 0.5))
            kill(child)
        for client in clients:
            client.join(PATIENCE)
        answers = {number: future.result(PATIENCE) for number, future in futures.items()}
        assert child.answer("sentiment_analysis", {"review": "good"}).error is None
        assert child.restarts == kills
    assert sorted(ended) == list(range(count))
    assert {answer.error and answer.error.code for answer in answers.values()} <= {None, "crashed"}
    assert all(answer.id == number for number, answer in answers.items())


def test_a_child_killed_while_loading_is_restarted() -> None:
    with ChildRuntime(command=[*FAKE_PIPE, "slow"]) as child:
        future = child.submit("sentiment_analysis", {"review": "good"})
        for _ in range(3):  # after the first time it is about to load
            kill(child)
        assert future.result(PATIENCE).error is None
        assert child.answer("sentiment_analysis", {"review": "good"}).error is None


@pytest.mark.slow
def test_a_model_that_crashes_at_load_fails_each_request_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "MOST_STARTS", 3)
    note = tmp_path / "note"
    with ChildRuntime(command=[*FAKE_PIPE, "crash", str(note)]) as child:
        note.touch()
        kill(child)
        future = child.submit("sentiment_analysis", {"review": "good"})
        assert isinstance(future.exception(PATIENCE), CrashError)
        assert note.read_text().count("started") == 3
        with pytest.raises(CrashError):
            child.answer("sentiment_analysis", {"review": "good"})
        assert note.read_text().count("started") == 4
        note.unlink()
        assert child.answer("sentiment_analysis", {"review": "good"}).error is None


def test_a_lazy_child_loads_on_the_first_request_and_ends_when_idle(tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "tiny.gguf")
    others = psutil.Process().children()
    with ChildRuntime(model, envelope="alpaca", lazy=True, idle_seconds=0.3, command=FAKE_PIPE) as child:
        assert (child.pid, child.model.name, child.envelope.name) == (None, "tiny.gguf", "alpaca")
        assert set(EXAMPLES) <= set(child.tasks)
        for _ in range(2):
            assert child.answer("sentiment_analysis", {"review": "good"}).error is None
            wait_until(lambda: child.pid is None and psutil.Process().children() == others)
        assert child.restarts == 0


def test_a_crashing_lazy_child_fails_each_request_without_a_loop(tmp_path: Path) -> None:
    model, note = write_tiny_model(tmp_path / "tiny.gguf"), tmp_path / "note"
    note.touch()
    with ChildRuntime(model, envelope="alpaca", lazy=True, command=[*FAKE_PIPE, "crash", str(note)]) as child:
        for _ in range(2):
            with pytest.raises(CrashError):
                child.answer("sentiment_analysis", {"review": "good"})
        assert note.read_text().count("started") == 2
        note.unlink()
        assert child.answer("sentiment_analysis", {"review": "good"}).error is None


def test_a_request_that_kills_the_child_is_refused_and_the_others_answered() -> None:
    with ChildRuntime(command=FAKE_PIPE) as child:
        rows = [{"review": "poison" if number == 5 else f"row {number}"} for number in range(20)]
        futures = [child.submit("sentiment_analysis", row) for row in rows]
        errors = [future.result(PATIENCE).error for future in futures]
        assert [(number, error.code) for number, error in enumerate(errors) if error] == [(5, "crashed")]
        restarts = child.restarts
        with pytest.raises(CrashError):
            child.answer("sentiment_analysis", {"review": "poison"})
        assert child.restarts == restarts


def test_a_child_that_hangs_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "HEARTBEAT", 0.1)
    with ChildRuntime(command=FAKE_PIPE, hang_seconds=1) as child:
        hanging = child.submit("sentiment_analysis", {"review": "hang"})
        other = child.submit("product_matching", EXAMPLES["product_matching"])
        error = hanging.result(PATIENCE).error
        assert error is not None
        assert error.code == "crashed"
        assert other.result(PATIENCE).error is None


@pytest.mark.skipif(sys.platform == "win32", reason="it cannot stop a process for a while")
def test_a_suspended_child_is_replaced_and_can_be_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "HEARTBEAT", 0.1)
    monkeypatch.setattr(supervisor, "CLOSING_SECONDS", 0.1)
    with ChildRuntime(command=FAKE_PIPE, hang_seconds=2) as child:
        first = cast("int", child.pid)
        os.kill(first, signal.SIGSTOP)
        assert child.answer("sentiment_analysis", {"review": "good"}).error is None
        assert child.restarts
        wait_until(lambda: child.pid is not None)
        second = cast("int", child.pid)
        os.kill(second, signal.SIGSTOP)
    wait_until(lambda: is_gone(first) and is_gone(second))


def test_cancelling_all_requests_leaves_the_child_idle() -> None:
    with ChildRuntime(command=FAKE_PIPE) as child:
        futures = [child.submit("sentiment_analysis", {"review": f"row {number}"}) for number in range(2000)]
        for future in futures:
            future.cancel()
        wait_until(lambda: all(future.done() for future in futures))
        assert child.answer("sentiment_analysis", {"review": "good"}).error is None
        assert child.restarts == 0


def test_a_cancelled_row_is_cancelled_in_the_child_too() -> None:
    with ChildRuntime(command=FAKE_PIPE) as child:
        futures = [child.submit("sentiment_analysis", {"review": f"row {number}"}) for number in range(200)]
        assert futures[-1].cancel()
        assert all(future.result(PATIENCE).error is None for future in futures[:-1])


def test_closing_fails_waiting_requests_and_leaves_no_process() -> None:
    child = ChildRuntime(command=FAKE_PIPE)
    pid = child.pid
    futures = [child.submit("sentiment_analysis", {"review": f"row {number}"}) for number in range(2000)]
    child.close()
    child.close()
    assert any(isinstance(future.exception(PATIENCE), ClosedError) for future in futures)
    with pytest.raises(ClosedError):
        child.submit("sentiment_analysis", {"review": "good"})
    assert pid
    assert is_gone(pid)


@pytest.mark.parametrize("command", [FAKE_PIPE, [*FAKE_PIPE, "isolated"]])
def test_a_host_that_is_killed_leaves_no_process(command: list[str]) -> None:
    program = (
        "import time; from ecellm_lite.pipe.child_runtime import ChildRuntime\n"
        f"child = ChildRuntime(command={command!r}); print(child.pid, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, cwd=ROOT) as host:
        assert host.stdout
        host.stdout.readline()
        ours = psutil.Process(host.pid).children(recursive=True)
        host.kill()
    assert len(ours) == len(command) - len(FAKE_PIPE) + 1
    wait_until(lambda: all(is_gone(process.pid) for process in ours))


def test_a_deadline_is_kept_while_the_child_hangs_or_is_dead() -> None:
    with ChildRuntime(command=FAKE_PIPE) as child:
        hanging = child.submit("sentiment_analysis", {"id": 1, "review": "hang"}, deadline_ms=200)
        answer = hanging.result(PATIENCE)
        assert answer.error
        assert (answer.id, answer.error.code) == (1, "deadline")
        assert child.pid
        os.kill(child.pid, signal.SIGKILL)
        with pytest.raises(DeadlineError):
            child.answer("sentiment_analysis", {"review": "good"}, deadline_ms=1)
        assert child.answer("sentiment_analysis", {"review": "good"}, deadline_ms=1000 * PATIENCE).error is None


def test_a_deadline_is_kept_while_the_model_loads(tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "tiny.gguf")
    with ChildRuntime(model, envelope="alpaca", lazy=True, command=[*FAKE_PIPE, "slow"]) as child:
        with pytest.raises(DeadlineError):
            child.answer("sentiment_analysis", {"review": "good"}, deadline_ms=50)
        assert child.answer("sentiment_analysis", {"review": "good"}).error is None


def pending(number: int, options: dict[str, Any]) -> PendingRequest:
    return PendingRequest(Ask(number, "SA", {}, options), b"", cast("Any", None), Future())


def test_nothing_is_sent_beside_a_row_that_two_children_died_of() -> None:
    requests = RequestQueue()
    requests.add(pending(1, {}))
    for _ in range(2):
        assert [sent.number for sent in requests.to_send()] == [1]
        requests.child_died()
    assert [sent.number for sent in requests.to_send()] == [1]
    requests.add(pending(2, {}))
    requests.add(pending(3, {"priority": "urgent"}))
    assert not list(requests.to_send())
    requests.take(1)
    assert [sent.number for sent in requests.to_send()] == [3, 2]


def test_an_urgent_row_is_sent_before_rows_still_unsent() -> None:
    requests = RequestQueue()
    for number in range(1, 3001):
        requests.add(pending(number, {}))
    assert len(list(requests.to_send())) == MOST_SENT
    requests.add(pending(3001, {"priority": "urgent"}))
    assert [sent.number for sent in requests.to_send()] == [3001]
    requests.child_died()
    assert next(requests.to_send()).number == 3001
    assert len(requests.take_all()) == 3001


def test_a_listener_gets_the_growing_text() -> None:
    heard: list[str] = []
    with ChildRuntime(command=FAKE_PIPE) as child:
        answer = child.answer(
            "answer_generation", EXAMPLES["answer_generation"], space=Text(max_tokens=40), listener=heard.append
        )
    assert heard == sorted(heard, key=len)
    assert len(heard) > 2
    assert answer.text
    assert all(answer.text.startswith(text) for text in heard)
