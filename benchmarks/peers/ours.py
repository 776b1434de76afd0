"""ecellm-lite's own runtime, in fast mode, with the settings that a job uses."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.peers.peer import Pass, PreparedRow
from ecellm_lite import Runtime
from ecellm_lite.engine.settings import Settings


class Ours:
    """A peer that is a Runtime with default settings.

    Stored tunings of this machine are not used, because the other peers have none.
    """

    def __init__(self, model: Path, envelope: str, threads: int, context: int | None) -> None:
        untuned = Settings()
        self._runtime = Runtime(
            model,
            envelope=envelope,
            threads=threads,
            context=context,
            kv_type=untuned.kv_type,
            micro_batch=untuned.micro_batch,
            flash_attention=untuned.flash_attention,
        )

    def run(self, task: str, rows: Sequence[PreparedRow]) -> Pass:
        """Answer the rows as one job, and return the measurements."""
        started = time.perf_counter()
        answers = list(self._runtime.answers(task, [one.row for one in rows]))
        seconds = time.perf_counter() - started
        usages = [answer.usage for answer in answers if answer.usage and not answer.error]
        computed = sum(u.prompt_tokens - (u.cached_tokens or 0) + u.decoded_tokens + u.forced_tokens for u in usages)
        written = sum(u.decoded_tokens + u.forced_tokens for u in usages)
        return Pass(seconds, len(rows) - len(usages), written, computed)

    def cpu_seconds(self) -> float:
        """Return this process's processor time. The other peers sleep while this one runs."""
        return time.process_time()

    def close(self) -> None:
        """Free the model."""
        self._runtime.close()
