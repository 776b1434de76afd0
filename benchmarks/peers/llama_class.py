"""llama-cpp-python's `Llama` class, used as its documentation shows: one completion after the other.

The class keeps the last prompt's tokens in memory. If the next prompt begins with the same tokens, they are not read
again. So the instruction is read only once, as in our Runtime. Apart from the threads and the context, the class has
its default settings. For example, flash attention is off.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from llama_cpp import Llama, LlamaGrammar

from benchmarks.peers.peer import Pass, PreparedRow
from benchmarks.peers.plain_decode import STOCK
from ecellm_lite.kernels.prompt import use

MAX_TOKENS = 100
CONTEXT = 4096


class LlamaClass:
    """A peer that answers with llama-cpp-python's `Llama`.

    llama.cpp ends the process if it cannot read a grammar. Tests make sure that it can read the grammars of
    grammar.py.
    """

    def __init__(self, model: Path, threads: int, context: int | None) -> None:
        self._llama = new_llama(model, threads, context)

    def run(self, task: str, rows: Sequence[PreparedRow]) -> Pass:
        """Answer the rows one by one, and return the measurements."""
        use(STOCK)
        failures = written = 0
        started = time.perf_counter()
        for one in rows:
            grammar = LlamaGrammar.from_string(one.grammar, verbose=False) if one.grammar else None
            try:
                completion = self._llama.create_completion(
                    one.prompt, max_tokens=MAX_TOKENS, temperature=0.0, grammar=grammar
                )
                written += completion["usage"]["completion_tokens"]
            except (ValueError, RuntimeError):
                failures += 1
        return Pass(time.perf_counter() - started, failures, written)

    def cpu_seconds(self) -> float:
        """Return the processor time of this process."""
        return time.process_time()

    def close(self) -> None:
        """Free the model."""
        self._llama.close()


def new_llama(model: Path, threads: int, context: int | None = None) -> Llama:
    """Return a `Llama` with its default settings, apart from the threads and the context."""
    return Llama(
        model_path=str(model),
        n_ctx=context or CONTEXT,
        n_batch=512,
        n_threads=threads,
        n_threads_batch=threads,
        n_gpu_layers=-1,
        verbose=False,
    )
