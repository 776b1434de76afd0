"""Reads prompts with ik_llama.cpp, a fork of llama.cpp.

    PYTHON benchmarks/peers/ik_llama.py MODEL THREADS BATCH

The fork's wheel from PyPI must be installed in the environment of PYTHON. Each line of standard input is a prompt: a
JSON list of token ids. For each prompt, one line is written: the seconds that reading the prompt took. With one thread,
only processor time is counted. The weights are rearranged for speed when they are loaded (the fork's option -rtr).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any


class IkLlama:
    """A child process that reads prompts with ik_llama.cpp."""

    def __init__(self, python: Path, model: Path, threads: int, batch: int) -> None:
        command = [str(python), __file__, str(model), str(threads), str(batch)]
        pipe = subprocess.PIPE
        self._child = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True)

    def seconds(self, tokens: Sequence[int]) -> float:
        """Return how many seconds the child process takes to read a prompt."""
        assert self._child.stdin
        assert self._child.stdout
        self._child.stdin.write(json.dumps(list(tokens)) + "\n")
        self._child.stdin.flush()
        return float(self._child.stdout.readline())

    def close(self) -> None:
        """End the process."""
        self._child.communicate()


def main() -> None:
    """Read prompts from standard input until it ends. Write the seconds that each prompt took."""
    # The library's own messages go to standard error, so that standard output has only the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    import ik_llama_cpp._ctypes_api as api  # type: ignore[import-not-found]

    path, threads, batch = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    api.llama_backend_init()
    of_model = api.llama_model_default_params()
    of_model.repack_tensors, of_model.use_mmap = True, False
    model = api.llama_model_load_from_file(path.encode(), of_model)
    settings = api.llama_context_default_params()
    settings.n_ctx, settings.n_batch, settings.n_ubatch = 1024, batch, batch
    settings.n_threads = settings.n_threads_batch = threads
    settings.flash_attn = True
    context = api.llama_init_from_model(model, settings)
    space = api.llama_batch_init(batch, 0, 1)
    clock = time.process_time if threads == 1 else time.perf_counter
    for line in sys.stdin:
        _fill(space, json.loads(line))
        api.llama_kv_cache_clear(context)
        started = clock()
        if api.llama_decode(context, space):
            raise SystemExit("ik_llama.cpp failed to read a prompt")
        answers.write(f"{clock() - started}\n")
        answers.flush()


def _fill(space: Any, tokens: Sequence[int]) -> None:
    space.n_tokens = len(tokens)
    for place, token in enumerate(tokens):
        space.token[place], space.pos[place] = token, place
        space.n_seq_id[place], space.seq_id[place][0] = 1, 0
        space.logits[place] = int(place == len(tokens) - 1)


if __name__ == "__main__":
    main()
