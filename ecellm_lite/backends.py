"""Loads ggml's backends from llama-cpp-python's folder, if they are separate libraries there.

In an ordinary build, llama.cpp contains its code for the processor, and nothing is loaded here. A portable build
(`ecellm-lite bundle engine`) has one library for each kind of processor, such as libggml-cpu-haswell.so. ggml loads the
best one that the processor can run. Only llama-cpp-python's folder is searched. By itself, ggml would also search the
current folder.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ecellm_lite.binding import llama
from ecellm_lite.errors import EcellmError

_PREFIX = "ggml-cpu-" if sys.platform == "win32" else "libggml-cpu-"
_SUFFIX = ".dll" if sys.platform == "win32" else ".so"


@dataclass(frozen=True, slots=True)
class CpuVariant:
    """One of the libraries with ggml's code for the processor. ggml loads the library with the highest score.

    `score` has a bit for each kind of instructions that the library uses. It is 0 if this processor lacks one of these
    kinds.
    """

    name: str
    score: int
    path: Path


def library_path() -> Path:
    """Return the path of the llama.cpp library that this process has loaded."""
    return Path(llama._lib._name)


def load_backends() -> None:
    """Load the backends of a portable build, before llama.cpp is started. For an ordinary build, do nothing.

    Raises EcellmError if the build has no code for this processor.
    """
    registry = llama._lib.ggml_backend_reg_by_name
    registry.restype, registry.argtypes = ctypes.c_void_p, [ctypes.c_char_p]
    if registry(b"CPU"):
        return
    folder = library_path().parent
    load = llama._lib.ggml_backend_load_all_from_path
    load.restype, load.argtypes = None, [ctypes.c_char_p]
    load(os.fsencode(folder))
    if not registry(b"CPU"):
        raise EcellmError(
            f"llama.cpp has no code for this processor in {folder}",
            step="install llama-cpp-python again, or build it with `ecellm-lite bundle engine`",
        )


def cpu_variants(folder: Path) -> Sequence[CpuVariant]:
    """Return the variants of ggml's CPU code in a folder of llama.cpp's libraries, the best one first.

    An ordinary build has no variants.

    Each variant's library is opened and asked for its score, as ggml itself does.
    """
    variants = []
    for path in sorted(folder.glob(f"{_PREFIX}*{_SUFFIX}")):
        try:
            score = int(ctypes.CDLL(str(path)).ggml_backend_score())
        except (OSError, AttributeError):  # a library that does not load, which ggml skips too
            score = 0
        variants.append(CpuVariant(path.name[len(_PREFIX) : -len(_SUFFIX)], score, path))
    return sorted(variants, key=lambda variant: -variant.score)
