"""A fake engine that waits until a test lets it compute."""

from __future__ import annotations

import threading
from typing import Any

from ecellm_lite.engine.fake import FakeBackend

PATIENCE = 60  # seconds after which a test that hangs fails


class Gated(FakeBackend):
    """A fake engine that counts its calls. Each call waits until the event `gate` is set."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.gate = threading.Event()
        self.calls = 0

    def decode(self, chunks: Any) -> Any:
        assert self.gate.wait(PATIENCE)
        self.calls += 1
        return super().decode(chunks)
