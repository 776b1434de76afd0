"""Reads a safetensors file as untrusted input.

The header must agree with the file. Tensors are read a few rows at a time.

The file is opened once, must be a regular file, and is read with pread. It is not memory-mapped, for two reasons.
Another program could kill this process by truncating the file, and mapped pages count as this process's memory. A file
is refused if it has something that the format forbids, such as holes, overlaps or duplicate names.
https://github.com/huggingface/safetensors defines the format.
"""

from __future__ import annotations

import copy
import json
import math
import os
import stat
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecellm_lite.convert.open_file import OpenFile
from ecellm_lite.convert.reading import damaged, open_for_reading, read_fully
from ecellm_lite.convert.source import SourceTensor
from ecellm_lite.errors import ModelError
from ecellm_lite.kernels.floats import FLOATS
from ecellm_lite.strict import refuse_constant, unique_keys

MAX_HEADER_BYTES = 100_000_000  # the format's own limit
MAX_DIMENSIONS = 8
MAX_NAME_LENGTH = 512
MAX_VALUES = 1 << 40  # of a tensor; a dimension of 0 counts as 1, because numpy refuses huge empty shapes too

# Bytes per value, by the format's name for the type.
_SIZES = {
    "F64": 8, "I64": 8, "U64": 8, "C64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2,
    "F8_E5M2": 1, "F8_E4M3": 1, "F8_E8M0": 1, "I8": 1, "U8": 1, "BOOL": 1,
}  # fmt: skip


class SafetensorsFile(OpenFile):
    """An open safetensors file, which is also a context manager.

    `tensors`: the file's tensors by name, in the order in which their data stands in the file.

    Raises ModelError if the file is damaged.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        try:
            if not stat.S_ISREG(os.fstat(self._descriptor).st_mode):
                raise self._damaged("it is not a regular file")
            self.metadata, self.tensors = self._header()
        except BaseException:
            self.close()
            raise

    def reopened(self) -> SafetensorsFile:
        """Open the same file again, without parsing its header. Raises ModelError if the file has changed."""
        file = copy.copy(self)
        file._descriptor = open_for_reading(self.path)
        try:
            file.check_unchanged()
        except BaseException:
            file.close()
            raise
        return file

    def rows(self, name: str, first: int = 0, count: int | None = None) -> NDArray[Any]:
        """Return rows of a tensor, of shape (count, …), as float32 or float16, or as uint16 with the bits of bfloat16.

        Raises ModelError if the tensor has another type, or if the file has become shorter since it was opened.
        """
        tensor = self.tensors[name]
        check_weights(tensor, self.path)
        rows = (tensor.shape[0] if tensor.shape else 1) - first if count is None else count
        buffer = np.empty((rows, *tensor.shape[1:]), dtype=FLOATS[tensor.type])
        self._fill(memoryview(buffer.reshape(-1).view(np.uint8).data), tensor.offset + first * tensor.row_bytes)
        return buffer if tensor.shape else buffer.reshape(())

    def _header(self) -> tuple[dict[str, str], dict[str, SourceTensor]]:
        size = self.input.size
        if size < 8:
            raise self._damaged(f"it has {size} bytes")
        length = int.from_bytes(self._read(0, 8), "little")
        if not 2 <= length <= min(MAX_HEADER_BYTES, size - 8):
            raise self._damaged(f"its header claims {length:,} bytes")
        text = self._read(8, length)
        if not text.startswith(b"{"):
            raise self._damaged("its header is not a JSON object")
        try:
            header = json.loads(text.decode("utf-8"), object_pairs_hook=unique_keys, parse_constant=refuse_constant)
        except (ValueError, RecursionError) as error:
            raise self._damaged(f"its header is not valid JSON ({error})") from None
        metadata = header.pop("__metadata__", {})
        if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
            raise self._damaged("its metadata does not consist of texts")
        tensors = [self._tensor(name, entry, 8 + length) for name, entry in header.items()]
        tensors.sort(key=lambda tensor: (tensor.offset, tensor.size))
        end = 8 + length
        for tensor in tensors:
            if tensor.offset != end:
                relation = "overlaps the one before it" if tensor.offset < end else "leaves a hole before it"
                raise self._damaged(f"the tensor {tensor.name!r} {relation}")
            end = tensor.offset + tensor.size
        if end != size:
            raise self._damaged(f"its tensors end at byte {end:,}, the file at {size:,}")
        return metadata, {tensor.name: tensor for tensor in tensors}

    def _tensor(self, name: str, entry: object, start: int) -> SourceTensor:
        """Return the tensor that an entry of the header describes.

        The tensors' data begin at byte `start` of the file.
        """
        if not name or len(name) > MAX_NAME_LENGTH:
            raise self._damaged(f"a tensor's name has {len(name):,} letters")
        if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
            raise self._damaged(f"the tensor {name!r} is not described by dtype, shape and data_offsets")
        dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
        if not isinstance(dtype, str) or dtype not in _SIZES:
            raise self._damaged(f"the tensor {name!r} has the unknown type {str(dtype)[:40]!r}")
        if (
            not _are_counts(shape)
            or len(shape) > MAX_DIMENSIONS
            or math.prod(length or 1 for length in shape) > MAX_VALUES
        ):
            raise self._damaged(f"the shape of {name!r} is {str(shape)[:80]}")
        if not _are_counts(offsets) or len(offsets) != 2:
            raise self._damaged(f"the data_offsets of {name!r} are {str(offsets)[:80]}")
        begin, end = offsets
        size = math.prod(shape) * _SIZES[dtype]
        if not begin <= end <= self.input.size - start or end - begin != size:
            raise self._damaged(
                f"the tensor {name!r} of shape {shape} and type {dtype} cannot lie at {begin:,} to {end:,}"
            )
        return SourceTensor(name, dtype, tuple(shape), start + begin, size)

    def _read(self, offset: int, count: int) -> bytes:
        buffer = bytearray(count)
        self._fill(memoryview(buffer), offset)
        return bytes(buffer)

    def _fill(self, buffer: memoryview, offset: int) -> None:
        read_fully(self._descriptor, self.path, buffer, offset)

    def _damaged(self, problem: str) -> ModelError:
        return damaged(self.path, f"is not a valid safetensors file: {problem}")


def check_weights(tensor: SourceTensor, path: Path) -> None:
    """Raise ModelError if a tensor does not hold 16-bit or 32-bit floats."""
    if tensor.type not in FLOATS:
        raise ModelError(
            f"The tensor {tensor.name!r} of {path} has the type {tensor.type}",
            step=f"save the model with weights as {', '.join(FLOATS)}",
            file=str(path),
            field=tensor.name,
        )


def _are_counts(values: object) -> bool:
    return isinstance(values, list) and all(type(value) is int and value >= 0 for value in values)
