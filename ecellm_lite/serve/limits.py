"""What one request, one client and the whole server may take."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Caps that hold for everyone; a request above one is refused, and costs nothing else.

    `body_bytes` counts a body as it is once decompressed. `rows` are those of one request, `waiting` the rows and
    questions of all requests together that have no answer yet. `body_seconds` is the time for a request's head and
    again for its body, `idle_seconds` that of a connection with nothing to do. `drain_seconds` is what open requests
    have when the server is told to end.
    """

    body_bytes: int = 4 << 20
    rows: int = 1000
    waiting: int = 4000
    connections: int = 512
    body_seconds: float = 30.0
    idle_seconds: float = 60.0
    drain_seconds: float = 30.0
