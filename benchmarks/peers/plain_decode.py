"""The roofline: how many tokens per second plain `llama_decode` reads.

Each call of `llama_decode` reads 512 tokens, as in the test pp512 of llama.cpp's own benchmark, llama-bench.
"""

from __future__ import annotations

import ctypes
import os
import time
from pathlib import Path

import click
import llama_cpp.llama_cpp as llama
import numpy as np

from ecellm_lite.ggml import start_library
from ecellm_lite.kernels.prompt import State, use

TOKENS = 512
# Our own peer may have left the prompt kernels on for this thread.
STOCK = State("", "a peer reads prompts as llama.cpp does")


class PlainDecode:
    """A context of llama.cpp for 512 tokens, with default settings. Its KV memory is emptied before each batch."""

    def __init__(self, model: Path, threads: int) -> None:
        start_library()
        self._model = llama.llama_model_load_from_file(os.fsencode(model), llama.llama_model_default_params())
        if not self._model:
            raise click.ClickException(f"llama.cpp cannot load {model}.")
        parameters = llama.llama_context_default_params()
        parameters.n_ctx = parameters.n_batch = parameters.n_ubatch = TOKENS
        parameters.n_threads = parameters.n_threads_batch = threads
        self._context = llama.llama_init_from_model(self._model, parameters)
        size = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(self._model))
        drawn = np.random.default_rng(0).integers(0, size, TOKENS)
        self._tokens = (llama.llama_token * TOKENS)(*drawn.tolist())
        self.rate(1)

    def rate(self, batches: int) -> float:
        """Read `batches` batches of 512 tokens, and return the tokens per second.

        The logits of each batch's last token are computed too.
        """
        use(STOCK)
        started = time.perf_counter()
        for _ in range(batches):
            llama.llama_memory_clear(llama.llama_get_memory(self._context), False)
            batch = llama.llama_batch_get_one(self._tokens, ctypes.c_int32(TOKENS))
            if llama.llama_decode(self._context, batch):
                raise click.ClickException("llama.cpp failed to compute a batch.")
            llama.llama_synchronize(self._context)
        return TOKENS * batches / (time.perf_counter() - started)

    def close(self) -> None:
        """Free the model."""
        llama.llama_free(self._context)
        llama.llama_model_free(self._model)
