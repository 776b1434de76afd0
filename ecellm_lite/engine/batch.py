"""The tokens of one call to llama.cpp, in the layout of llama_batch."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np

from ecellm_lite.binding import llama
from ecellm_lite.engine.interface import Chunk


class Batch:
    """The tokens of one call of the model, in llama.cpp's struct llama_batch. Each call reuses the numpy arrays."""

    def __init__(self, most: int) -> None:
        self._tokens = np.zeros(most, dtype=np.int32)
        self._positions = np.zeros(most, dtype=np.int32)
        self._counts = np.ones(most, dtype=np.int32)
        self._sequences = np.zeros(most, dtype=np.int32)
        self._logits = np.zeros(most, dtype=np.int8)
        addresses = self._sequences.ctypes.data + 4 * np.arange(most, dtype=np.uintp)
        self._addresses = np.ascontiguousarray(addresses, dtype=np.uintp)
        self._batch = llama.llama_batch(
            0,
            self._tokens.ctypes.data_as(ctypes.POINTER(llama.llama_token)),
            None,
            self._positions.ctypes.data_as(ctypes.POINTER(llama.llama_pos)),
            self._counts.ctypes.data_as(ctypes.POINTER(ctypes.c_int32)),
            self._addresses.ctypes.data_as(ctypes.POINTER(ctypes.POINTER(llama.llama_seq_id))),
            self._logits.ctypes.data_as(ctypes.POINTER(ctypes.c_int8)),
        )

    def filled(self, chunks: Sequence[Chunk]) -> Any:
        """Fill the batch with the tokens of these chunks, and return it in llama.cpp's form."""
        start = 0
        for chunk in chunks:
            end = start + len(chunk.tokens)
            self._tokens[start:end] = chunk.tokens
            self._positions[start:end] = np.arange(chunk.position, chunk.position + len(chunk.tokens))
            self._sequences[start:end] = chunk.sequence
            self._logits[start : end - chunk.ask] = 0
            self._logits[end - chunk.ask : end] = 1
            start = end
        self._batch.n_tokens = start
        return self._batch
