"""Runs the application until SIGTERM.

Clients that send too slowly, or that read nothing of a response, are disconnected.
"""

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
    """uvicorn's HTTP protocol, with time limits for sending a request and for reading a response.

    The limit for sending covers the head of each request. If the server refuses a request's body, the limit also covers
    the rest of this body.

    A client that closes only its sending side is treated as gone. The server cannot tell this from a closed connection.
    """

    seconds = Limits().body_seconds
    _due: asyncio.TimerHandle | None = None
    _stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Start the time limit for the head of the first request."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Start the time limit while a request's head is incomplete, and stop it once the head is complete."""
        super().data_received(data)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop all time limits of the connection."""
        self._no_more()
        self._resumed()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """If a request was refused before all of its body was read, start the time limit for receiving the body.

        Many clients read the response only after they have sent the whole body.
        """
        super().on_response_complete()
        if self.conn.their_state is h11.SEND_BODY:
            self._wait()

    def pause_writing(self) -> None:
        """Start the time limit within which the client must read more of the response."""
        super().pause_writing()
        self._resumed()
        self._watch(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        """Stop the time limit that `pause_writing` started."""
        self._resumed()
        super().resume_writing()

    def _watch(self, unread: int) -> None:
        self._stalled = self.loop.call_later(self.seconds, self._check, unread)

    def _check(self, before: int) -> None:
        unread = self.transport.get_write_buffer_size()
        if unread < before:
            self._watch(unread)
        else:
            self.transport.abort()

    def _resumed(self) -> None:
        if self._stalled:
            self._stalled.cancel()
            self._stalled = None

    def _wait(self) -> None:
        refused = self.conn.our_state is h11.DONE and self.conn.their_state is h11.SEND_BODY
        if self.conn.their_state is not h11.IDLE and not refused:
            self._no_more()
        elif self._due is None:
            self._due = self.loop.call_later(self.seconds, self.transport.close)

    def _no_more(self) -> None:
        if self._due:
            self._due.cancel()
            self._due = None


def check_private(listening: Listening, keys: Keys) -> None:
    """Raise UsageError if the server has no API keys, although other machines can reach it."""
    if not listening.private and not keys:
        raise UsageError(
            f"{listening.name} can be reached from other machines, and the server has no API keys",
            step="give a file of keys, or listen on 127.0.0.1",
            settings=("api_keys",),
        )


def server_of(app: FastAPI, limits: Limits) -> uvicorn.Server:
    """Return the uvicorn server of an application."""
    protocol = type("Protocol", (PatientProtocol,), {"seconds": limits.body_seconds})
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
    """Serve until SIGTERM or an interrupt. Then answer the open requests, for at most `drain_seconds`."""
    server = server_of(app, limits)
    try:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, lambda *_: None)  # uvicorn raises the signal again after its shutdown
        server.run(sockets=[listening.socket])
    finally:
        listening.close()
