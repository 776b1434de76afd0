"""Reads a GGUF file's header as untrusted input, before llama.cpp opens the file.

`read_header` checks every count, length and offset against the file's size before using it, and returns the contents of
the header. `model_check` then refuses values that would crash or mislead llama.cpp. The file is opened once, must be a
regular file, and is read from its beginning up to a limit. It is not memory-mapped, and no tensor data is read.
docs/gguf.md of https://github.com/ggml-org/ggml defines the format.
"""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ecellm_lite.errors import ModelError
from ecellm_lite.models.gguf_reader import GgufReader, printable
from ecellm_lite.tensor_types import TENSOR_TYPES, TensorType

MAX_KEYS = 4096
MAX_KEY_BYTES = 65_535  # the format's own limit
MAX_ARRAY_ITEMS = 1 << 22
MAX_TENSORS = 65_536
MAX_NAME_BYTES = 63  # GGML_MAX_NAME, with the final zero, is 64
MAX_DIMENSIONS = 4
MAX_ALIGNMENT = 65_536

_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<B", 10: "<Q", 11: "<q", 12: "<d"}
_ITEMS = {0: "u1", 1: "i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4", 7: "u1", 10: "<u8", 11: "<i8", 12: "<f8"}
_UINT32, _BOOL, _STRING, _ARRAY = 4, 7, 8, 9
_LEAST_KEY_BYTES = 8 + 1 + 4 + 1  # length, one letter, type, one byte of value
_LEAST_TENSOR_BYTES = 8 + 1 + 4 + 8 + 4 + 8  # length, one letter, dimensions, one dimension, type, offset

Value: TypeAlias = "int | float | bool | str | tuple[str, ...] | NDArray[Any]"


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """What the header says about a tensor. `offset` and `size` are in bytes.

    `shape`: the first number is the length of a contiguous row.
    """

    name: str
    shape: tuple[int, ...]
    type: TensorType
    offset: int
    size: int


@dataclass(frozen=True, slots=True, eq=False)
class Header:
    """The header of a GGUF file. Numeric arrays become NumPy arrays, and arrays of strings become tuples.

    Strings are decoded from UTF-8, and each invalid byte becomes a surrogate (Python's `surrogateescape`).
    `tensors`: in the order of the file. Their data begins `data_offset` bytes after the start of the file.
    `kinds`: the GGUF type number of each value in `metadata`, by the value's key.
    """

    path: Path
    version: int
    alignment: int
    metadata: Mapping[str, Value]
    tensors: tuple[TensorInfo, ...]
    data_offset: int
    file_size: int
    kinds: Mapping[str, int] = field(default_factory=dict)


def read_header(path: Path, noun: str = "model") -> Header:
    """Return the header of the GGUF file at `path`. Raises ModelError for an invalid header.

    `noun`: what an error calls the file.

    Accepts little-endian files of GGUF versions 2 and 3. A file without tensors (only a vocabulary) is accepted here,
    but model_check refuses it.
    """
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    try:
        # Without O_NONBLOCK, opening a FIFO would wait for a writer.
        descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        message = f"The {noun} {path} cannot be opened ({reason})"
        raise ModelError(message, step="check the path and its permissions") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ModelError(f"The {noun} {path} is not a regular file", step="give the path of a GGUF file")
        return _parse(GgufReader(path, descriptor, status.st_size), noun)
    except OSError as error:
        message = f"The {noun} {path} cannot be read ({error.strerror})"
        raise ModelError(message, step="check the disk or copy it again") from None
    finally:
        os.close(descriptor)


def _parse(reader: GgufReader, noun: str) -> Header:
    magic = reader.take(min(4, reader.size))
    if magic != b"GGUF":
        raise ModelError(
            f"The {noun} {reader.path} is not a GGUF file: it begins with {magic!r}", step="give a GGUF file"
        )
    version: int = reader.number("<I")
    if version & 0xFFFF == 0:
        raise ModelError(f"The {noun} {reader.path} is big-endian", step="convert it again for this machine")
    if version == 1:
        message = f"The {noun} {reader.path} has GGUF version 1, which llama.cpp no longer reads"
        raise ModelError(message, step="convert it again")
    if version not in (2, 3):
        raise ModelError(f"The {noun} {reader.path} has GGUF version {version}", step="get it in version 3")
    tensor_count = reader.count(MAX_TENSORS, _LEAST_TENSOR_BYTES, "tensors")
    key_count = reader.count(MAX_KEYS, _LEAST_KEY_BYTES, "metadata keys")
    metadata: dict[str, Value] = {}
    kinds: dict[str, int] = {}
    for _ in range(key_count):
        key = reader.name(MAX_KEY_BYTES, "a metadata key")
        if key in metadata:
            raise reader.damaged(f"the metadata key {printable(key)} occurs twice")
        kind: int = reader.number("<I")
        metadata[key] = _value(reader, key, kind)
        kinds[key] = kind
        if key == "general.alignment" and kind != _UINT32:
            raise reader.damaged(f"general.alignment is of type {kind}, not a 32-bit number")
    alignment = metadata.get("general.alignment", 32)
    assert isinstance(alignment, int)
    if not 8 <= alignment <= MAX_ALIGNMENT or alignment & (alignment - 1):
        raise reader.damaged(f"general.alignment is {alignment}, not a power of two from 8 to {MAX_ALIGNMENT}")
    declared = [_tensor(reader) for _ in range(tensor_count)]
    data_offset = -(-reader.position // alignment) * alignment
    return Header(
        path=reader.path,
        version=version,
        alignment=alignment,
        metadata=MappingProxyType(metadata),
        tensors=_placed(reader, declared, data_offset, alignment),
        data_offset=data_offset,
        file_size=reader.size,
        kinds=MappingProxyType(kinds),
    )


def _value(reader: GgufReader, key: str, kind: int) -> Value:
    if kind == _STRING:
        return reader.strings(1)[0]
    if kind != _ARRAY:
        return _scalar(reader, key, kind)
    item: int = reader.number("<I")
    if item == _ARRAY:
        raise reader.damaged(f"{printable(key)} is an array of arrays, which no model needs")
    if item == _STRING:
        return reader.strings(reader.count(MAX_ARRAY_ITEMS, 8, f"strings in {printable(key)}"))
    if item not in _ITEMS:
        raise reader.damaged(f"{printable(key)} is an array of the unknown type {item}")
    dtype = np.dtype(_ITEMS[item])
    count = reader.count(MAX_ARRAY_ITEMS, dtype.itemsize, f"items in {printable(key)}")
    array: NDArray[Any] = np.frombuffer(reader.take(count * dtype.itemsize), dtype)
    if item != _BOOL:
        return array
    if array.size and array.max() > 1:
        raise reader.damaged(f"{printable(key)} holds the Boolean value {array.max()}, not 0 or 1")
    return array.astype(np.bool_)


def _scalar(reader: GgufReader, key: str, kind: int) -> int | float | bool:
    if kind not in _SCALARS:
        raise reader.damaged(f"{printable(key)} is of the unknown type {kind}")
    value: int | float = reader.number(_SCALARS[kind])
    if kind != _BOOL:
        return value
    if value > 1:
        raise reader.damaged(f"{printable(key)} is the Boolean value {value}, not 0 or 1")
    return bool(value)


def _tensor(reader: GgufReader) -> TensorInfo:
    """Return the header's next tensor. Its offset counts from the beginning of the tensor data."""
    name = reader.name(MAX_NAME_BYTES, "a tensor's name")
    dimensions: int = reader.number("<I")
    if not 1 <= dimensions <= MAX_DIMENSIONS:
        raise reader.damaged(f"the tensor {printable(name)} has {dimensions} dimensions, not 1 to {MAX_DIMENSIONS}")
    shape: tuple[int, ...] = tuple(reader.number("<Q") for _ in range(dimensions))
    number: int = reader.number("<I")
    offset: int = reader.number("<Q")
    values = math.prod(shape)
    if not 0 < values < 1 << 63:
        raise reader.damaged(f"the tensor {printable(name)} has the impossible shape {shape}")
    if number not in TENSOR_TYPES:
        raise ModelError(
            f"The model {reader.path} has the tensor {printable(name)} of the unknown type {number}",
            step="update ecellm-lite or convert the model to another type",
        )
    type_ = TENSOR_TYPES[number]
    if shape[0] % type_.block:
        raise reader.damaged(
            f"the tensor {printable(name)} of type {type_.name} has rows of {shape[0]}, not a multiple of {type_.block}"
        )
    return TensorInfo(name, shape, type_, offset, values // type_.block * type_.block_bytes)


def _placed(reader: GgufReader, declared: list[TensorInfo], data_offset: int, alignment: int) -> tuple[TensorInfo, ...]:
    """Return the tensors of `declared` with their offsets counted from the beginning of the file.

    In `declared`, offsets are counted from the beginning of the tensor data. As in ggml, a tensor must begin at the end
    of the tensor before it, rounded up to the alignment.
    """
    names: set[str] = set()
    placed = []
    expected = 0
    for tensor in declared:
        if tensor.name in names:
            raise reader.damaged(f"the tensor {printable(tensor.name)} occurs twice")
        names.add(tensor.name)
        if tensor.offset != expected:
            raise reader.damaged(
                f"the tensor {printable(tensor.name)} begins at byte {tensor.offset} of the data, not at {expected}, "
                "where the one before it ends"
            )
        placed.append(TensorInfo(tensor.name, tensor.shape, tensor.type, data_offset + expected, tensor.size))
        expected += -(-tensor.size // alignment) * alignment
    end = placed[-1].offset + placed[-1].size if placed else 0
    if end > reader.size:
        raise reader.short(f"its tensors end at byte {end}, but the file has only {reader.size}")
    return tuple(placed)
