"""Chooses the code that converts weights: the fastest kernels that compute the expected bytes, or ggml's functions."""

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

# The hash of what ggml_quantize_chunk, built for baseline x86-64, makes of `sample_weights`, with and without imatrix.
_EXPECTED = "1a464bf5165fa3866a707f739b101461b29a994d3e6841c77968a680975a465a"


def variants() -> list[str]:
    """Return the variants that can run here, the best first. `ggml` (no kernels of ours) is always the last."""
    return [*native.variants(), "ggml"]


def name() -> str:
    """Return the variant in use: `avx512`, `avx2`, `neon`, `baseline` or `ggml`.

    With `ggml`, ggml's own functions and numpy do the work. Raises UsageError if ECELLM_KERNELS names a variant that
    this machine does not have, and EcellmError if it names a C++ variant that fails `is_exact`.
    """
    return _chosen(os.environ.get("ECELLM_KERNELS", ""))


@cache
def is_exact(variant: str) -> bool:
    """Whether a variant converts the sample weights to the expected bytes.

    The variant `ggml` gives other bytes if ggml was compiled to round a*b+c once instead of twice.
    """
    return result_hash(variant) == _EXPECTED


def result_hash(variant: str) -> str:
    """Return the sha256, in hex, of the bytes to which a variant converts the sample weights."""
    convert: Callable[[Block], NDArray[np.uint8]] = (
        plain.convert if variant == "ggml" else lambda block: native.convert(block, variant=variant)
    )
    weights, importance = sample_weights()
    digest = sha256()
    short = [(kind, None) for kind in SHORT_QUANTS]  # with an importance, ggml's own function would be used
    for kind, imatrix in [*short, *product(K_QUANTS, (None, importance))]:
        digest.update(convert(Block(weights, "F32", kind, importance=imatrix)).tobytes())
    return digest.hexdigest()


def sample_weights() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return weights, shape (17, 256), and the importance of each column, shape (256,).

    The values are pseudo-random and exact in float32. Each row of weights has its own scale. The widest variant takes
    16 rows at a time, so the 17th row tests a group that is not full.
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
