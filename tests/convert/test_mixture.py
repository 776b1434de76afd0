"""Tests that files of mixed types, such as Q4_K_M, have the types and bytes that llama.cpp's quantizer writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecellm_lite import kernels
from ecellm_lite.convert.mixture import DEFAULTS, ModelShape, summary, tensor_types
from ecellm_lite.errors import UsageError
from ecellm_lite.models.gguf_header import Header, read_header
from ecellm_lite.tensor_types import FILE_TYPES
from tests.support.llama_quantize import requantize
from tests.support.refusals import refusal
from tests.support.tiny_models import write_tiny_model

# Layers, heads, heads of keys and values, width, inner width, tied.
MODELS = {
    "llama": (9, 4, 4, 256, 256, False),
    "mistral": (16, 8, 2, 256, 512, False),
    "tied, odd rows": (11, 4, 1, 288, 512, True),
    "odder rows": (8, 3, 3, 96, 144, True),
}


def write_model(path: Path, name: str) -> Path:
    layers, heads, kv_heads, width, inner, tied = MODELS[name]
    return write_tiny_model(
        path, layers=layers, heads=heads, heads_kv=kv_heads, embedding=width, feed_forward=inner, tied=tied
    )


def quantized(source: Path, target: Path, file_type: str) -> Header:
    requantize(source, target, file_type)
    return read_header(target)


def shapes(header: Header) -> dict[str, tuple[int, ...]]:
    return {one.name: tuple(reversed(one.shape)) for one in header.tensors}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if "odd" in name else pytest.mark.slow) for name in MODELS]
)
def test_types_and_bytes_are_those_of_llama_quantize(name: str, tmp_path: Path) -> None:
    source = write_model(tmp_path / "f32.gguf", name)
    plain = read_header(source)
    data = np.memmap(source, dtype=np.uint8, mode="r")
    rows = {
        one.name: data[one.offset : one.offset + one.size].view(np.float32).reshape(-1, one.shape[0])
        for one in plain.tensors
    }
    for file_type in DEFAULTS:
        header = quantized(source, tmp_path / "out.gguf", file_type)
        types = tensor_types(shapes(plain), file_type, ModelShape(*MODELS[name][:3]))
        assert [one.name for one in header.tensors] == list(types), file_type
        assert {one.name: one.type.name for one in header.tensors} == types, file_type
        assert header.metadata["general.file_type"] == FILE_TYPES[file_type]
        assert list(header.metadata)[-2:] == ["general.quantization_version", "general.file_type"]
        written = np.fromfile(header.path, dtype=np.uint8)
        for one in header.tensors:
            ours = kernels.quantize(rows[one.name], one.type.name, threads=2)
            assert ours.tobytes() == written[one.offset : one.offset + one.size].tobytes(), (file_type, one.name)


def test_eighty_layers_with_shared_heads_get_q5_k() -> None:
    names = [f"blk.{layer}.attn_v.weight" for layer in range(80)]
    tensors = dict.fromkeys(names, (1024, 8192))
    assert summary(tensor_types(tensors, "Q4_K_S", ModelShape(80, 64, 8)).values()) == {"Q5_K": 80}


def test_overrides_go_before_the_rules() -> None:
    tensors: dict[str, tuple[int, ...]] = {f"blk.{layer}.ffn_down.weight": (256, 512) for layer in range(2)}
    tensors |= {"blk.0.attn_norm.weight": (256,), "output.weight": (32, 100)}
    types = tensor_types(
        tensors,
        "Q4_K_M",
        ModelShape(2, 4, 4),
        overrides=[(r"blk\.1\.", "f16"), ("ffn_down", "Q6_K"), ("output", "Q4_K")],
    )
    assert types == {
        "output.weight": "F16",
        "blk.0.attn_norm.weight": "F32",
        "blk.0.ffn_down.weight": "Q6_K",
        "blk.1.ffn_down.weight": "F16",
    }


@pytest.mark.parametrize(
    ("file_type", "overrides", "value"),
    [
        ("Q4_X", [], "'Q4_X'"),
        ("Q4_K_M", [("x", "Q9_K")], "'Q9_K'"),
        ("Q4_K_M", [("(", "Q4_K")], "'('"),
        ("Q4_K_M", [("x", "Q4_K")], "'x'"),
        ("Q4_K_M", [("norm", "Q4_K")], "'norm'"),
    ],
)
def test_unknown_types_and_overrides_are_refused(file_type: str, overrides: Any, value: str) -> None:
    with refusal(UsageError, value, settings=("overrides",) if overrides else ("file_type",)):
        tensor_types({"a_norm.weight": (4, 4)}, file_type, ModelShape(1, 1, 1), overrides=overrides)


def test_overrides_apply_to_files_that_are_not_quantized(tmp_path: Path) -> None:
    tensors = {"output.weight": (64, 256), "token_embd.weight": (64, 256)}
    types = tensor_types(tensors, "F16", ModelShape(1, 1, 1), overrides=[("output", "Q8_0")])
    assert types == {"output.weight": "Q8_0", "token_embd.weight": "F16"}


@pytest.mark.slow
def test_types_and_bytes_are_those_of_llama_quantize_with_an_imatrix(tmp_path: Path) -> None:
    source = write_model(tmp_path / "f32.gguf", "mistral")
    plain = read_header(source)
    data = source.read_bytes()
    generator = np.random.default_rng(0)
    importance = {
        one.name: generator.random(one.shape[0]).astype(np.float32)
        for one in plain.tensors
        if one.name.startswith("blk.") and "norm" not in one.name and "blk.3." not in one.name
    }
    for file_type in ("Q4_0", "Q5_0", "Q8_0", "Q2_K", "Q3_K_M", "Q4_K_M", "Q5_K_S", "Q6_K"):
        requantize(source, tmp_path / "out.gguf", file_type, importance=importance)
        header = read_header(tmp_path / "out.gguf")
        types = tensor_types(shapes(plain), file_type, ModelShape(*MODELS["mistral"][:3]), imatrix=True)
        assert {one.name: one.type.name for one in header.tensors} == types, file_type
        written = (tmp_path / "out.gguf").read_bytes()
        offsets = {one.name: one for one in plain.tensors}
        for one in header.tensors:
            there = offsets[one.name]
            rows = np.frombuffer(data[there.offset : there.offset + there.size], dtype=np.float32)
            ours = kernels.quantize(rows.reshape(-1, one.shape[0]), one.type.name, importance.get(one.name), threads=2)
            assert ours.tobytes() == written[one.offset : one.offset + one.size], (file_type, one.name)


@settings(max_examples=100)
@given(
    file_type=st.sampled_from(list(DEFAULTS)),
    names=st.lists(st.sampled_from(["output.weight", "blk.0.ffn_down.weight", "x.bias", "blk.3.attn_v.weight", ""])),
    shape=st.lists(st.integers(1, 600), min_size=1, max_size=3),
    imatrix=st.booleans(),
)
def test_every_tensor_gets_a_type_that_its_rows_fit(
    file_type: str, names: list[str], shape: list[int], imatrix: bool
) -> None:
    tensors = {name: tuple(shape) for name in names}
    types = tensor_types(tensors, file_type, ModelShape(4, 8, 2), imatrix=imatrix)
    assert types.keys() == set(names)
    from ecellm_lite.tensor_types import CONVERTED

    assert all(shape[-1] % CONVERTED[kind].block == 0 for kind in types.values())
