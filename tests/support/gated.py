"""A fake engine that computes only while its gate is open."""

from __future__ import annotations

import threading
from typing import Any

from ecellm_lite.engine.fake import FakeBackend

PATIENCE = 60  # seconds after which a test that hangs fails


class Gated(FakeBackend):
    """A fake engine that waits in each call until its gate is open, and counts the calls."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.gate = threading.Event()
        self.calls = 0

    def decode(self, chunks: Any) -> Any:
        assert self.gate.wait(PATIENCE)
        self.calls += 1
        return super().decode(chunks)
