"""Starts a server with the fake engine in a thread of the test process, and sends requests to it."""

from __future__ import annotations

import http.client
import json
import os
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the server's libraries are in the extra 'server'")

from ecellm_lite import Runtime
from ecellm_lite.answerer import Answerer
from ecellm_lite.engine.fake import FakeBackend
from ecellm_lite.serve.app import create_app
from ecellm_lite.serve.fleet import Fleet
from ecellm_lite.serve.guard import Access
from ecellm_lite.serve.keys import Keys
from ecellm_lite.serve.limits import Limits
from ecellm_lite.serve.listening import listen
from ecellm_lite.serve.server import server_of
from ecellm_lite.serve.service import Service

PATIENCE = 30
ALIASES = ("jev-*",)


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Message
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> Any:
        return self.json["error"]


@dataclass
class Server:
    port: int
    service: Service
    log: list[Mapping[str, Any]] = field(default_factory=list)
    address: str = "127.0.0.1"

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        *,
        host: str | None = None,
    ) -> Reply:
        """Send a request, and return the response. A body that is not bytes is sent as JSON."""
        connection = http.client.HTTPConnection(self.address, self.port, timeout=PATIENCE)
        every: dict[str, str] = {}
        if body is not None:
            every["Content-Type"] = "application/json"
            body = body if isinstance(body, bytes) else json.dumps(body).encode()
        try:
            connection.putrequest(method, path, skip_host=True)
            for name, value in {"Host": host or f"{self.address}:{self.port}", **every, **(headers or {})}.items():
                connection.putheader(name, value)
            if body is not None:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            response = connection.getresponse()
            return Reply(response.status, response.headers, response.read())
        finally:
            connection.close()

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Reply:
        return self.ask("GET", path, headers=headers)

    def post(self, path: str, body: Any, headers: Mapping[str, str] | None = None) -> Reply:
        return self.ask("POST", path, body, headers)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)

    def begin(self, path: str, body: Any) -> socket.socket:
        """Send a request, and return without reading the response."""
        data = json.dumps(body).encode()
        head = ["Host: localhost", "Content-Type: application/json", f"Content-Length: {len(data)}", "", ""]
        connection = self.connect()
        connection.sendall("\r\n".join([f"POST {path} HTTP/1.1", *head]).encode() + data)
        return connection


def until(condition: Callable[[], bool]) -> None:
    """Wait until the condition is true. Another thread must make it true."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@contextmanager
def serving(
    answerer: Answerer | None = None,
    *,
    fleet: Fleet | None = None,
    limits: Limits | None = None,
    keys: Keys | None = None,
    hosts: tuple[str, ...] = (),
    origins: tuple[str, ...] = (),
    access: Access | None = None,
    folder: Path | None = None,
    path: Path | None = None,
    aliases: Sequence[str] = ALIASES,
    host: str = "127.0.0.1",
) -> Iterator[Server]:
    """Serve a fleet or an answerer, by default a Runtime over the fake engine. With `path`, serve on a Unix socket."""
    limits = limits or Limits()
    if fleet:
        fleet.load()
    else:
        fleet = Fleet.of(answerer or Runtime.over(FakeBackend(sequences=64, cells=1 << 14)))
    folder = folder or Path(tempfile.mkdtemp(dir=os.environ["ECELLM_HOME"]))
    service = Service(fleet, limits, keys or Keys(), aliases, folder=folder)
    listening = listen(host, 0, path)
    served = Server(0 if path else listening.socket.getsockname()[1], service)
    app = create_app(service, access or listening.access(hosts, origins), log=served.log.append)
    server = server_of(app, limits)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening.socket]}, daemon=True)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
        yield served
    finally:
        server.should_exit = True
        thread.join(PATIENCE)
        listening.close()
        fleet.close()
        assert not thread.is_alive()
