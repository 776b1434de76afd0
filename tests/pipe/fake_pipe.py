"""Runs `ecellm-lite pipe` with the fake engine.

A review that contains `poison` kills the process, and a review that contains `hang` makes the process hang.

The first argument says how the model loads, such as `missing`, `crash`, `slow`, or `isolated` (in a child process).
With `crash FILE`, loading crashes the process only if FILE exists. Before each crash, a line is added to FILE.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ecellm_lite import ModelError, Runtime
from ecellm_lite.answerer import Answerer
from ecellm_lite.engine.fake import FakeBackend, scattered
from ecellm_lite.pipe.child_runtime import ChildRuntime
from ecellm_lite.pipe.serve import serve_standard_streams
from ecellm_lite.pipe.session import Progress


class Poisonable(FakeBackend):
    def __init__(self) -> None:
        super().__init__(scattered, sequences=64, cells=1 << 14)

    def decode(self, chunks: Sequence[Any]) -> list[Any]:
        text = b" ".join(self.vocabulary.detokenize(chunk.tokens) for chunk in chunks)
        if b"poison" in text:
            os.kill(os.getpid(), signal.SIGKILL)
        if b"hang" in text:
            time.sleep(600)
        return super().decode(chunks)


def load() -> tuple[Answerer, Progress | None]:
    how, note = [*sys.argv[1:], "", ""][:2]
    if how == "missing":
        raise ModelError("There is no model there", step="take another")
    if how == "crash" and (not note or Path(note).exists()):
        if note:
            with Path(note).open("a") as file:
                file.write("started\n")
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "slow":
        time.sleep(0.5)
    if how == "isolated":
        return ChildRuntime(command=[sys.executable, "-m", "tests.pipe.fake_pipe"]), None
    if how == "never":
        time.sleep(600)
    if how == "noisy":
        os.write(2, b"a message for people\n" * (1 << 16))
    os.write(1, b"what native code prints")
    runtime = Runtime.over(Poisonable())
    return runtime, runtime.progress


if __name__ == "__main__":
    if sys.argv[1:] == ["foreign"]:
        os.write(1, b'{"type": "ready", "protocol": 2}\n')
        time.sleep(600)
    serve_standard_streams(load)
