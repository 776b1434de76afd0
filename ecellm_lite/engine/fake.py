"""A deterministic engine without weights, for testing everything above the engine.

A test sets the engine's logits. Tokens are bytes and a few short strings, so every text can be tokenized and every
token can be read. The engine raises an error where llama.cpp would compute nonsense: for a gap in a sequence, a fork of
missing tokens, a full memory, or a sequence that is computed with two adapters. Otherwise it behaves like the real
engine.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ecellm_lite.answers.decoding import Logits, Vocabulary
from ecellm_lite.engine.interface import Chunk
from ecellm_lite.envelopes import ENVELOPES
from ecellm_lite.errors import EcellmError

END, BEGIN = 256, 257

# The control tokens of all chat forms.
_CONTROL_TEXTS = tuple(sorted({token.text for envelope in ENVELOPES.values() for token in envelope.control_tokens}))

# Strings that are one token. As in a real vocabulary, a space belongs to the word after it.
_STRINGS = (b' "', b' {"', b'",', b'":', b'"}', b"the", b" co")
_PIECES = (
    *(bytes([byte]) for byte in range(256)),
    b"<end>",
    b"<begin>",
    *_STRINGS,
    *(text.encode() for text in _CONTROL_TEXTS),
)
_IDS = {piece: token for token, piece in enumerate(_PIECES) if token not in (END, BEGIN)}
_CONTROL_IDS = (END, BEGIN, *range(len(_PIECES) - len(_CONTROL_TEXTS), len(_PIECES)))
_NEXT = re.compile(b"|".join([*map(re.escape, sorted(_STRINGS, key=len, reverse=True)), b"."]), re.DOTALL)

# Maps the tokens of a sequence to the logits after them, (vocabulary.size,) float32.
LogitsOf = Callable[[Sequence[int]], Logits]


class FakeVocabulary:
    """A vocabulary with a token for each byte, for each of a few short strings, and for EOS and BOS.

    It also has the control tokens of chat forms.
    """

    identity = ""
    size = len(_PIECES)
    end = END
    ends = frozenset({END})
    control = np.array(_CONTROL_IDS, dtype=np.int32)

    def tokenize(self, text: str, *, begin: bool = False) -> list[int]:
        """Return the tokens of the text's UTF-8 bytes, longest match first. With `begin`, they start with a BOS."""
        return [BEGIN] * begin + _ids(text.encode("utf-8", "replace"))

    def special_token_id(self, text: str) -> int | None:
        """Return the id of the chat forms' special token `text`, or None if there is no such token."""
        return _IDS[text.encode()] if text in _CONTROL_TEXTS else None

    def detokenize(self, tokens: Sequence[int]) -> bytes:
        """Return the bytes of the tokens."""
        return b"".join(_PIECES[token] for token in tokens if token not in _CONTROL_IDS)

    def grammar_tokenizer(self) -> Any:
        """Return this vocabulary in the form that llguidance needs."""
        from llguidance import LLTokenizer, TokenizerWrapper

        return LLTokenizer(TokenizerWrapper(_ByteTokenizer()))


class _ByteTokenizer:
    eos_token_id = END
    bos_token_id = BEGIN
    tokens = _PIECES
    special_token_ids = _CONTROL_IDS

    def __call__(self, text: str | bytes) -> list[int]:
        return _ids(text.encode() if isinstance(text, str) else text)


def _ids(data: bytes) -> list[int]:
    return [_IDS[piece] for piece in _NEXT.findall(data)]


def scattered(tokens: Sequence[int]) -> Logits:
    """Return normally distributed pseudo-random logits that depend only on the tokens."""
    seed = zlib.crc32(np.asarray(tokens, dtype=np.int32).tobytes())
    return np.random.default_rng(seed).normal(size=FakeVocabulary.size).astype(np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class _Cell:
    """A token in memory, and the adapter that it was computed with. A sequence and its forks share the same cells."""

    token: int
    adapter: str | None


class FakeBackend:
    """A fake backend whose memory is a list of cells for each sequence.

    `logits`: the function that computes a sequence's logits.
    `adapters`: the functions that compute logits with an adapter, by the adapter's name.
    `adapted`: the adapter in use.
    `decoded`: how many tokens were read so far.
    """

    def __init__(
        self,
        logits: LogitsOf = scattered,
        *,
        cells: int = 4096,
        max_cells: int | None = None,
        sequences: int = 16,
        batch: int = 512,
        adapters: Mapping[str, LogitsOf] | None = None,
        stable: bool = False,
    ) -> None:
        self.vocabulary: Vocabulary = FakeVocabulary()
        self.cells = cells
        self.max_cells = self.max_length = max_cells or cells
        self.sequences = sequences
        self.batch = batch
        self.stable = stable
        self.unstable = "" if stable else "the fake engine was made so"
        self.decoded = 0
        self._closed = False
        self._logits: dict[str | None, LogitsOf] = {None: logits}
        self._logits.update(adapters or {})
        self.adapters: Sequence[str] = tuple(adapters or ())
        self.adapted: str | None = None
        self._memory: list[list[_Cell]] = [[] for _ in range(sequences)]

    def adapt(self, adapter: str | None) -> None:
        """From now on, compute logits with this adapter's function, or without an adapter if it is None.

        Raises EcellmError for an unknown adapter.
        """
        if adapter not in self._logits:
            raise EcellmError(f"The fake engine has no adapter {adapter!r}.")
        self.adapted = adapter

    def decode(self, chunks: Sequence[Chunk]) -> list[Logits]:
        """Append the chunks' tokens to the memory, and return the logits that the test has set; see Backend."""
        if self._closed:
            raise EcellmError("The fake engine was used after it was closed.")
        if sum(len(chunk.tokens) for chunk in chunks) > self.batch:
            raise EcellmError("The fake engine got more tokens than fit a batch.")
        for chunk in chunks:
            sequence = self._memory[chunk.sequence]
            if len(sequence) != chunk.position or not chunk.tokens:
                raise EcellmError(f"The fake engine got a gap: {chunk} after {len(sequence)} tokens.")
            if any(cell.adapter != self.adapted for cell in sequence):
                raise EcellmError(f"The fake engine got tokens for {self.adapted!r} after those of another adapter.")
            sequence.extend(_Cell(token, self.adapted) for token in chunk.tokens)
            self.decoded += len(chunk.tokens)
        if self.used > self.cells:
            raise EcellmError(f"The fake engine's memory of {self.cells} tokens is full.")
        return [self._after(chunk) for chunk in chunks if chunk.ask]

    def _after(self, chunk: Chunk) -> Logits:
        if not 0 < chunk.ask <= len(chunk.tokens):
            raise EcellmError(f"The fake engine was asked for logits that {chunk} does not have.")
        tokens = self.tokens(chunk.sequence)
        logits = self._logits[self.adapted]
        rows = [logits(tokens[: len(tokens) - back]) for back in reversed(range(chunk.ask))]
        return rows[0] if chunk.ask == 1 else np.stack(rows)

    @property
    def used(self) -> int:
        """How many cells hold a token."""
        return len({id(cell) for sequence in self._memory for cell in sequence})

    def tokens(self, sequence: int) -> list[int]:
        """Return the tokens of a sequence."""
        return [cell.token for cell in self._memory[sequence]]

    def fork(self, source: int, target: int, length: int) -> None:
        """Share the first `length` cells of a sequence with an empty sequence."""
        if self._memory[target] or len(self._memory[source]) < length:
            raise EcellmError(f"The fake engine cannot fork {length} tokens of {source} to {target}.")
        self._memory[target] = self._memory[source][:length]

    def truncate(self, sequence: int, length: int) -> None:
        """Forget all but the first `length` tokens of a sequence."""
        del self._memory[sequence][length:]

    def clear(self) -> None:
        """Forget every sequence."""
        self._memory = [[] for _ in range(self.sequences)]

    def grow(self, cells: int) -> None:
        """Enlarge the memory to `cells` cells, and empty it."""
        if not self.cells <= cells <= self.max_cells:
            raise EcellmError(f"The fake engine cannot grow from {self.cells} cells to {cells}.")
        self.cells = cells
        self.clear()

    def save(self, sequence: int) -> bytes:
        """Return a sequence's tokens as bytes.

        If the sequence was computed with an adapter, a negative number for this adapter comes first.
        """
        cells = self._memory[sequence]
        adapter = cells[0].adapter if cells else None
        number = [] if adapter is None else [-1 - self.adapters.index(adapter)]
        return np.array([*number, *self.tokens(sequence)], dtype=np.int32).tobytes()

    def load(self, sequence: int, state: bytes) -> bool:
        """Put saved tokens into a sequence. Return False if the sequence is not empty or the tokens do not fit."""
        if self._memory[sequence] or len(state) % 4 or self.used + len(state) // 4 > self.cells:
            return False
        values = np.frombuffer(state, dtype=np.int32).tolist()
        adapter = self.adapters[-1 - values.pop(0)] if values and values[0] < 0 else None
        self._memory[sequence] = [_Cell(token, adapter) for token in values]
        return True

    def close(self) -> None:
        """Make every later `decode` raise an error, so that a test notices the use of a freed model."""
        self._closed = True
