"""A peer is a program that a benchmark compares with others. All peers answer the same rows, and are timed."""

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
    """A task's rows. The peer first answers the rows in `warm`, which leaves the instruction in its memory."""

    warm: list[PreparedRow]
    measured: list[PreparedRow]


@dataclass(frozen=True, slots=True)
class Pass:
    """The measurements of one pass over a task's rows.

    `failures` is the number of rows without an answer. `answer_tokens` is the number of tokens written for the rows
    that have an answer. `computed` is the number of tokens that the model computed, or None if the peer does not report
    it.
    """

    seconds: float
    failures: int
    answer_tokens: int
    computed: int | None = None


class Peer(Protocol):
    """A loaded model that answers rows.

    A peer is loaded again for each repeat, so that it cannot remember rows.
    """

    def run(self, task: str, rows: Sequence[PreparedRow]) -> Pass:
        """Answer the rows of a task, and return the measurements."""

    def cpu_seconds(self) -> float | None:
        """Return the seconds of processor time that the peer's process has used, or None if unknown."""

    def close(self) -> None:
        """Free the model."""
