"""Kills the engine's process twenty times under load.

The test checks that each request gets an answer or one of the documented errors.
"""

from __future__ import annotations

import json
import os
import re
import signal
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from typing import Any

import psutil
import pytest

from ecellm_lite.models.store import StoredModel
from tests.serve.demo_server import demo_server

KILLS, CLIENTS, LINES = 20, 4, 100
WORKING = 0.7  # seconds that an engine has between its start and its death
PATIENCE = 120
BOUNDARY = "boundary"

pytestmark = pytest.mark.slow


def ask(url: str, body: Any = None, kind: str = "application/json") -> tuple[int, Any]:
    data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": kind} if data else {})
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def until(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE
    while not (value := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return value


def body(number: int) -> tuple[str, Any]:
    """Return the path and body of a request for a task or a decision. Each number gives a different request."""
    text = f"The parcel {number} came late, and the box was open."
    if number % 2:
        return "/v1/tasks/sentiment_analysis", {"rows": [{"review": text}, {"review": f"{text} It works."}]}
    question = {"type": "predicate", "instructions": "Was the parcel late?"}
    return "/v1/decisions", {"model": "demo", "input": text, "questions": [question]}


def begin_batch(base: str) -> str:
    path = "/v1/tasks/sentiment_analysis"
    lines = [
        {
            "custom_id": f"r{n}",
            "method": "POST",
            "url": path,
            "body": {"row": {"review": f"Lamp {n} is dim."}},
        }
        for n in range(LINES)
    ]
    data = "".join(json.dumps(line) + "\n" for line in lines)
    form = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="r.jsonl"\r\n\r\n{data}\r\n'
        f"--{BOUNDARY}--\r\n"
    )
    _, file = ask(f"{base}/v1/files", form.encode(), f"multipart/form-data; boundary={BOUNDARY}")
    _, batch = ask(f"{base}/v1/batches", {"input_file_id": file["id"], "endpoint": path, "completion_window": "24h"})
    return str(batch["id"])


def kill_engine(base: str, server: int, killed: set[int]) -> None:
    """Kill the engine's process WORKING seconds after it is ready, and add its process id to `killed`."""
    engine = until(lambda: ask(f"{base}/ready")[0] == 200 and new_engine(server, killed))
    time.sleep(WORKING)
    killed.add(engine)
    os.kill(engine, signal.SIGKILL)


def new_engine(server: int, killed: set[int]) -> int | None:
    for child in psutil.Process(server).children():
        with suppress(psutil.Error):  # it has just died
            if child.pid not in killed and "ecellm_lite.pipe" in child.cmdline():
                return child.pid
    return None


def test_every_request_is_answered_or_fails_with_its_documented_error(demo_model: StoredModel) -> None:
    replies: list[tuple[int, Any]] = []
    numbers, over = count(), threading.Event()

    def work(base: str) -> None:
        while not over.is_set():
            path, request = body(next(numbers))
            replies.append(ask(base + path, request))

    with demo_server() as (base, server):
        batch = begin_batch(base)
        threads = [threading.Thread(target=work, args=[base]) for _ in range(CLIENTS)]
        for thread in threads:
            thread.start()
        killed: set[int] = set()
        for _ in range(KILLS):
            kill_engine(base, server, killed)
        over.set()
        for thread in threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()
        ended = until(lambda: (state := ask(f"{base}/v1/batches/{batch}")[1])["completed_at"] and state)
        counts = ended["request_counts"]
        assert counts["total"] == counts["completed"] + counts["failed"] == LINES
        until(lambda: ask(f"{base}/ready")[0] == 200)
        with urllib.request.urlopen(f"{base}/metrics") as metrics:
            text = metrics.read().decode()
        assert sum(map(float, re.findall(r"^ecellm_engine_restarts\S* (\S+)", text, re.MULTILINE))) >= KILLS
    statuses = Counter(status for status, _ in replies)
    assert statuses[200] > 0, statuses
    errors = {(status, reply["error"]["code"]) for status, reply in replies if status != 200}
    assert errors <= {(500, "crashed"), (429, "queue_full"), (503, "model"), (503, "closed")}, statuses
    rows = [answer for _, reply in replies for answer in reply.get("answers", []) if "error" in answer]
    assert {row["error"] and row["error"]["code"] for row in rows} <= {None, "crashed"}
