"""What a peer is: something that answers the same rows, and is timed while it does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Asked:
    """A row, the exact prompt that it becomes, and the grammar of its answers (None for free text)."""

    row: dict[str, Any]
    prompt: str
    grammar: str | None


@dataclass(frozen=True, slots=True)
class Rows:
    """A task's rows: those that warm a peer up, so that it has the instruction in memory, and those that count."""

    warm: list[Asked]
    measured: list[Asked]


@dataclass(frozen=True, slots=True)
class Pass:
    """One pass over a task's rows.

    `failures` counts the rows without an answer, `answer_tokens` what was written for the others, `computed` the
    tokens that the model was shown, where the peer says so.
    """

    seconds: float
    failures: int
    answer_tokens: int
    computed: int | None = None


class Peer(Protocol):
    """A loaded model that answers; it is loaded anew for each repeat, so that it cannot remember the rows."""

    def run(self, task: str, asked: Sequence[Asked]) -> Pass:
        """Answer the rows of a task, and say how long it took."""

    def cpu_seconds(self) -> float | None:
        """Return the processor's time that the peer's process has used, None where the platform does not say."""

    def close(self) -> None:
        """Free the model."""
