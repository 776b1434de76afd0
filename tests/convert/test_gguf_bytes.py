"""Tests that our GGUF headers equal those that gguf-py writes, byte for byte.

Also tests that reading a header returns the values that were written to it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecellm_lite.convert.blueprint import TensorRecipe
from ecellm_lite.convert.gguf_bytes import aligned, header_bytes
from ecellm_lite.convert.planned_tensor import PlannedTensor
from ecellm_lite.errors import EcellmError, ModelError
from ecellm_lite.models.gguf_header import read_header
from ecellm_lite.tensor_types import CONVERTED
from tests.support.refusals import refusal
from tests.support.tiny_models import finish

VALUES: dict[str, tuple[str, Any]] = {
    "general.architecture": ("STRING", "llama"),
    "a.u8": ("UINT8", 255),
    "a.i8": ("INT8", -1),
    "a.u16": ("UINT16", 65535),
    "a.i16": ("INT16", -2),
    "a.u32": ("UINT32", 2**32 - 1),
    "a.i32": ("INT32", -3),
    "a.u64": ("UINT64", 2**64 - 1),
    "a.i64": ("INT64", -4),
    "a.f32": ("FLOAT32", 0.1),
    "a.f64": ("FLOAT64", 0.1),
    "a.bool": ("BOOL", True),
    "a.text": ("STRING", "Köln ▁ \U0001f600"),
    "a.texts": ("ARRAY", ["a", "", "▁b"]),
    "a.integers": ("ARRAY", [1, -2, 3]),
    "a.floats": ("ARRAY", [0.5, -1.0]),
    "a.bools": ("ARRAY", [True, False]),
}


def planned(name: str, shape: tuple[int, ...], offset: int = 0) -> PlannedTensor:
    return PlannedTensor(TensorRecipe(name, name, shape), "F32", CONVERTED["F32"], offset)


def test_headers_equal_those_of_gguf_py(tmp_path: Path) -> None:
    path = tmp_path / "theirs.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    for key, (named, value) in list(VALUES.items())[1:]:
        writer.add_key_value(key, value, gguf.GGUFValueType[named])
    tensors = {"one": np.ones((3, 5), np.float32), "two.weight": np.ones(7, np.float32)}
    for name, values in tensors.items():
        writer.add_tensor(name, values)
    finish(writer)
    theirs = path.read_bytes()
    ours = header_bytes(VALUES, [planned("one", (3, 5)), planned("two.weight", (7,), 64)])
    assert theirs[: len(ours)] == ours
    assert len(theirs) == len(ours) + 64 + 32


@given(
    numbers=st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=9),
    texts=st.lists(st.text(), min_size=1, max_size=9),
)
def test_arrays_survive_a_round_trip(
    numbers: list[int], texts: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    try:
        [text.encode() for text in texts]
    except UnicodeEncodeError:
        return
    path = tmp_path_factory.mktemp("h") / "x.gguf"
    more = np.arange(3, dtype=np.uint64)
    path.write_bytes(header_bytes({"n": ("ARRAY", numbers), "t": ("ARRAY", texts), "u": ("ARRAY", more)}, []))
    metadata = read_header(path).metadata
    assert np.asarray(metadata["n"]).tolist() == numbers
    assert metadata["t"] == tuple(texts)
    assert np.asarray(metadata["u"]).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    "value",
    [
        ("UINT8", 256),
        ("UINT32", -1),
        ("UINT32", "1"),
        ("STRING", 1),
        ("ARRAY", []),
        ("ARRAY", [1, "a"]),
        ("ARRAY", [1, True]),
        ("ARRAY", [2**40]),
        ("ARRAY", [None]),
        ("ARRAY", np.array(["a"])),
        ("COMPLEX", 1),
    ],
)
def test_values_of_another_type_are_refused(value: tuple[str, Any]) -> None:
    with refusal(EcellmError, "x.y", value[0]):
        header_bytes({"x.y": value}, [])


def test_names_that_are_too_long_are_refused() -> None:
    with refusal(EcellmError, 63):
        header_bytes({}, [planned("x" * 64, (1,))])


def test_a_name_that_is_not_utf8_is_refused() -> None:
    with refusal(ModelError, r"'x\udcff'"):
        header_bytes({}, [planned("x\udcff", (1,))])


def test_offsets_are_aligned() -> None:
    assert [aligned(offset) for offset in (0, 1, 32, 33)] == [0, 32, 32, 64]
