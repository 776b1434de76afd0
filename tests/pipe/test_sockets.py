"""Tests that several programs can use one `ecellm-lite pipe` over a Unix socket. None of them can stop another."""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
import stat
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ecellm_lite import Runtime
from ecellm_lite.engine.fake import FakeBackend
from ecellm_lite.errors import InputError
from ecellm_lite.pipe import sockets
from ecellm_lite.pipe.sockets import SocketServer, bound_socket
from tests.pipe.host import MESSAGE, PATIENCE

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="this system has no Unix sockets")

ROWS = 50


@pytest.fixture
def path() -> Iterator[Path]:
    """Return a path that is short enough for a Unix socket."""
    folder = tempfile.mkdtemp()
    yield Path(folder) / "till.sock"
    shutil.rmtree(folder)


@contextmanager
def serving(path: Path) -> Iterator[SocketServer]:
    with Runtime.over(FakeBackend()) as runtime:
        server = SocketServer(path, runtime, runtime.progress)
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            yield server
        finally:
            server.close()
            thread.join(PATIENCE)
        assert not thread.is_alive()


@contextmanager
def connected(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as host:
        host.connect(os.fspath(path))  # without a time limit, as it would then fail at once if many wait
        host.settimeout(PATIENCE)
        yield host


def requests(name: str) -> bytes:
    rows: list[dict[str, Any]] = [
        {"id": number, "task": "SA", "row": {"review": f"{name} {number}"}} for number in range(ROWS)
    ]
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def conversation(path: Path, name: str) -> list[dict[str, Any]]:
    """Send the requests of the client `name` to the socket at `path`, close the input, and return all messages."""
    with connected(path) as host:
        host.sendall(requests(name))
        host.shutdown(socket.SHUT_WR)
        with host.makefile("rb") as lines:
            return [json.loads(line) for line in lines]


def check(messages: list[dict[str, Any]]) -> None:
    for message in messages:
        MESSAGE.validate(message)
    ready, *answers = messages
    assert ready["type"] == "ready"
    assert sorted(answer["id"] for answer in answers) == list(range(ROWS))
    assert all(answer["answer"]["error"] is None for answer in answers)


def test_ids_of_several_hosts_do_not_collide(path: Path) -> None:
    conversations: dict[int, list[dict[str, Any]]] = {}

    def talk(number: int) -> None:
        conversations[number] = conversation(path, f"host {number}")

    with serving(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        hosts = [threading.Thread(target=talk, args=(number,)) for number in range(8)]
        for host in hosts:
            host.start()
        for host in hosts:
            host.join(PATIENCE)
    assert len(conversations) == 8
    for messages in conversations.values():
        check(messages)
    assert not path.exists()


def test_a_second_server_on_the_same_path_is_refused(path: Path) -> None:
    with serving(path):
        for _ in range(2):
            with pytest.raises(InputError):
                bound_socket(path)
        check(conversation(path, "host"))


def test_a_stale_socket_is_replaced_but_a_file_is_not(path: Path) -> None:
    bound_socket(path).close()
    assert path.exists()
    with serving(path):
        check(conversation(path, "host"))
    path.write_text("a file")
    with pytest.raises(InputError):
        bound_socket(path)
    assert path.read_text() == "a file"


def test_a_closing_server_does_not_remove_its_successors_socket(path: Path) -> None:
    with serving(path) as first:
        path.unlink()  # as a system does that cleans its folder of temporary files
        with serving(path):
            first.close()
            check(conversation(path, "host"))


@pytest.mark.parametrize("deed", ["half a line", "no reading", "nothing"])
def test_a_disconnected_host_makes_room_for_the_next(path: Path, deed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "MOST_HOSTS", 1)
    with serving(path):
        for _ in range(3):
            with connected(path) as host:
                if deed == "half a line":
                    host.sendall(b'{"id": 1, "task": "SA", "row"')
                elif deed == "no reading":
                    host.sendall(requests("loud"))
        check(conversation(path, "host"))


def test_a_host_that_never_reads_does_not_block_others(path: Path) -> None:
    with serving(path), connected(path) as deaf:
        deaf.setblocking(False)
        try:
            for _ in range(1000):
                deaf.sendall(requests("loud"))
        except BlockingIOError:
            pass
        check(conversation(path, "host"))


def test_a_server_at_its_limit_of_hosts_can_be_closed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "MOST_HOSTS", 1)
    with serving(path) as server, connected(path) as host:
        assert host.recv(1)
        server.close()


def test_a_failure_to_accept_a_host_does_not_end_the_server(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    accept = socket.socket.accept
    failures = iter([OSError(errno.EMFILE, "too many files"), ConnectionAbortedError()])

    def failing(server: socket.socket) -> tuple[socket.socket, object]:
        if failure := next(failures, None):
            raise failure
        return accept(server)

    monkeypatch.setattr(socket.socket, "accept", failing)
    with serving(path):
        check(conversation(path, "host"))
