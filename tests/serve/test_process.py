"""Tests a server in a separate process: a dead engine is replaced, and SIGTERM ends the server cleanly."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, cast

import pytest

from tests.pipe.host import ROOT
from tests.serve.serving import PATIENCE, Server, until

BODY = {"rows": [{"id": number, "review": f"row {number}"} for number in range(50)]}


class Process(Server):
    """A server process, and the process of its engine."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.serve.fake_server"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT
        )
        assert self.process.stdout
        port, self.child = map(int, self.process.stdout.readline().split())
        super().__init__(port, cast("Any", None))
        until(lambda: self.get("/health").status == 200)

    def end(self) -> tuple[int, list[dict[str, Any]]]:
        """Send SIGTERM. Return the server's exit code and its log."""
        self.process.send_signal(signal.SIGTERM)
        _, errors = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, [json.loads(line) for line in errors.splitlines() if line.startswith(b"{")]


@pytest.fixture
def process() -> Iterator[Process]:
    process = Process()
    yield process
    process.process.kill()
    process.process.communicate()


@pytest.mark.slow
def test_requests_survive_the_engines_death(process: Process) -> None:
    for _ in range(3):
        statuses: list[int] = []
        ask = lambda: statuses.append(process.post("/v1/tasks/SA", BODY).status)  # noqa: B023, E731
        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        _kill_child(process)
        for thread in threads:
            thread.join(PATIENCE)
        assert statuses == [200] * 4
    assert 'ecellm_engine_restarts{model="fake"} 3.0' in process.get("/metrics").body.decode()
    assert process.get("/ready").status == 200


def test_sigterm_answers_open_requests_and_exits_with_0(process: Process) -> None:
    replies: list[Any] = []
    thread = threading.Thread(target=lambda: replies.append(process.post("/v1/tasks/SA", BODY)))
    thread.start()
    time.sleep(0.05)
    code, log = process.end()
    thread.join(PATIENCE)
    assert code == 0
    assert {line["status"] for line in log} == {200}
    if replies:  # it may not have been taken in yet
        assert len(replies[0].json["answers"]) == 50
    with pytest.raises(ProcessLookupError):
        os.kill(process.child, 0)


def test_only_the_row_that_kills_the_engine_is_refused(process: Process) -> None:
    rows = [{"review": "good"}, {"review": "poison"}, {"review": "fine"}]
    answers = process.post("/v1/tasks/SA", {"rows": rows}).json["answers"]
    assert [answer["error"] and answer["error"]["code"] for answer in answers] == [None, "crashed", None]
    alone = process.post("/v1/tasks/SA", {"row": {"review": "poison"}})
    assert (alone.status, alone.error["code"]) == (500, "crashed")


def _kill_child(process: Process) -> None:
    [child] = _children(process.process.pid)
    os.kill(child, signal.SIGKILL)
    until(lambda: _children(process.process.pid) not in ([], [child]))


def _children(pid: int) -> list[int]:
    import psutil

    alive = []
    for child in psutil.Process(pid).children():
        with suppress(psutil.NoSuchProcess):  # it may end between the two looks
            if child.status() != psutil.STATUS_ZOMBIE:
                alive.append(child.pid)
    return alive
