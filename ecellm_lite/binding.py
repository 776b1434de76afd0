"""Loads llama-cpp-python's binding to llama.cpp so that all libraries of the process share one C++ runtime.

A build of llama.cpp can contain its own copy of that runtime, linked into its GPU library. Another library, such as
numpy, may have loaded the system's copy privately. Then some symbols bind to one copy and some to the other. With a
CUDA build on an H100, the process crashed when llama.cpp compiled the first regular expression of a vocabulary. So the
system's copy is loaded globally first, and all symbols bind to that copy.

This module also keeps llama.cpp's threads from spinning. In GCC's OpenMP, a thread that waits for others spins for
milliseconds before it sleeps. If another program is busy on the same cores, the spinning threads leave too little time
for the threads that have work. Both programs then become several times slower.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache

from ecellm_lite.errors import EcellmError

if sys.platform == "linux":
    with suppress(OSError):  # a system with another C++ runtime, or none
        ctypes.CDLL("libstdc++.so.6", mode=ctypes.RTLD_GLOBAL)

# How often a waiting thread looks for work before it sleeps (benchmarks/neighbours.py).
_SPIN_COUNT = 1000


@contextmanager
def _short_waits() -> Iterator[None]:
    """Make the waiting threads of an OpenMP library sleep sooner, if the library is loaded within this `with` block.

    The user's own settings for waiting threads take precedence.
    """
    if {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys():
        yield
        return
    os.environ["GOMP_SPINCOUNT"] = str(_SPIN_COUNT)
    try:
        yield
    finally:
        del os.environ["GOMP_SPINCOUNT"]  # the programs that this process starts do not inherit it


with _short_waits():
    import llama_cpp.llama_cpp as llama
    from llama_cpp import __version__ as version

__all__ = ["check_structures", "llama", "version"]

# ctypes does not notice when a struct of the library has other fields than the binding's. These defaults, spread over
# both structs, would then have other values.
_MODEL_DEFAULTS = {"n_gpu_layers": -1, "split_mode": 1, "main_gpu": 0, "vocab_only": False, "use_extra_bufts": True}
_CONTEXT_DEFAULTS = {
    "n_ctx": 512,
    "n_batch": 2048,
    "n_ubatch": 512,
    "n_seq_max": 1,
    "rope_scaling_type": -1,
    "flash_attn_type": -1,
    "yarn_ext_factor": -1.0,
    "type_k": 1,
    "type_v": 1,
    "offload_kqv": True,
    "op_offload": True,
    "swa_full": True,
    "kv_unified": False,
}


@cache
def check_structures() -> None:
    """Raise EcellmError if the binding's C structs differ from the library's."""
    for defaults, expected in (
        (llama.llama_model_default_params(), _MODEL_DEFAULTS),
        (llama.llama_context_default_params(), _CONTEXT_DEFAULTS),
    ):
        for name, value in expected.items():
            if getattr(defaults, name) != value:
                raise EcellmError(
                    f"llama-cpp-python does not match its library ({name} is {getattr(defaults, name)!r})",
                    step="install llama-cpp-python>=0.3.36,<0.4 again",
                )
