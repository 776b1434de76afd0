"""Prefixes that stay in the model's memory, so that the rows of a task need not read its instruction again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ecellm_lite.engine.interface import Backend, Chunk


@dataclass(slots=True, eq=False)
class Prefix:
    """Tokens that a sequence of the model's memory holds, and how many running rows are forked from it."""

    tokens: tuple[int, ...]
    sequence: int
    users: int = 0


class Prefixes:
    """The resident prefixes, each in a sequence of its own; the one that was not used for longest goes first."""

    def __init__(self, backend: Backend, sequences: Sequence[int]) -> None:
        self._backend = backend
        self._sequences = list(sequences)
        self._free = list(sequences)
        self._resident: dict[tuple[int, ...], Prefix] = {}  # least recently used first

    @property
    def cells(self) -> int:
        """The memory that the prefixes take, in tokens."""
        return sum(len(prefix.tokens) for prefix in self._resident.values())

    def find(self, tokens: Sequence[int]) -> Prefix | None:
        """Return the prefix of exactly these tokens if it is in memory."""
        prefix = self._resident.pop(tuple(tokens), None)
        if prefix is not None:
            self._resident[prefix.tokens] = prefix
        return prefix

    def add(self, tokens: Sequence[int]) -> Prefix | None:
        """Read the tokens into memory and keep them; None if every sequence for prefixes is in use."""
        if not self._free and not self.evict():
            return None
        prefix = Prefix(tuple(tokens), self._free.pop())
        for chunk in _pieces(prefix, self._backend.batch):
            self._backend.decode([chunk])
        self._resident[prefix.tokens] = prefix
        return prefix

    def evict(self, *, keep: Sequence[int] = ()) -> bool:
        """Forget the prefix that was not used for longest, and that no row uses nor `keep` names; False if none."""
        for prefix in self._resident.values():
            if not prefix.users and prefix.tokens != tuple(keep):
                self._backend.truncate(prefix.sequence, 0)
                self._free.append(prefix.sequence)
                del self._resident[prefix.tokens]
                return True
        return False

    def forget(self) -> None:
        """Take note that the memory was cleared."""
        self._resident.clear()
        self._free = list(self._sequences)


def _pieces(prefix: Prefix, most: int) -> Iterator[Chunk]:
    for start in range(0, len(prefix.tokens), most):
        yield Chunk(prefix.sequence, start, prefix.tokens[start : start + most], logits=False)
