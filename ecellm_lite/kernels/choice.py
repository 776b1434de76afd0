"""Which kernels are used: the best variant of this processor that knows the right answer, else ggml's own functions."""

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
from ecellm_lite.kernels.conversion import Conversion
from ecellm_lite.tensor_types import K_QUANTS, SHORT_QUANTS

# What ggml_quantize_chunk, built for baseline x86-64, makes of `question`, with and without importance.
_ANSWER = "1a464bf5165fa3866a707f739b101461b29a994d3e6841c77968a680975a465a"


def variants() -> list[str]:
    """Return what can be used here, best first; `ggml` is always there."""
    return [*native.variants(), "ggml"]


def name() -> str:
    """Return what is used: avx512, avx2, neon, baseline, or `ggml` for numpy and ggml's own functions.

    Raises UsageError if ECELLM_KERNELS names what is not here.
    """
    return _chosen(os.environ.get("ECELLM_KERNELS", ""))


@cache
def is_exact(variant: str) -> bool:
    """Whether a variant gives the known answer. ggml's own functions may not: some builds fuse a*b+c."""
    return answer(variant) == _ANSWER


def answer(variant: str) -> str:
    """Return the hash of what a variant makes of the question."""
    convert: Callable[[Conversion], NDArray[np.uint8]] = (
        plain.convert if variant == "ggml" else lambda conversion: native.convert(conversion, variant=variant)
    )
    weights, importance = question()
    found = sha256()
    asked = [(kind, None) for kind in SHORT_QUANTS]  # with an importance, ggml's own function answers
    for kind, known in [*asked, *product(K_QUANTS, (None, importance))]:
        found.update(convert(Conversion(weights, "F32", kind, importance=known)).tobytes())
    return found.hexdigest()


def question() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return weights, (17, 256), and an importance: scattered values of exact halvings, some rows larger than others.

    17 is one more than the lanes of the widest variant, so that a part of a group is asked about too.
    """
    places = np.arange(18 * 256, dtype=np.uint32).reshape(18, 256)
    scattered = (places * np.uint32(2654435761) >> 8).astype(np.float32) / np.float32(1 << 23) - np.float32(1)
    sizes = np.float32(2) ** (np.arange(17, dtype=np.float32) - np.float32(12))
    return scattered[:17] * sizes[:, None], np.abs(scattered[17])


@cache
def _chosen(wanted: str) -> str:
    known = variants()
    if wanted and wanted not in known:
        raise UsageError(f"ECELLM_KERNELS is {wanted!r}: take one of {', '.join(known)}, or leave it unset.")
    if wanted and wanted != "ggml" and not is_exact(wanted):
        raise EcellmError(f"The {wanted} kernels give other bytes than they must on this machine: please report this.")
    return wanted or next(variant for variant in known if variant == "ggml" or is_exact(variant))
