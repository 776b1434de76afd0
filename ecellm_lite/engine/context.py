"""A context of llama.cpp: the memory of token sequences, and the calls that read and write it."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np

from ecellm_lite.answers.decoding import Logits
from ecellm_lite.binding import llama
from ecellm_lite.engine.interface import Chunk

_KV_TYPES = {"f16": llama.GGML_TYPE_F16, "q8_0": llama.GGML_TYPE_Q8_0, "f32": llama.GGML_TYPE_F32}
_FLASH_ATTENTION = {
    "auto": llama.LLAMA_FLASH_ATTN_TYPE_AUTO,
    "on": llama.LLAMA_FLASH_ATTN_TYPE_ENABLED,
    "off": llama.LLAMA_FLASH_ATTN_TYPE_DISABLED,
}


def context_parameters(
    cells: int, *, batch: int, sequences: int, window: int, threads: int, kv_type: str, flash: str
) -> Any:
    """Return llama.cpp's parameters for a new context.

    `cells`: how many tokens the KV memory can hold.
    `batch`: the maximum number of tokens in one call of the model.
    `sequences`: how many sequences the caller needs. With a sliding window, the context is made for twice as many.
    `window`: the model's sliding window in tokens, or 0 if it has none.
    `kv_type`: the number type of the KV memory: f16, q8_0 or f32.
    `flash`: whether flash attention is used: auto, on or off.
    """
    parameters = llama.llama_context_default_params()
    parameters.n_ctx = cells
    parameters.n_batch = parameters.n_ubatch = batch
    parameters.n_seq_max = sequences * (2 if window else 1)
    parameters.n_threads = parameters.n_threads_batch = threads
    parameters.type_k = parameters.type_v = _KV_TYPES[kv_type]
    parameters.flash_attn_type = _FLASH_ATTENTION[flash]
    # Without it llama_memory_seq_cp copies buffers, and aborts the process on part of a sequence.
    parameters.kv_unified = True
    return parameters


class Context:
    """The memory of llama.cpp's context `pointer`, which must be new and empty.

    `sequences`: how many sequences the context can hold.
    `window`: the model's sliding window in tokens, or 0 if it has none. With a window, `pointer` must be made for twice
      as many sequences.
    `stable`: whether each sequence's tokens must be in order in the memory. Only then do equal rows get bit-identical
      logits.

    `is_loaded`: whether a state was loaded since the last call of the model.
    """

    def __init__(self, pointer: Any, *, sequences: int, window: int, stable: bool) -> None:
        self.pointer = pointer
        self.is_loaded = False
        self._memory = llama.llama_get_memory(pointer)
        self._sequences, self._window, self._stable = sequences, window, stable
        self._is_empty, self._in_order = True, True

    def decode(self, batch: Any, chunks: Sequence[Chunk]) -> int:
        """Compute a batch, which appends its tokens to the memory. Return llama.cpp's status: 0 for success.

        `chunks` have the same tokens as `batch`.
        """
        status: int = llama.llama_decode(self.pointer, batch)
        self._is_empty = self.is_loaded = False
        if self._window and not status:
            for chunk in chunks:
                self._shadow(chunk.sequence, chunk.position)
        return status

    def logits(self, place: int, size: int) -> Logits:
        """Return the logits after the token at index `place` of the last batch. The next `decode` overwrites them.

        `size` is the number of logits, which is the size of the vocabulary.
        """
        return np.ctypeslib.as_array(llama.llama_get_logits_ith(self.pointer, place), (size,))

    def fork(self, source: int, target: int, length: int) -> None:
        """Let the sequence `target` share the first `length` tokens of `source`.

        Nothing is copied, because a cell of llama.cpp's unified memory can belong to several sequences.
        """
        llama.llama_memory_seq_cp(self._memory, source, target, 0, length)
        if self._window:
            self._shadow(target, 0)

    def _shadow(self, sequence: int, start: int) -> None:
        """Let a spare sequence share a sequence's cells from `start` on, so that llama.cpp does not overwrite them.

        With sliding-window attention, llama.cpp overwrites a cell outside the window if only one sequence uses it. But
        the cell is needed again when the sequence is truncated or forked.
        """
        llama.llama_memory_seq_cp(self._memory, sequence, self._sequences + sequence, start, -1)

    def truncate(self, sequence: int, length: int) -> None:
        """Forget all but the first `length` tokens of a sequence."""
        llama.llama_memory_seq_rm(self._memory, sequence, length, -1)
        self._in_order = False  # llama.cpp uses the free cells again, for tokens of other sequences
        if self._window:
            llama.llama_memory_seq_rm(self._memory, self._sequences + sequence, length, -1)

    def clear(self) -> None:
        """Forget every sequence."""
        llama.llama_memory_clear(self._memory, False)
        self._is_empty, self.is_loaded, self._in_order = True, False, True

    def save(self, sequence: int) -> bytes:
        """Return llama.cpp's state of a sequence, or empty bytes if the state cannot be restored exactly.

        There are two such cases. With sliding-window attention, the state of a sequence longer than the window lacks
        tokens. And a `stable` context needs its tokens in order. If they are out of order in the memory, they are out
        of order in the state too.
        """
        if self._stable and not self._in_order:
            return b""
        if self._window and llama.llama_memory_seq_pos_max(self._memory, sequence) >= self._window:
            return b""
        size = llama.llama_state_seq_get_size_ext(self.pointer, sequence, 0)
        buffer = (ctypes.c_uint8 * size)()
        length = llama.llama_state_seq_get_data_ext(self.pointer, buffer, size, sequence, 0)
        return ctypes.string_at(buffer, length)

    def load(self, sequence: int, state: bytes) -> bool:
        """Restore a state that `save` returned, and return whether this succeeded.

        The state must be undamaged and from this model: llama.cpp does not check this. If the context is `stable`
        (a sequence's tokens must be in order in the memory), the memory must be empty, so that llama.cpp keeps this
        order.
        """
        if self._stable and not self._is_empty:
            return False
        buffer = (ctypes.c_uint8 * len(state)).from_buffer_copy(state)
        read = llama.llama_state_seq_set_data_ext(self.pointer, buffer, len(state), sequence, 0)
        self._is_empty = False
        if state and read == len(state):
            self.is_loaded = True
            if self._window:
                self._shadow(sequence, 0)
            return True
        self.truncate(sequence, 0)
        return False

    def free(self) -> None:
        """Free the context. It must not be used afterwards."""
        llama.llama_free(self.pointer)
