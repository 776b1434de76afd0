"""Tests that the command `convert` writes the same file as llama.cpp's converter and quantizer together."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from ecellm_lite import Runtime
from ecellm_lite.cli.main import run_command
from ecellm_lite.convert.checkpoint import Checkpoint
from ecellm_lite.convert.mixture import DEFAULTS
from ecellm_lite.models.gguf_header import read_header
from tests.support.conversions import close, stored_tensors
from tests.support.llama_quantize import requantize
from tests.support.small_checkpoints import factors, write_adapter

tiny = pytest.importorskip("tests.support.tiny_checkpoints", reason="the small checkpoints are not there")
GOLDEN = Path(__file__).parent.parent / "golden" / "convert"
pytestmark = pytest.mark.slow


def convert(base: Path, target: Path, file_type: str, *more: str) -> bytes:
    arguments = ["convert", str(base), "-o", str(target), "--quant", file_type, "--envelope", "alpaca", "--quiet"]
    assert run_command([*arguments, *more]) == 0
    return target.read_bytes()


@pytest.mark.parametrize("kind", list(tiny.CONFIGS))
def test_one_pass_gives_the_bytes_of_merging_converting_and_quantizing(kind: str, tmp_path: Path) -> None:
    base = tiny.write_checkpoint(tmp_path / kind, kind)
    f32 = tmp_path / "f32.gguf"
    data = convert(base, f32, "F32")
    golden = json.loads((GOLDEN / f"{kind}.json").read_text("utf-8"))["tensors"]
    hashes = {
        one.name: [
            list(reversed(one.shape)),
            hashlib.sha256(data[one.offset : one.offset + one.size]).hexdigest(),
        ]
        for one in read_header(f32).tensors
    }
    assert dict(sorted(hashes.items())) == golden
    for file_type in DEFAULTS:
        requantize(f32, tmp_path / "theirs.gguf", file_type)
        ours = convert(base, tmp_path / "ours.gguf", file_type)
        assert ours == (tmp_path / "theirs.gguf").read_bytes(), file_type
    with Runtime(tmp_path / "ours.gguf") as runtime:
        assert runtime.answer("sentiment_analysis", {"review": "Good."}).value in "ABCDE"


def test_phi_takes_an_adapter_with_old_or_current_names(tmp_path: Path) -> None:
    base = tiny.write_checkpoint(tmp_path / "phi", "phi")
    stack = factors("transformer.h.1.mixer.Wqkv", 3 * 64, 64)
    today = {}
    a, b = (stack[f"transformer.h.1.mixer.Wqkv.lora_{part}.weight"] for part in "AB")
    for place, part in enumerate("qkv"):
        module = f"model.layers.1.self_attn.{part}_proj"
        today[f"{module}.lora_A.weight"] = a
        today[f"{module}.lora_B.weight"] = np.ascontiguousarray(b[64 * place : 64 * place + 64])
    files = [
        convert(base, tmp_path / f"{name}.gguf", "F32", "--lora", str(write_adapter(tmp_path / name, weights)))
        for name, weights in (("old", stack), ("new", today))
    ]
    assert files[0] == files[1]
    tensors = stored_tensors(read_header(tmp_path / "old.gguf"))
    product = 8 / 4 * (b.astype(np.float64) @ a)
    with Checkpoint(base) as checkpoint:
        for place, part in enumerate("qkv"):
            weight = checkpoint.values(f"model.layers.1.self_attn.{part}_proj.weight").astype(np.float64)
            merged = np.frombuffer(tensors[f"blk.1.attn_{part}.weight"], dtype=np.float32).reshape(64, 64)
            close(merged, weight + product[64 * place : 64 * place + 64])
