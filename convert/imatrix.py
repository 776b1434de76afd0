"""An importance matrix in llama.cpp's GGUF form: how much each column of a matrix is used, so where errors matter.

For each matrix two tensors: NAME.in_sum2, the sums of the squares of what came into its columns, and NAME.counts, over
how many rows. The form: tools/imatrix of https://github.com/ggml-org/llama.cpp; the older .dat files are not read.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ecellm_lite.errors import ModelError
from ecellm_lite.models.files import sha256_of
from ecellm_lite.models.gguf_header import TensorInfo, read_header

_SUMS, _COUNTS = ".in_sum2", ".counts"
_LARGEST = 1 << 30  # bytes of all sums together


@dataclass(frozen=True, slots=True)
class Imatrix:
    """The importance of each column, by the matrix's name in the file: (columns,) float32."""

    path: Path
    sha256: str
    importance: Mapping[str, NDArray[np.float32]]


def read_imatrix(path: Path) -> Imatrix:
    """Return the imatrix in a GGUF file, or raise ModelError with what is wrong with it."""
    header = read_header(path)
    kind = header.metadata.get("general.type")
    tensors = {one.name: one for one in header.tensors}
    names = sorted(name.removesuffix(_SUMS) for name in tensors if name.endswith(_SUMS))
    if kind != "imatrix" or not names:
        raise ModelError(f"{path} is no imatrix in GGUF form: make one with llama-imatrix --output-format gguf.")
    if sum(tensors[f"{name}{_SUMS}"].size for name in names) > _LARGEST:
        raise ModelError(f"{path} has more than {_LARGEST:,} bytes of sums, which no imatrix of a model here has.")
    importance = {}
    with path.open("rb") as file:
        for name in names:
            sums = _values(file.fileno(), path, tensors[f"{name}{_SUMS}"])
            if f"{name}{_COUNTS}" not in tensors:
                raise ModelError(f"{path} has no {name}{_COUNTS}: collect it again.")
            placed = tensors[f"{name}{_COUNTS}"]
            matrices = math.prod(placed.shape)
            # Looked at before it is read: a hostile file can make it as large as itself.
            if matrices != 1:
                raise ModelError(f"{path} has {matrices:,} matrices for {name}: experts are not converted here.")
            counts = _values(file.fileno(), path, placed)
            # Where nothing came in, every column counts alike, as in llama-quantize, which rounds counts as well.
            count = np.float32(math.floor(counts[0] + 0.5)) if math.isfinite(counts[0]) else np.float32(np.nan)
            importance[name] = np.ones_like(sums) if count <= 0 else sums / count
            if not np.isfinite(importance[name]).all() or (sums < 0).any():
                raise ModelError(f"{path}: a value of {name} is below 0, infinite or not a number: collect it again.")
    return Imatrix(path, sha256_of(path), importance)


def _values(descriptor: int, path: Path, tensor: TensorInfo) -> NDArray[np.float32]:
    if tensor.type.name != "F32":
        raise ModelError(f"{path}: {tensor.name} is of type {tensor.type.name}, not F32.")
    try:
        data = os.pread(descriptor, tensor.size, tensor.offset)
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror}): check the disk.") from None
    if len(data) != tensor.size:
        raise ModelError(f"{path} was cut short meanwhile: copy it again.")
    return np.frombuffer(data, dtype="<f4").astype(np.float32)
