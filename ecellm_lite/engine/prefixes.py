"""Prefixes that stay in the KV memory.

If a row's prompt begins with such a prefix, the model does not compute the prefix's tokens again.

The prefixes form a tree. For example, the instruction is a node, and below it are the texts of several products. The
rows that compare a product with its candidates use the product's node.

Each node has its own sequence in llama.cpp, with all tokens from the root to the node's end. The sequences share memory
cells.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from ecellm_lite.engine.interface import Backend, Chunk

# A shared prefix beyond the instruction is not worth a sequence of its own if it saves fewer tokens than this.
LEAST_SAVING = 32


@dataclass(frozen=True, slots=True)
class Match:
    """The prefix that shares the most tokens with a prompt's start. `length` is the number of these tokens.

    If no prefix shares a token with the prompt, `prefix` is None and `length` is 0.
    """

    prefix: Prefix | None = None
    length: int = 0

    @property
    def ready(self) -> bool:
        """Whether the shared tokens are in memory, so that a sequence can be forked from them."""
        return self.prefix is None or self.prefix.filled >= self.length


@dataclass(slots=True, eq=False)
class Prefix:
    """A node of the prefix tree: a prefix that rows and other nodes fork from.

    `tokens`: all tokens of the prefix. The first `filled` of them are in memory.
    `origin`: the node that this node forks from, and how many tokens the two share.
    `begun`: whether this node's sequence exists already.
    `uses`: for each row or node that forks from this node, how many tokens the two share.
    `instruction`: whether the node is an instruction whose state may be saved in a file.
    `saved`: whether this state was saved, or loaded from a file.
    `adapter`: the adapter that computes the node. Only rows with this adapter may fork from it.
    """

    tokens: Sequence[int]
    sequence: int
    origin: Match
    instruction: bool
    adapter: str | None = None
    filled: int = 0
    begun: bool = False
    uses: list[int] = field(default_factory=list)
    saved: bool = False

    @property
    def ready(self) -> bool:
        """Whether all tokens of this prefix are in memory."""
        return self.filled == len(self.tokens)

    @property
    def own(self) -> int:
        """How many tokens this prefix adds to the memory: those that it does not share with its origin.

        The origin is the prefix that this prefix forks from. Tokens that are not in memory yet count too.
        """
        return len(self.tokens) - self.origin.length


class Prefixes:
    """The prefixes in the KV memory. When the memory is full, the least recently used prefix is dropped."""

    def __init__(self, backend: Backend, sequences: Sequence[int]) -> None:
        self._backend = backend
        self._sequences = list(sequences)
        self._free = list(sequences)
        self._nodes: list[Prefix] = []  # least recently used first

    @property
    def cells(self) -> int:
        """The memory that the nodes take, in tokens."""
        return sum(node.own for node in self._nodes)

    def find(self, prompt: Sequence[int], adapter: str | None = None) -> Match:
        """Return the longest match with a prompt among the prefixes of an adapter.

        The match never includes the prompt's last token. The model must read this token, because the answer needs the
        logits after it.
        """
        best = Match()
        for node in self._nodes:
            if node.adapter == adapter and len(node.tokens) > best.length:
                shared = min(common_length(node.tokens, prompt), len(prompt) - 1)
                # Tokens shared with a node's origin are matched there: no node can be cut shorter than its origin.
                if shared > max(best.length, node.origin.length):
                    best = Match(node, shared)
        return best

    def hold(self, match: Match) -> None:
        """Record one more use of the prefix in `match`. This prefix stays until `release` was called for each use."""
        if node := match.prefix:
            node.uses.append(match.length)
            self._nodes.remove(node)
            self._nodes.append(node)

    def release(self, match: Match) -> None:
        """Undo one call of `hold`: a row, or another node of the tree, no longer uses the node in `match`."""
        if match.prefix:
            match.prefix.uses.remove(match.length)

    def add(
        self, tokens: Sequence[int], origin: Match, *, instruction: bool = False, adapter: str | None = None
    ) -> Match:
        """Add a node below `origin`, and return the match with the new node.

        `tokens` are all tokens of the node, and begin with the tokens of `origin`. The node is still empty: the caller
        fills it by computing the tokens that `chunk` returns.

        If no sequence is free and none can be freed, return `origin`. While the new node exists, its origin is not
        dropped.
        """
        self.hold(origin)
        if not self._free and not self._drop():
            self.release(origin)
            return origin
        node = Prefix(tuple(tokens), self._free.pop(), origin, instruction, adapter)
        self._nodes.append(node)
        return Match(node, len(node.tokens))

    def unfilled(self, adapter: str | None = None) -> Iterator[Prefix]:
        """Yield an adapter's prefixes that still have tokens to compute, the least recently used first.

        If a prefix forks from another one, it is left out until the tokens that the two share are in memory.
        """
        for node in self._nodes:
            if node.adapter != adapter:
                continue
            if not node.begun and node.origin.ready:
                if node.origin.prefix:
                    self._backend.fork(node.origin.prefix.sequence, node.sequence, node.origin.length)
                node.begun, node.filled = True, node.origin.length
            if node.begun and not node.ready:
                yield node

    def chunk(self, node: Prefix, most: int) -> Chunk:
        """Return the next `most` tokens of a node of the tree, or fewer if fewer are left.

        The caller must include these tokens in the next call of the model, because `node.filled` already counts them.
        """
        start, node.filled = node.filled, min(node.filled + most, len(node.tokens))
        return Chunk(node.sequence, start, node.tokens[start : node.filled], ask=0)

    def unsaved(self) -> Iterator[Prefix]:
        """Yield the instructions whose state is complete in memory but not saved yet.

        The caller must save these states, because each instruction is yielded only once.
        """
        for node in self._nodes:
            if node.instruction and node.ready and not node.saved:
                node.saved = True
                yield node

    def load(self, node: Prefix, state: bytes) -> bool:
        """Load the saved state of the prefix `node` into memory. Return False if the state cannot be loaded."""
        if not self._backend.load(node.sequence, state):
            return False
        self.release(node.origin)
        node.origin, node.begun, node.filled, node.saved = Match(), True, len(node.tokens), True
        return True

    def evict(self) -> bool:
        """Drop the least recently used node that no row and no other node forks from.

        If there is no such node, shorten one: cut off the tokens at its end that no row and no other node uses. Return
        False if this is not possible either.
        """
        if self._drop():
            return True
        for node in self._nodes:
            if node.ready and (shared := max(node.uses)) < len(node.tokens):
                self._backend.truncate(node.sequence, shared)
                node.tokens, node.filled, node.instruction = node.tokens[:shared], shared, False
                return True
        return False

    def _drop(self) -> bool:
        for node in self._nodes:
            if not node.uses:
                self._backend.truncate(node.sequence, 0)
                self._free.append(node.sequence)
                self._nodes.remove(node)
                self.release(node.origin)
                return True
        return False

    def forget(self) -> None:
        """Forget all prefixes. Call this after the model's memory was cleared."""
        self._nodes.clear()
        self._free = list(self._sequences)


def common_length(one: Sequence[int], other: Sequence[int]) -> int:
    """Return the length of the common prefix of two token sequences."""
    most = min(len(one), len(other))
    place, step = 0, 32
    # Most prompts of a job share a whole instruction: compare slices first, then token by token.
    while place + step <= most and tuple(one[place : place + step]) == tuple(other[place : place + step]):
        place += step
    while place < most and one[place] == other[place]:
        place += 1
    return place
