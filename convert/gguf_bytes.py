"""Encodes the header of a GGUF file, which is everything before the tensors' data.

The format is version 3, little-endian (docs/gguf.md of https://github.com/ggml-org/ggml).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecellm_lite.convert.blueprint import MetadataValue
from ecellm_lite.convert.planned_tensor import PlannedTensor
from ecellm_lite.errors import EcellmError, ModelError
from ecellm_lite.models.gguf_header import MAX_NAME_BYTES

VERSION = 3
ALIGNMENT = 32  # unless general.alignment names another

# For each type, by gguf-py's name: its number in the file, and its format in the module struct.
_TYPES = {
    "UINT8": (0, "<B"), "INT8": (1, "<b"), "UINT16": (2, "<H"), "INT16": (3, "<h"), "UINT32": (4, "<I"),
    "INT32": (5, "<i"), "FLOAT32": (6, "<f"), "BOOL": (7, "<?"), "STRING": (8, ""), "ARRAY": (9, ""),
    "UINT64": (10, "<Q"), "INT64": (11, "<q"), "FLOAT64": (12, "<d"),
}  # fmt: skip

_ITEMS = {
    "u1": "UINT8", "i1": "INT8", "u2": "UINT16", "i2": "INT16", "u4": "UINT32", "i4": "INT32", "f4": "FLOAT32",
    "b1": "BOOL", "u8": "UINT64", "i8": "INT64", "f8": "FLOAT64",
}  # fmt: skip

KINDS: Mapping[int, str] = {number: name for name, (number, _) in _TYPES.items()}


def aligned(offset: int, alignment: int = ALIGNMENT) -> int:
    """Return the offset, rounded up to a multiple of the alignment."""
    return -(-offset // alignment) * alignment


def header_bytes(
    metadata: Mapping[str, MetadataValue], tensors: Sequence[PlannedTensor], alignment: int = ALIGNMENT
) -> bytes:
    """Return the header as bytes, padded to the alignment. The tensors' data follow it immediately.

    Raises EcellmError for a value that does not have its declared type. Raises ModelError for a tensor's name that is
    not UTF-8.
    """
    header = bytearray(b"GGUF" + struct.pack("<IQQ", VERSION, len(tensors), len(metadata)))
    for key, (kind, value) in metadata.items():
        try:
            header += _text(key) + struct.pack("<I", _TYPES[kind][0]) + _value(kind, value)
        except (KeyError, ValueError, TypeError, AttributeError, struct.error, OverflowError) as error:
            raise EcellmError(f"The metadata {key} cannot be written as {kind} ({error})", step="report this") from None
    for tensor in tensors:
        header += _name(tensor.name) + struct.pack("<I", len(tensor.shape))
        header += struct.pack(f"<{len(tensor.shape)}Q", *reversed(tensor.shape))
        header += struct.pack("<IQ", tensor.type.number, tensor.offset)
    return bytes(header) + bytes(aligned(len(header), alignment) - len(header))


def _name(name: str) -> bytes:
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        # Tokens may contain any bytes, but tensors are looked up by name, and llama.cpp's names are all ASCII.
        raise ModelError(
            f"The tensor's name {name[:80]!r} is not UTF-8", step="the base is damaged, so download it again"
        ) from None
    if size > MAX_NAME_BYTES:
        raise EcellmError(f"The tensor's name {name[:80]!r} has more than {MAX_NAME_BYTES} bytes", step="report this")
    return _text(name)


def _text(text: str | bytes) -> bytes:
    # In a hostile tokenizer, bytes that are not UTF-8 arrive as surrogates.
    data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")
    return struct.pack("<Q", len(data)) + data


def _value(kind: str, value: Any) -> bytes:
    if kind == "STRING":
        return _text(value)
    if kind == "ARRAY":
        return _array(value)
    return struct.pack(_TYPES[kind][1], value)


def _array(values: Any) -> bytes:
    """Return an array's bytes in a GGUF header: its element type, its length and its items.

    As in gguf-py, ints become INT32 and floats FLOAT32.
    """
    if isinstance(values, np.ndarray):
        return _numbers(values)
    items = list(values)
    if not items:
        raise ValueError("it is empty")
    if isinstance(items[0], (str, bytes)):
        return struct.pack("<IQ", _TYPES["STRING"][0], len(items)) + b"".join(map(_text, items))
    kind = type(items[0])
    if kind not in (bool, int, float) or not all(type(item) is kind for item in items):
        raise TypeError("its items are not of one type")
    return _numbers(np.array(items, dtype={bool: np.bool_, int: np.int32, float: np.float32}[kind]))


def _numbers(values: NDArray[Any]) -> bytes:
    kind = _ITEMS[values.dtype.str[1:]]
    little = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
    return struct.pack("<IQ", _TYPES[kind][0], values.size) + little.tobytes()
