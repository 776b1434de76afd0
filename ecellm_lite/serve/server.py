"""Runs the application until SIGTERM; clients that send too slowly are disconnected."""

from __future__ import annotations

import asyncio
import signal
import threading
from typing import Any

import h11
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from ecellm_lite.errors import UsageError
from ecellm_lite.serve.guard import LARGEST_HEAD
from ecellm_lite.serve.keys import Keys
from ecellm_lite.serve.limits import Limits
from ecellm_lite.serve.listening import Listening


class PatientProtocol(H11Protocol):
    """uvicorn's protocol, with a time limit for receiving a request's head or the rest of a refused body."""

    head_seconds = Limits().body_seconds
    _due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Start the time limit for the first head."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Start the time limit while a head is incomplete, and stop it once the head is complete."""
        super().data_received(data)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the time limit."""
        self._no_more()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """Start the time limit for the rest of a refused body; the client reads the response only after sending it."""
        super().on_response_complete()
        if self.conn.their_state is h11.SEND_BODY:
            self._wait()

    def _wait(self) -> None:
        refused = self.conn.our_state is h11.DONE and self.conn.their_state is h11.SEND_BODY
        if self.conn.their_state is not h11.IDLE and not refused:
            self._no_more()
        elif self._due is None:
            self._due = self.loop.call_later(self.head_seconds, self.transport.close)

    def _no_more(self) -> None:
        if self._due:
            self._due.cancel()
            self._due = None


def check_private(listening: Listening, keys: Keys) -> None:
    """Raise UsageError if other machines can reach the server and it has no API keys."""
    if not listening.private and not keys:
        raise UsageError(
            f"{listening.name} can be reached from other machines, and the server has no API keys",
            step="give a file of keys, or listen on 127.0.0.1",
            settings=("api_keys",),
        )


def server_of(app: FastAPI, limits: Limits) -> uvicorn.Server:
    """Return the uvicorn server of an application."""
    protocol = type("Protocol", (PatientProtocol,), {"head_seconds": limits.body_seconds})
    return uvicorn.Server(
        uvicorn.Config(
            app,
            http=protocol,
            ws="none",
            lifespan="on",
            access_log=False,
            log_level="error",
            proxy_headers=False,
            server_header=False,
            limit_concurrency=limits.connections,
            timeout_keep_alive=round(limits.idle_seconds),
            timeout_graceful_shutdown=round(limits.drain_seconds),
            h11_max_incomplete_event_size=LARGEST_HEAD,
        )
    )


def run(app: FastAPI, listening: Listening, limits: Limits) -> None:
    """Serve until SIGTERM or an interrupt; open requests are then still answered, for at most `drain_seconds`."""
    server = server_of(app, limits)
    try:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, lambda *_: None)  # uvicorn raises the signal again after its shutdown
        server.run(sockets=[listening.socket])
    finally:
        listening.close()
