"""The interface through which the scheduler computes logits. LlamaBackend and FakeBackend implement it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ecellm_lite.answers.decoding import Logits, Vocabulary


@dataclass(frozen=True, slots=True)
class Chunk:
    """Tokens to append to a sequence that has `position` tokens. The model returns logits for the last `ask` tokens."""

    sequence: int
    position: int
    tokens: Sequence[int]
    ask: int


class Backend(Protocol):
    """A model with a memory of token sequences.

    `cells`: how many tokens the memory can hold now, over all sequences. A prefix that sequences share counts once.
    `max_cells`: how many tokens the memory can grow to.
    `max_length`: how many tokens one sequence can have, once the memory has grown.
    `sequences`: how many sequences there are. They are numbered from 0.
    `batch`: the maximum number of tokens in one call of `decode`.
    `adapters`: the names of the adapters that it can compute with.
    `stable`: whether the bits of a sequence's logits depend only on its tokens and its adapter. Otherwise they may
      depend on other sequences, and on how the tokens are divided into calls.
    `unstable`: the reason if `stable` is false, otherwise empty.
    """

    vocabulary: Vocabulary
    cells: int
    max_cells: int
    max_length: int
    sequences: int
    batch: int
    adapters: Sequence[str]
    stable: bool
    unstable: str

    def adapt(self, adapter: str | None) -> None:
        """From now on, compute with this adapter (one of `adapters`), or with the model alone (None).

        Tokens already in memory are not computed again. So a sequence must be continued with the adapter that began it.
        """

    def decode(self, chunks: Sequence[Chunk]) -> list[Logits]:
        """Append the chunks' tokens to the memory.

        Return the logits of the chunks that ask for logits, in the chunks' order.

        A chunk's logits have the shape (vocabulary.size,) if the chunk's `ask` is 1, else (ask, vocabulary.size). They
        may be a view that the next call overwrites. Raises EcellmError if the model cannot compute.
        """

    def fork(self, source: int, target: int, length: int) -> None:
        """Let the empty sequence `target` share the first `length` tokens of `source`, without copying."""

    def truncate(self, sequence: int, length: int) -> None:
        """Forget all but the first `length` tokens of a sequence."""

    def clear(self) -> None:
        """Forget every sequence."""

    def grow(self, cells: int) -> None:
        """Grow the memory to `cells` tokens, at most `max_cells`, and empty it. Raises ModelError if it cannot grow."""

    def save(self, sequence: int) -> bytes:
        """Return the state of a sequence, for `load` to restore. If the backend cannot save it, the result is empty."""

    def load(self, sequence: int, state: bytes) -> bool:
        """Restore a saved state into an empty sequence.

        Return False if the state does not fit. The sequence then stays empty.
        """

    def close(self) -> None:
        """Free the model. Afterwards, only `close` may be called."""
