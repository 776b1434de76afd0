"""The interface of a peer: it answers the same rows and is timed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class PreparedRow:
    """A row, its exact prompt, and the grammar of its answers (None for free text)."""

    row: dict[str, Any]
    prompt: str
    grammar: str | None


@dataclass(frozen=True, slots=True)
class Rows:
    """A task's rows: those that warm a peer up, so that it has the instruction in memory, and the measured ones."""

    warm: list[PreparedRow]
    measured: list[PreparedRow]


@dataclass(frozen=True, slots=True)
class Pass:
    """One pass over a task's rows.

    `failures`: the rows without an answer. `answer_tokens`: the tokens written for the others. `computed`: the tokens
    that the model computed, if the peer reports them.
    """

    seconds: float
    failures: int
    answer_tokens: int
    computed: int | None = None


class Peer(Protocol):
    """A loaded model that answers; it is loaded again for each repeat, so that it cannot remember rows."""

    def run(self, task: str, rows: Sequence[PreparedRow]) -> Pass:
        """Answer the rows of a task and return what it took."""

    def cpu_seconds(self) -> float | None:
        """Return the processor time that the peer's process has used; None if the platform does not report it."""

    def close(self) -> None:
        """Free the model."""
