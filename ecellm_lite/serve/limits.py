"""Limits: how large requests may be, how many may wait, and how long connections stay open."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits that are the same for all clients. A request that exceeds a limit is refused.

    `body_bytes`: the maximum size of a request's body, decompressed.
    `rows`: the maximum number of rows in a request.
    `waiting`: how many rows and questions may wait for an answer, counted over all requests.
    `connections`: how many connections may be open at a time.
    `body_seconds`: how long a client may take to send a request's head, and then to send its body (20 times as long for
      a file upload). While the server responds, a client that reads nothing for this long is disconnected.
    `idle_seconds`: how long an unused connection stays open.
    `drain_seconds`: how long open requests may continue after the server is told to stop.
    """

    body_bytes: int = 4 << 20
    rows: int = 1000
    waiting: int = 4000
    connections: int = 512
    body_seconds: float = 30.0
    idle_seconds: float = 60.0
    drain_seconds: float = 30.0
