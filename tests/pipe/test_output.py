"""Tests of what happens when the answers of a pipe cannot be written."""

from __future__ import annotations

import errno
import json

import pytest

from ecellm_lite import Runtime
from ecellm_lite.engine.fake import FakeBackend
from ecellm_lite.pipe import serve
from ecellm_lite.pipe.session import Progress

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
    monkeypatch.setattr(serve, "take_standard_streams", lambda: (lambda _: next(pieces, b""), write))
    serve.serve_standard_streams(load)


@pytest.mark.parametrize("failing_line", [1, 2])
def test_a_full_disk_is_an_error(monkeypatch: pytest.MonkeyPatch, failing_line: int) -> None:
    with pytest.raises(OSError) as error:  # noqa: PT011 - its errno is checked
        serve_with(monkeypatch, failing_line, errno.ENOSPC)
    assert error.value.errno == errno.ENOSPC


@pytest.mark.parametrize("code", [errno.EPIPE, errno.ECONNRESET])
def test_a_reader_that_is_gone_ends_the_pipe_quietly(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    serve_with(monkeypatch, 1, code)
