"""Tests of what happens when the answers of a pipe cannot be written."""

from __future__ import annotations

import errno
import json
import os
import select
import socket
import threading
from concurrent.futures import Future
from typing import Any

import pytest

from ecellm_lite import Answer, Runtime
from ecellm_lite.engine.fake import FakeBackend
from ecellm_lite.pipe import serve
from ecellm_lite.pipe.lines import Output, read_lines
from ecellm_lite.pipe.session import Progress, Session
from tests.pipe.host import PATIENCE

REQUEST = json.dumps({"id": 1, "task": "SA", "row": {"review": "It works."}}).encode() + b"\n"


def serve_with(monkeypatch: pytest.MonkeyPatch, failing_line: int, code: int) -> None:
    """Serve one request over the fake engine. The write of line `failing_line` fails with errno `code`."""
    pieces = iter([REQUEST])
    written: list[bytes] = []

    def write(data: bytes) -> None:
        written.append(data)
        if len(written) == failing_line:
            raise OSError(code, "as the test wants it")

    def load() -> tuple[Runtime, Progress]:
        runtime = Runtime.over(FakeBackend())
        return runtime, runtime.progress

    monkeypatch.setattr(serve, "_is_pipe", lambda _: False)
    monkeypatch.setattr(serve, "take_standard_streams", lambda: (lambda _: next(pieces, b""), write, None))
    serve.serve_standard_streams(load)


@pytest.mark.parametrize("failing_line", [1, 2])
def test_a_full_disk_is_an_error(monkeypatch: pytest.MonkeyPatch, failing_line: int) -> None:
    with pytest.raises(OSError) as error:  # noqa: PT011 - its errno is checked
        serve_with(monkeypatch, failing_line, errno.ENOSPC)
    assert error.value.errno == errno.ENOSPC


@pytest.mark.parametrize("code", [errno.EPIPE, errno.ECONNRESET])
def test_a_reader_that_is_gone_ends_the_pipe_quietly(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    serve_with(monkeypatch, 1, code)


needs_poll = pytest.mark.skipif(not hasattr(select, "poll"), reason="this system does not tell who reads")


@needs_poll
def test_a_pipe_without_a_reader_is_noticed() -> None:
    reader, writer = os.pipe()
    output = Output(lambda data: os.write(writer, data), writer)
    assert output.has_reader()
    os.close(reader)
    assert not output.has_reader()
    assert not output.take_room(0)
    assert output.close(PATIENCE)
    os.close(writer)


@needs_poll
def test_a_client_that_only_sends_no_more_still_reads() -> None:
    client, host = socket.socketpair()
    with host:
        output = Output(host.sendall, host.fileno())
        with client:
            client.shutdown(socket.SHUT_WR)
            assert output.has_reader()
        assert not output.has_reader()
        assert output.close(PATIENCE)


@needs_poll
def test_requests_of_a_client_that_vanishes_are_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    future: Future[Answer] = Future()  # its answer never comes
    submitted = threading.Event()

    def submit(*_: Any, **options: Any) -> Future[Answer]:
        submitted.set()
        return future

    client, host = socket.socketpair()
    with Runtime.over(FakeBackend()) as runtime, host:
        monkeypatch.setattr(runtime, "submit", submit)
        output = Output(host.sendall, host.fileno())
        session = threading.Thread(target=Session(runtime, output).run, args=(read_lines(host.recv),), daemon=True)
        session.start()
        with client:
            assert client.recv(1 << 16)
            client.sendall(REQUEST)
            client.shutdown(socket.SHUT_WR)
            assert submitted.wait(PATIENCE)
        session.join(10)
        assert future.cancelled()
        assert output.close(PATIENCE)
