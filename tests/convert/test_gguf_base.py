"""Tests of conversions whose base is a GGUF file.

The converted file has the same bytes as a file that llama.cpp quantized. The rows of an adapter are put into the order
of the GGUF file before they are merged.
"""

from __future__ import annotations

import json
import os
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ecellm_lite import ggml_quantizer
from ecellm_lite.cli.main import run_command
from ecellm_lite.convert.gguf_base import GgufBase
from ecellm_lite.errors import ModelError
from ecellm_lite.models.gguf_header import read_header
from ecellm_lite.tensor_types import CONVERTED
from tests.support.llama_quantize import requantize
from tests.support.refusals import refusal
from tests.support.small_checkpoints import factors, rotated, write_adapter
from tests.support.tiny_models import write_tiny_model

LAYERS, HEADS, KV_HEADS, WIDTH, INNER = 4, 8, 2, 256, 512


@pytest.fixture(scope="module")
def f32(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(
        tmp_path_factory.mktemp("base") / "f32.gguf",
        layers=LAYERS,
        embedding=WIDTH,
        heads=HEADS,
        heads_kv=KV_HEADS,
        feed_forward=INNER,
        metadata={"ecellm.envelope": "alpaca"},
    )


def convert(base: Path, target: Path, file_type: str, *more: str) -> bytes:
    assert run_command(["convert", str(base), "-o", str(target), "--quant", file_type, "--quiet", *more]) == 0
    return target.read_bytes()


@pytest.mark.parametrize("source", ["F32", "F16", "Q8_0", "Q4_1", "Q5_K_M"])
@pytest.mark.parametrize("file_type", ["Q4_0", "Q4_K_M", "Q5_K_M", "F16", "Q8_0"])
def test_without_an_adapter_the_file_equals_llama_quantizes(
    source: str, file_type: str, f32: Path, tmp_path: Path
) -> None:
    base = tmp_path / "base.gguf"
    requantize(f32, base, source)
    requantize(base, tmp_path / "theirs.gguf", file_type)
    assert convert(base, tmp_path / "ours.gguf", file_type) == (tmp_path / "theirs.gguf").read_bytes()
    details = json.loads((tmp_path / "ours.gguf.manifest.json").read_text())["details"]
    assert ("lossy_base" in details) == (source not in {"F32", "F16"})


def test_a_scale_that_is_not_finite_is_not_copied(
    f32: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = tmp_path / "base.gguf"
    requantize(f32, base, "Q8_0")
    damaged = next(one for one in read_header(base).tensors if one.name == "blk.1.ffn_up.weight")
    with base.open("r+b") as file:
        file.seek(damaged.offset + 5 * damaged.type.row_bytes(WIDTH) + 2 * damaged.type.block_bytes)
        file.write(b"\x00\xfc")  # -inf
    assert run_command(["convert", str(base), "-o", str(tmp_path / "out.gguf"), "--quant", "Q8_0", "--quiet"]) == 4
    error = capsys.readouterr().err
    assert [value for value in ("blk.1.ffn_up.weight", " 5, ", " 64 ") if value not in error] == []


def test_an_adapters_rows_are_merged_in_the_order_of_the_checkpoint(f32: Path, tmp_path: Path) -> None:
    base = tmp_path / "base.gguf"
    requantize(f32, base, "Q4_1")
    rows = {"q": WIDTH, "k": WIDTH // HEADS * KV_HEADS, "v": WIDTH // HEADS * KV_HEADS}
    tensors: dict[str, NDArray[np.float32]] = {}
    for part, count in rows.items():
        tensors |= factors(f"model.layers.1.self_attn.{part}_proj", count, WIDTH)
    tokens = read_header(f32).tensors[0].shape[1]
    tensors |= factors("lm_head", tokens, WIDTH)
    adapter = write_adapter(tmp_path / "lora", tensors)
    target = tmp_path / "out.gguf"
    data = convert(base, target, "F32", "--lora", str(adapter))
    merged = {one.name: data[one.offset : one.offset + one.size] for one in read_header(target).tensors}
    before = base.read_bytes()
    old = {
        one.name: ggml_quantizer.dequantize(
            np.frombuffer(before[one.offset : one.offset + one.size], np.uint8).reshape(one.shape[1], -1),
            one.type,
            one.shape[0],
        )
        for one in read_header(base).tensors
        if len(one.shape) == 2
    }
    for part, heads in (("q", HEADS), ("k", KV_HEADS), ("v", 0)):
        module = f"model.layers.1.self_attn.{part}_proj"
        delta = 2.0 * tensors[f"{module}.lora_B.weight"].astype(np.float64) @ tensors[f"{module}.lora_A.weight"]
        expected = old[f"blk.1.attn_{part}.weight"] + (delta[rotated(heads, len(delta))] if heads else delta)
        values = np.frombuffer(merged[f"blk.1.attn_{part}.weight"], np.float32).reshape(expected.shape)
        assert np.abs(values - expected).max() <= 1e-6 * np.abs(expected).max()
    delta = 2.0 * tensors["lm_head.lora_B.weight"].astype(np.float64) @ tensors["lm_head.lora_A.weight"]
    expected = old["token_embd.weight"] + delta
    values = np.frombuffer(merged["output.weight"], np.float32).reshape(expected.shape)
    assert np.abs(values - expected).max() <= 1e-6 * np.abs(expected).max()
    assert merged["token_embd.weight"] == old["token_embd.weight"].tobytes()
    assert merged["blk.0.attn_q.weight"] == old["blk.0.attn_q.weight"].tobytes()


@pytest.mark.parametrize("experts", [0, 4])
def test_models_with_experts_are_refused(experts: int, tmp_path: Path) -> None:
    metadata = {"llama.expert_count": experts, "llama.expert_used_count": experts // 2} if experts else {}
    base = write_tiny_model(tmp_path / "base.gguf", metadata=metadata)
    with (
        refusal(ModelError, 4, file=str(base)) if experts else nullcontext(),
        GgufBase(base) as base_file,
    ):
        assert base_file.blueprint().architecture == "llama"


def test_a_changed_or_invalid_base_is_refused(f32: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "junk.gguf").write_bytes(b"junk")
    assert run_command(["convert", str(tmp_path / "junk.gguf"), "-o", str(tmp_path / "out.gguf")]) == 4
    assert "b'junk'" in capsys.readouterr().err
    assert run_command(["convert", str(f32), "-o", str(f32)]) == 2
    assert str(f32) in capsys.readouterr().err
    copy = tmp_path / "copy.gguf"
    copy.write_bytes(f32.read_bytes())
    with GgufBase(copy) as base:
        name = base.header.tensors[-1].name
        base.check_unchanged()
        os.truncate(copy, 1000)
        with refusal(ModelError, file=str(copy)):
            base.rows(name)
        with refusal(ModelError, file=str(copy)):
            base.check_unchanged()
        with refusal(ModelError, "'x'", file=str(copy)):
            base.tensor("x")


def test_rows_are_read_as_stored(f32: Path, tmp_path: Path) -> None:
    base = tmp_path / "base.gguf"
    requantize(f32, base, "Q8_0")
    with GgufBase(base) as source:
        assert "blk.0.attn_q.weight" in source
        assert len(list(source)) == len(read_header(base).tensors)
        whole = source.rows("blk.0.attn_q.weight")
        assert whole.shape == (WIDTH, CONVERTED["Q8_0"].row_bytes(WIDTH))
        assert (source.rows("blk.0.attn_q.weight", 3, 2) == whole[3:5]).all()
        assert source.rows("output_norm.weight").tolist() == [1.0] * WIDTH
