"""Makes GGUF files byte by byte, so that each field can be forged. ggml's docs/gguf.md describes the format."""

from __future__ import annotations

import struct
from collections.abc import Sequence

UINT8, INT8, UINT16, UINT32, INT32, FLOAT32, BOOL, STRING, ARRAY, UINT64, FLOAT64 = 0, 1, 2, 4, 5, 6, 7, 8, 9, 10, 12
F32, Q4_0, Q8_0 = 0, 2, 8


def u32(value: int) -> bytes:
    return struct.pack("<I", value)


def u64(value: int) -> bytes:
    return struct.pack("<Q", value)


def string(text: bytes, length: int | None = None) -> bytes:
    """Return a text as GGUF stores it: its length, then its bytes.

    `length`: a false length to write, or None for the true one.
    """
    return u64(len(text) if length is None else length) + text


def key(name: bytes, kind: int, value: bytes) -> bytes:
    return string(name) + u32(kind) + value


def array(name: bytes, item: int, items: Sequence[bytes], count: int | None = None) -> bytes:
    """Return the bytes of a GGUF key whose value is an array.

    `item`: the number of the items' type. `count`: a false number of items to write, or None.
    """
    return key(name, ARRAY, u32(item) + u64(len(items) if count is None else count) + b"".join(items))


def tensor(
    name: bytes = b"a", shape: Sequence[int] = (8,), kind: int = F32, offset: int = 0, dimensions: int | None = None
) -> bytes:
    """Return a tensor's entry in the header. `dimensions`: a wrong number of dimensions to write, or None."""
    count = len(shape) if dimensions is None else dimensions
    return string(name) + u32(count) + b"".join(map(u64, shape)) + u32(kind) + u64(offset)


KEYS = (
    key(b"general.architecture", STRING, string(b"llama")),
    key(b"a.number", UINT32, u32(7)),
    key(b"a.half", FLOAT32, struct.pack("<f", 0.5)),
    key(b"a.truth", BOOL, b"\x01"),
    array(b"some.numbers", INT32, [u32(1), u32(2), u32(3)]),
    array(b"some.truths", BOOL, [b"\x01", b"\x00"]),
    array(b"some.words", STRING, [string(b"one"), string("zwölf".encode()), string(b"\xff")]),
)
TENSORS = (tensor(b"a", (8,), F32, 0), tensor(b"b", (64, 2), Q8_0, 32))
DATA = bytes(32 + 64 * 2 // 32 * 34)


def gguf_file(
    keys: Sequence[bytes] = KEYS,
    tensors: Sequence[bytes] = TENSORS,
    data: bytes = DATA,
    *,
    magic: bytes = b"GGUF",
    version: int = 3,
    key_count: int | None = None,
    tensor_count: int | None = None,
    alignment: int = 32,
) -> bytes:
    """Return the bytes of a GGUF file. With the default arguments, the file is valid."""
    head = magic + u32(version)
    head += u64(len(tensors) if tensor_count is None else tensor_count)
    head += u64(len(keys) if key_count is None else key_count)
    head += b"".join(keys) + b"".join(tensors)
    return head + bytes(-len(head) % alignment) + data
