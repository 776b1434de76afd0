"""Which kernels are used: the best variant that gives the known answer on this processor, or ggml's own functions."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from hashlib import sha256
from itertools import product

import numpy as np
from numpy.typing import NDArray

from ecellm_lite.errors import EcellmError, UsageError
from ecellm_lite.kernels import native, plain
from ecellm_lite.kernels.block import Block
from ecellm_lite.tensor_types import K_QUANTS, SHORT_QUANTS

# The answer of ggml_quantize_chunk, built for baseline x86-64, to `question`, with and without importance.
_ANSWER = "1a464bf5165fa3866a707f739b101461b29a994d3e6841c77968a680975a465a"


def variants() -> list[str]:
    """Return the variants that work here, best first; `ggml` always does."""
    return [*native.variants(), "ggml"]


def name() -> str:
    """Return the variant in use: avx512, avx2, neon, baseline, or `ggml` for numpy and ggml's own functions.

    Raises UsageError if ECELLM_KERNELS names one that does not exist here.
    """
    return _chosen(os.environ.get("ECELLM_KERNELS", ""))


@cache
def is_exact(variant: str) -> bool:
    """Whether a variant gives the known answer; ggml's own functions may not, as some builds fuse a*b+c."""
    return answer(variant) == _ANSWER


def answer(variant: str) -> str:
    """Return the hash of a variant's answer to the question."""
    convert: Callable[[Block], NDArray[np.uint8]] = (
        plain.convert if variant == "ggml" else lambda block: native.convert(block, variant=variant)
    )
    weights, importance = question()
    digest = sha256()
    short = [(kind, None) for kind in SHORT_QUANTS]  # with an importance, ggml's own function would answer
    for kind, imatrix in [*short, *product(K_QUANTS, (None, importance))]:
        digest.update(convert(Block(weights, "F32", kind, importance=imatrix)).tobytes())
    return digest.hexdigest()


def question() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return weights, (17, 256), and an importance: pseudo-random values in rows of different sizes, all exact.

    17 is one more than the lanes of the widest variant, so that a partly filled group is tested too.
    """
    places = np.arange(18 * 256, dtype=np.uint32).reshape(18, 256)
    scattered = (places * np.uint32(2654435761) >> 8).astype(np.float32) / np.float32(1 << 23) - np.float32(1)
    sizes = np.float32(2) ** (np.arange(17, dtype=np.float32) - np.float32(12))
    return scattered[:17] * sizes[:, None], np.abs(scattered[17])


@cache
def _chosen(name: str) -> str:
    choices = variants()
    if name and name not in choices:
        raise UsageError(
            f"ECELLM_KERNELS is {name!r}", step=f"set it to one of {', '.join(choices)}, or leave it unset"
        )
    if name and name != "ggml" and not is_exact(name):
        raise EcellmError(
            f"The {name} kernels give wrong bytes on this machine",
            step="report this, and leave ECELLM_KERNELS unset",
        )
    return name or next(variant for variant in choices if variant == "ggml" or is_exact(variant))
