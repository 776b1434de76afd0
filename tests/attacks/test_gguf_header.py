"""Tests that hostile GGUF headers are refused with a ModelError, at once and without much memory."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ecellm_lite.errors import ModelError
from ecellm_lite.models.gguf_header import read_header
from tests.attacks.gguf_files import (
    ARRAY,
    BOOL,
    INT32,
    KEYS,
    Q4_0,
    Q8_0,
    STRING,
    UINT8,
    UINT32,
    UINT64,
    array,
    gguf_file,
    key,
    string,
    tensor,
    u32,
    u64,
)
from tests.support.gguf_refusals import check_outcome, refused, written
from tests.support.refusals import refusal

# Counts and lengths: CVE-2024-21802, -21825, -21836, -23496, -23605, CVE-2025-53630, CVE-2026-27940.
HUGE = [2**22 + 1, 2**31, 2**32, 2**61, 2**62, 2**63 - 1, 2**63, 2**64 - 1]


@pytest.mark.parametrize("count", [60, 4000, *HUGE])
def test_counts_beyond_the_file_or_the_limits_are_refused(tmp_path: Path, count: int) -> None:
    refused(written(tmp_path, gguf_file(key_count=count)), count)
    refused(written(tmp_path, gguf_file(tensor_count=count)), count)
    for item in (UINT8, INT32, UINT64, BOOL, STRING):
        content = gguf_file([array(b"x", item, [], count)], (), b"")
        refused(written(tmp_path, content), count, "'x'")


@pytest.mark.parametrize("length", [999, 65_536, *HUGE])
def test_lengths_beyond_the_end_of_the_file_are_refused(tmp_path: Path, length: int) -> None:
    lengths = {
        "a key's": gguf_file([string(b"k", length) + u32(UINT8) + b"\0"]),
        "a value's": gguf_file([key(b"k", STRING, string(b"v", length))]),
        "a token's": gguf_file([array(b"k", STRING, [string(b"v"), string(b"v", length)])]),
        "a tensor's name's": gguf_file((), [string(b"t", length) + u32(1) + u64(8) + u32(0) + u64(0)]),
    }
    for content in lengths.values():
        refused(written(tmp_path, content))


def test_huge_lengths_within_a_sparse_file_are_refused(tmp_path: Path) -> None:
    content = gguf_file([key(b"k", STRING, string(b"v", 2**33))])
    path = written(tmp_path, content)
    os.truncate(path, 2**34)
    refused(path, 2**33)


def test_an_array_with_a_huge_count_of_nothing_is_refused(tmp_path: Path) -> None:
    # 49 bytes; a reader that trusts the count would loop 2**62 times.
    content = gguf_file([array(b"x", UINT8, [], 2**62)], (), b"", alignment=1)
    assert len(content) == 49
    refused(written(tmp_path, content), 2**62)


def test_nested_arrays_are_refused(tmp_path: Path) -> None:
    nested = u32(ARRAY) + u64(1)
    content = gguf_file([key(b"x", ARRAY, nested * 10_000 + u32(UINT8) + u64(0))])
    refused(written(tmp_path, content), "'x'")


def test_an_endless_header_is_refused(tmp_path: Path) -> None:
    # Each array is within the limits but all of them together are not; a sparse file costs the sender nothing.
    path = tmp_path / "model.gguf"
    with path.open("wb") as file:
        file.write(gguf_file((), (), b"", key_count=9, alignment=1))
        for index in range(9):
            file.write(array(b"k%d" % index, UINT64, [], 2**22))
            file.seek(8 << 22, os.SEEK_CUR)
        file.truncate()
    with refusal(ModelError, path):
        read_header(path)


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        ([key(b"x", UINT8, b"\1"), key(b"x", UINT8, b"\2")], "'x'"),
        ([string(b"") + u32(UINT8) + b"\0"], ""),
        ([key(b"a\0b", UINT8, b"\0")], ""),
        ([key(b"\xff\xfe", UINT8, b"\0")], ""),
        ([key(b"x", 13, b"\0" * 16)], "13"),
        ([key(b"x", 2**32 - 1, b"\0" * 16)], "4294967295"),
        ([array(b"x", 13, [], 0)], "13"),
        ([key(b"x", BOOL, b"\2")], " 2"),
        ([array(b"x", BOOL, [b"\0", b"\xff"])], " 255"),
        ([key(b"\x1b[2J" * 99, 77, b"")], "77"),
        ([key(b"general.alignment", UINT32, u32(0))], " 0"),
        ([key(b"general.alignment", UINT32, u32(1))], " 1"),
        ([key(b"general.alignment", UINT32, u32(3))], " 3"),
        ([key(b"general.alignment", UINT32, u32(24))], " 24"),
        ([key(b"general.alignment", UINT32, u32(2**31))], f"{2**31}"),
        ([key(b"general.alignment", UINT32, u32(2**32 - 1))], f"{2**32 - 1}"),
        ([key(b"general.alignment", UINT64, u64(32))], " 10"),
        ([key(b"general.alignment", STRING, string(b"32"))], " 8"),
        ([array(b"general.alignment", UINT32, [u32(32)])], " 9"),
    ],
)
def test_forged_metadata_is_refused(tmp_path: Path, keys: list[bytes], value: str) -> None:
    refused(written(tmp_path, gguf_file(keys)), value)


# CVE-2026-7482: declared bytes must lie in the file.
@pytest.mark.parametrize(
    ("tensors", "value"),
    [
        ([tensor(dimensions=0)], " 0 "),
        ([tensor(shape=(2,) * 5)], " 5 "),
        ([tensor(dimensions=2**31)], f"{2**31}"),
        ([tensor(dimensions=2**32 - 1)], f"{2**32 - 1}"),
        ([tensor(shape=(0,))], "(0,)"),
        ([tensor(shape=(8, 0))], "(8, 0)"),
        ([tensor(shape=(2**64 - 1,))], "shape"),
        ([tensor(shape=(2**63,))], "shape"),
        ([tensor(shape=(2**32, 2**32))], "shape"),
        ([tensor(shape=(2**16,) * 4)], "shape"),
        ([tensor(shape=(2**33, 2**31, 1, 1))], "shape"),
        ([tensor(shape=(2**62,))], ""),
        ([tensor(shape=(2**60 + 2**2,))], ""),
        ([tensor(shape=(8,), kind=4)], "4"),
        ([tensor(shape=(8,), kind=2**31)], f"{2**31}"),
        ([tensor(shape=(33,), kind=Q8_0)], "33"),
        ([tensor(shape=(16, 2), kind=Q4_0)], "16"),
        ([tensor(offset=1)], " 1 "),
        ([tensor(offset=32)], " 32 "),
        ([tensor(offset=2**63)], f"{2**63}"),
        ([tensor(offset=2**64 - 32)], f"{2**64 - 32}"),
        ([tensor(), tensor(b"b", offset=0)], " 0 "),
        ([tensor(), tensor(b"b", offset=16)], " 16 "),
        ([tensor(), tensor(b"b", offset=64)], " 64 "),
        ([tensor(), tensor(offset=32)], "'a'"),
        ([tensor(b"")], ""),
        ([tensor(b"a\0b")], ""),
        ([tensor(b"\xc3")], ""),
        ([tensor(b"n" * 64)], "64"),
        ([tensor(shape=(8, 100))], ""),
    ],
)
def test_forged_tensors_are_refused(tmp_path: Path, tensors: list[bytes], value: str) -> None:
    refused(written(tmp_path, gguf_file(KEYS, tensors)), value)


def test_tensors_that_together_exceed_the_file_are_refused(tmp_path: Path) -> None:
    # Each of them alone would fit.
    tensors = [tensor(b"t%d" % index, (24,), offset=96 * index) for index in range(3)]
    refused(written(tmp_path, gguf_file((), tensors, bytes(200))))


def test_a_file_cut_at_any_byte_is_refused(tmp_path: Path) -> None:
    content = gguf_file()
    for length in range(len(content)):
        path = written(tmp_path, content[:length])
        with refusal(ModelError, path):
            read_header(path)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_mutated_files_are_read_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(gguf_file())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 8))
        width, code = data.draw(st.sampled_from([(1, "<B"), (4, "<I"), (8, "<Q")]))
        edges = st.sampled_from([0, 1, 2 ** (8 * width - 1), 2 ** (8 * width) - 1])
        value = data.draw(edges | st.integers(0, 2 ** (8 * width) - 1))
        content[place : place + width] = struct.pack(code, value)
    check_outcome(written(tmp_path, bytes(content)))


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300))
@example(b"")
def test_random_bytes_are_refused(tmp_path: Path, tail: bytes) -> None:
    check_outcome(written(tmp_path, b"GGUF" + u32(3) + tail))
