"""Model files with a forged header: one metadata key has a forged value.

All keys that llama.cpp reads are tried.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import gguf

from ecellm_lite.convert.blueprint import MetadataValue, TensorRecipe
from ecellm_lite.convert.gguf_bytes import KINDS, aligned, header_bytes
from ecellm_lite.convert.planned_tensor import PlannedTensor
from ecellm_lite.errors import ModelError
from ecellm_lite.models.gguf_header import Header, read_header
from ecellm_lite.models.model_check import check_model
from ecellm_lite.tensor_types import CONVERTED

VALUES: tuple[MetadataValue, ...] = (
    ("UINT32", 0), ("UINT32", 1), ("UINT32", 2), ("UINT32", 3), ("UINT32", 7), ("UINT32", 24), ("UINT32", 100000),
    ("UINT32", 2**31 - 1), ("INT32", -1), ("FLOAT32", 0.0), ("FLOAT32", -1.0), ("FLOAT32", 1e-30), ("FLOAT32", 1e30),
    ("BOOL", True), ("BOOL", False), ("STRING", "x"), ("STRING", "yarn"), ("ARRAY", [0, 1]), ("ARRAY", [1] * 7),
    ("ARRAY", [0.5, 1e30]), ("ARRAY", [True, False]), ("ARRAY", [5] * 600), ("ARRAY", ["a", "b"]),
)  # fmt: skip


def keys_of(architecture: str) -> list[str]:
    """Return the metadata keys in gguf-py's list that begin with the architecture's name."""
    keys: list[str] = []
    groups: list[Any] = [gguf.Keys]
    while groups:
        for name, value in vars(groups.pop()).items():
            if isinstance(value, str) and value.startswith("{arch}.") and value.count("{") == 1:
                keys.append(value.replace("{arch}", architecture))
            elif isinstance(value, type) and not name.startswith("__"):
                groups.append(value)
    return sorted(set(keys))


def forgeries(header: Header, keys: Iterable[str]) -> Iterator[tuple[str, MetadataValue, bytes]]:
    """Yield a key, a forged value for it, and the bytes of a file in which the key has this value.

    Each key is tried with every value of VALUES, except with its true value.
    """
    content = header.path.read_bytes()
    tensors, data, end = [], bytearray(), 0
    for one in header.tensors:
        recipe = TensorRecipe(one.name, one.name, tuple(reversed(one.shape)))
        tensors.append(PlannedTensor(recipe, "F32", CONVERTED[one.type.name], end))
        data += content[one.offset : one.offset + one.size] + bytes(aligned(one.size) - one.size)
        end = len(data)
    metadata = {key: (KINDS[header.kinds[key]], value) for key, value in header.metadata.items()}
    for key in keys:
        for value in VALUES:
            if metadata.get(key) != value:
                yield key, value, header_bytes({**metadata, key: value}, tensors) + bytes(data)


def crashes(path: Path, keys: Iterable[str]) -> list[tuple[str, MetadataValue, int]]:
    """Return each key and forged value that check_model accepts, but that crashes llama.cpp or makes it hang.

    Each forged file is loaded in a separate process, which decodes a few tokens in two sequences. The number after a
    key and its value is the signal that ended the process.
    """
    ended = []
    forged = path.with_name("forged.gguf")
    for key, value, content in forgeries(read_header(path), keys):
        forged.write_bytes(content)
        try:
            check_model(read_header(forged))
        except ModelError:
            continue
        child = os.fork()
        if not child:
            _run(forged)
        status = os.waitpid(child, 0)[1]
        if os.WIFSIGNALED(status):
            ended.append((key, value, os.WTERMSIG(status)))
    return ended


def _run(path: Path) -> None:
    """Load a file, decode a few tokens with it, and end the process."""
    try:
        import llama_cpp.llama_cpp as llama

        signal.alarm(30)  # ends a process that never would
        os.environ["GGML_NO_BACKTRACE"] = "1"  # which takes a debugger and seconds
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        model = llama.llama_model_load_from_file(str(path).encode(), llama.llama_model_default_params())
        parameters = llama.llama_context_default_params()
        parameters.n_ctx, parameters.n_seq_max, parameters.kv_unified = 256, 4, True
        parameters.n_threads = parameters.n_threads_batch = 1
        context = llama.llama_init_from_model(model, parameters) if model else None
        if context:
            tokens = (llama.llama_token * 40)(*range(10, 50))
            llama.llama_decode(context, llama.llama_batch_get_one(tokens, 40))
            memory = llama.llama_get_memory(context)
            llama.llama_memory_seq_cp(memory, 0, 1, 0, 20)
            llama.llama_memory_seq_rm(memory, 0, 30, -1)
            llama.llama_decode(context, llama.llama_batch_get_one(tokens, 8))
            llama.llama_get_logits_ith(context, -1)
    finally:
        os._exit(0)  # nothing may return into the test's process
