"""The seam under the scheduler: what it needs of whatever computes logits, llama.cpp or the fake."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ecellm_lite.answers.decoding import Logits, Vocabulary


@dataclass(frozen=True, slots=True)
class Chunk:
    """Tokens to put behind the first `position` tokens of a sequence; the logits after the last `ask` are wanted."""

    sequence: int
    position: int
    tokens: Sequence[int]
    ask: int


class Backend(Protocol):
    """A model with a memory of token sequences.

    `cells` tokens fit the memory over all sequences (a forked prefix counts once), and `most` after it has grown;
    `longest` tokens fit one sequence of a grown memory. Sequences are numbered from 0 to `sequences` - 1; one call of
    `decode` takes at most `batch` tokens.
    """

    vocabulary: Vocabulary
    cells: int
    most: int
    longest: int
    sequences: int
    batch: int

    def decode(self, chunks: Sequence[Chunk]) -> list[Logits]:
        """Put the chunks into memory and return the logits of those that ask for any, in order.

        They are (vocabulary.size,) where one row of them was asked for, else (ask, vocabulary.size), and may be views
        that the next call overwrites. Raises EcellmError if the model cannot compute.
        """

    def fork(self, source: int, target: int, length: int) -> None:
        """Let the empty sequence `target` share the first `length` tokens of `source`; costs nothing."""

    def truncate(self, sequence: int, length: int) -> None:
        """Forget all but the first `length` tokens of a sequence."""

    def clear(self) -> None:
        """Forget every sequence."""

    def grow(self, cells: int) -> None:
        """Make the memory hold `cells` tokens, at most `most`, or raise ModelError; every sequence is forgotten."""

    def save(self, sequence: int) -> bytes:
        """Return what the memory holds of a sequence, for `load` to put back; empty where that cannot be had."""

    def load(self, sequence: int, state: bytes) -> bool:
        """Put a saved state into an empty sequence; False, and the sequence is empty, where it does not fit."""

    def close(self) -> None:
        """Free the model; nothing may be called afterwards but close itself."""
