"""Reads importance matrices (imatrix) in llama.cpp's GGUF format. They say how much an error in each column matters.

For each matrix of the model, the file has two tensors. NAME.in_sum2 has the sum of the squares of each column's inputs,
and NAME.counts has the number of inputs. tools/imatrix of https://github.com/ggml-org/llama.cpp defines the format. The
older .dat files are not read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ecellm_lite.convert.reading import damaged, read_fully, unreadable
from ecellm_lite.errors import ModelError
from ecellm_lite.models.files import sha256_of
from ecellm_lite.models.gguf_header import TensorInfo, read_header

MAX_BYTES = 1 << 30  # all sums together

_SUMS, _COUNTS = ".in_sum2", ".counts"


@dataclass(frozen=True, slots=True)
class Imatrix:
    """An importance matrix (imatrix), which says how much an error in each column of a matrix matters.

    `importance`: for each matrix of the model, one number per column. The key is the matrix's GGUF name. A higher
    number means that errors in the column matter more.
    """

    path: Path
    sha256: str
    importance: Mapping[str, NDArray[np.float32]]


def read_imatrix(path: Path) -> Imatrix:
    """Return the imatrix in a GGUF file. Raises ModelError for a damaged file."""
    header = read_header(path)
    tensors = {tensor.name: tensor for tensor in header.tensors}
    names = sorted(name.removesuffix(_SUMS) for name in tensors if name.endswith(_SUMS))
    if header.metadata.get("general.type") != "imatrix" or not names:
        raise ModelError(
            f"{path} is not an imatrix in GGUF format",
            step="make one with llama-imatrix, with the output format gguf",
            file=str(path),
        )
    if sum(tensors[f"{name}{_SUMS}"].size for name in names) > MAX_BYTES:
        raise _damaged(path, f"has more than {MAX_BYTES:,} bytes of sums, far more than any supported model")
    importance = {}
    try:
        with path.open("rb") as file:
            for name in names:
                importance[name] = _importance(file.fileno(), path, name, tensors)
    except OSError as error:
        raise unreadable(path, error) from None
    return Imatrix(path, sha256_of(path), importance)


def _importance(descriptor: int, path: Path, name: str, tensors: Mapping[str, TensorInfo]) -> NDArray[np.float32]:
    sums = _values(descriptor, path, tensors[f"{name}{_SUMS}"])
    counted = tensors.get(f"{name}{_COUNTS}")
    if counted is None:
        raise _damaged(path, f"has no {name}{_COUNTS}")
    # Checked before reading, because in a hostile file it can be as large as the file.
    if (matrices := math.prod(counted.shape)) != 1:
        raise ModelError(
            f"{path} has {matrices:,} matrices for {name}: experts cannot be converted here",
            step="use llama-quantize",
            file=str(path),
            field=name,
        )
    counts = _values(descriptor, path, counted)
    # Without inputs all columns count the same, as in llama-quantize, which also rounds counts this way.
    count = np.float32(math.floor(counts[0] + 0.5)) if math.isfinite(counts[0]) else np.float32(np.nan)
    importance = np.ones_like(sums) if count <= 0 else sums / count
    if not np.isfinite(importance).all() or (sums < 0).any():
        raise _damaged(path, f"has a value of {name} that is negative, infinite or NaN")
    return importance


def _values(descriptor: int, path: Path, tensor: TensorInfo) -> NDArray[np.float32]:
    if tensor.type.name != "F32":
        raise _damaged(path, f"has {tensor.name} as {tensor.type.name} instead of F32")
    data = bytearray(tensor.size)
    read_fully(descriptor, path, memoryview(data), tensor.offset)
    return np.frombuffer(data, dtype="<f4").astype(np.float32)


def _damaged(path: Path, problem: str) -> ModelError:
    return ModelError(damaged(path, problem).message, step="collect it again", file=str(path))
