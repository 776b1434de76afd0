"""The limits of a request, a connection and the whole server."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits that hold for all clients; a request that exceeds one is refused.

    `body_bytes`: of a decompressed body. `rows`: of one request. `waiting`: rows and questions that wait, of all
    requests together. `connections`: open at a time. `body_seconds`: for receiving a request's head, and as long again
    for its body; also how long a client may read nothing of its response. `idle_seconds`: how long an unused connection
    stays open. `drain_seconds`: how long open requests may go on after the server is told to end.
    """

    body_bytes: int = 4 << 20
    rows: int = 1000
    waiting: int = 4000
    connections: int = 512
    body_seconds: float = 30.0
    idle_seconds: float = 60.0
    drain_seconds: float = 30.0
