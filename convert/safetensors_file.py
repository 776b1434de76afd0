"""A safetensors file, read as hostile input: its header is held against the file, its tensors are read where they lie.

The file is opened once, must be a regular file, and is read with pread: a mapped file that shrinks meanwhile would end
the process, and mapped pages count as its memory. The format: https://github.com/huggingface/safetensors, whose rules
on what is forbidden (holes, overlaps, duplicate names) are all held.
"""

from __future__ import annotations

import copy
import json
import math
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecellm_lite.convert.reading import read_fully
from ecellm_lite.errors import ModelError

MAX_HEADER_BYTES = 100_000_000  # the format's own limit
MAX_DIMENSIONS = 8
MAX_NAME_LENGTH = 512
MAX_VALUES = 1 << 40  # of a tensor, its empty dimensions left out: numpy cannot make an array of every empty shape

# Bytes of a value, by the format's names.
_SIZES = {
    "F64": 8, "I64": 8, "U64": 8, "C64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2,
    "F8_E5M2": 1, "F8_E4M3": 1, "F8_E8M0": 1, "I8": 1, "U8": 1, "BOOL": 1,
}  # fmt: skip

# What weights come as; bfloat16 as its bits.
WEIGHTS: Mapping[str, type[np.generic]] = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16}


@dataclass(frozen=True, slots=True)
class Tensor:
    """Where a tensor lies: its type, its shape with the dimension that is contiguous last, its bytes in the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def row_bytes(self) -> int:
        """The bytes of one index of the first dimension."""
        return _SIZES[self.dtype] * math.prod(self.shape[1:])


class SafetensorsFile:
    """An open safetensors file: `tensors` by name, in the order of their bytes; a context manager.

    Raises ModelError with what is wrong with the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = _open(path)
        try:
            status = os.fstat(self._descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise self._wrong("it is no regular file")
            self.size, self.changed = status.st_size, status.st_mtime_ns
            self.metadata, self.tensors = self._header()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> SafetensorsFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def reopened(self) -> SafetensorsFile:
        """Return the same file, open again, its header not read again; raises ModelError if it was changed."""
        found = copy.copy(self)
        found._descriptor = _open(self.path)
        try:
            found.check_unchanged()
        except BaseException:
            found.close()
            raise
        return found

    def rows(self, name: str, first: int = 0, count: int | None = None) -> NDArray[Any]:
        """Return rows of a tensor of weights, (count, …): float32, float16, or bfloat16's bits as uint16.

        Raises ModelError for a tensor of another type, or if the file has become shorter or was changed.
        """
        tensor = self.tensors[name]
        if tensor.dtype not in WEIGHTS:
            raise ModelError(
                f"The tensor {name!r} of {self.path} is of type {tensor.dtype}: weights come as {', '.join(WEIGHTS)}."
            )
        rows = (tensor.shape[0] if tensor.shape else 1) - first if count is None else count
        buffer = np.empty((rows, *tensor.shape[1:]), dtype=WEIGHTS[tensor.dtype])
        read_fully(
            self._descriptor,
            self.path,
            memoryview(buffer.reshape(-1).view(np.uint8).data),
            tensor.begin + first * tensor.row_bytes,
        )
        return buffer if tensor.shape else buffer.reshape(())

    def check_unchanged(self) -> None:
        """Raise ModelError if the file was written to since it was opened."""
        status = os.fstat(self._descriptor)
        if (status.st_size, status.st_mtime_ns) != (self.size, self.changed):
            raise ModelError(f"{self.path} was changed while it was read: start again when it is complete.")

    def _header(self) -> tuple[dict[str, str], dict[str, Tensor]]:
        if self.size < 8:
            raise self._wrong(f"it has {self.size} bytes")
        length = int.from_bytes(self._read(0, 8), "little")
        if not 2 <= length <= min(MAX_HEADER_BYTES, self.size - 8):
            raise self._wrong(f"its header says it has {length:,} bytes")
        text = self._read(8, length)
        if not text.startswith(b"{"):
            raise self._wrong("its header is no JSON object")
        try:
            header = json.loads(text.decode("utf-8"), object_pairs_hook=self._unique, parse_constant=self._constant)
        except (ValueError, RecursionError) as error:
            raise self._wrong(f"its header is no JSON ({error})") from None
        metadata = header.pop("__metadata__", {})
        if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
            raise self._wrong("its metadata are not texts by name")
        start = 8 + length
        tensors = sorted((self._tensor(name, said, start) for name, said in header.items()), key=lambda one: one.begin)
        end = start
        for tensor in sorted(tensors, key=lambda one: (one.begin, one.end)):
            if tensor.begin != end:
                kind = "overlaps the one before it" if tensor.begin < end else "has a hole before it"
                raise self._wrong(f"the tensor {tensor.name!r} {kind}")
            end = tensor.end
        if end != self.size:
            raise self._wrong(f"its tensors end at byte {end:,} and the file at {self.size:,}")
        return metadata, {tensor.name: tensor for tensor in tensors}

    def _tensor(self, name: str, said: object, start: int) -> Tensor:
        if not name or len(name) > MAX_NAME_LENGTH:
            raise self._wrong(f"a tensor's name has {len(name):,} letters")
        if not isinstance(said, dict) or set(said) != {"dtype", "shape", "data_offsets"}:
            raise self._wrong(f"the tensor {name!r} is not described by dtype, shape and data_offsets")
        dtype, shape, offsets = said["dtype"], said["shape"], said["data_offsets"]
        if not isinstance(dtype, str) or dtype not in _SIZES:
            raise self._wrong(f"the tensor {name!r} is of the unknown type {str(dtype)[:40]!r}")
        if (
            not _whole_numbers(shape)
            or len(shape) > MAX_DIMENSIONS
            or math.prod(length or 1 for length in shape) > MAX_VALUES
        ):
            raise self._wrong(f"the shape of {name!r} is {str(shape)[:80]}")
        if not _whole_numbers(offsets) or len(offsets) != 2:
            raise self._wrong(f"the place of {name!r} is {str(offsets)[:80]}")
        begin, end = offsets
        if not begin <= end <= self.size - start or end - begin != math.prod(shape) * _SIZES[dtype]:
            raise self._wrong(
                f"the tensor {name!r} of shape {shape} and type {dtype} cannot lie at {begin:,} to {end:,}"
            )
        return Tensor(name, dtype, tuple(shape), start + begin, start + end)

    def _unique(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, said in pairs:
            if name in found:
                raise ValueError(f"{name[:80]!r} is there twice")
            found[name] = said
        return found

    def _constant(self, text: str) -> None:
        raise ValueError(f"{text} is no number")

    def _read(self, offset: int, count: int) -> bytes:
        buffer = bytearray(count)
        read_fully(self._descriptor, self.path, memoryview(buffer), offset)
        return bytes(buffer)

    def _wrong(self, what: str) -> ModelError:
        return ModelError(f"{self.path} is not a safetensors file, or is damaged: {what}. Get it again.")


def _open(path: Path) -> int:
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    try:
        # Without O_NONBLOCK, opening a FIFO would wait for a writer.
        return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ModelError(f"{path} cannot be opened ({reason}): check the path.") from None


def _whole_numbers(values: object) -> bool:
    return isinstance(values, list) and all(type(value) is int and value >= 0 for value in values)
