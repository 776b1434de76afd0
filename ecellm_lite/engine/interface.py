"""The seam under the scheduler: what it needs of whatever computes logits, llama.cpp or the fake."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ecellm_lite.answers.decoding import Logits, Vocabulary


@dataclass(frozen=True, slots=True)
class Chunk:
    """Tokens to put behind the first `position` tokens of a sequence, with or without the logits after the last."""

    sequence: int
    position: int
    tokens: Sequence[int]
    logits: bool


class Backend(Protocol):
    """A model with a memory of token sequences.

    `cells` tokens fit the memory over all sequences (a forked prefix counts once), `longest` one sequence;
    sequences are numbered from 0 to `sequences` - 1; one call of `decode` takes at most `batch` tokens.
    """

    vocabulary: Vocabulary
    cells: int
    longest: int
    sequences: int
    batch: int

    def decode(self, chunks: Sequence[Chunk]) -> list[Logits]:
        """Put the chunks into memory and return the logits (vocabulary.size,) of those that want them, in order.

        The arrays are views that the next call overwrites. Raises EcellmError if the model cannot compute.
        """

    def fork(self, source: int, target: int, length: int) -> None:
        """Let the empty sequence `target` share the first `length` tokens of `source`; costs nothing."""

    def truncate(self, sequence: int, length: int) -> None:
        """Forget all but the first `length` tokens of a sequence."""

    def clear(self) -> None:
        """Forget every sequence."""

    def close(self) -> None:
        """Free the model; nothing may be called afterwards but close itself."""
