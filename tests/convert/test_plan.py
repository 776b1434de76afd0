"""Tests conversion plans. Also tests that the bytes of the written file are right for every block size."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ecellm_lite import ggml_quantizer
from ecellm_lite.convert.adapter import read_adapter
from ecellm_lite.convert.checkpoint import Checkpoint
from ecellm_lite.convert.merging import WeightedAdapter
from ecellm_lite.convert.mixture import DEFAULTS
from ecellm_lite.convert.writer import unfinished_paths
from ecellm_lite.errors import ModelError, UsageError
from ecellm_lite.tensor_types import FILE_TYPES
from tests.support.conversions import QUERY, carry_out, converted, floats, planned, stored_tensors
from tests.support.refusals import refusal
from tests.support.small_checkpoints import WIDTH, bf16, blueprint, factors, weights, write_adapter, write_checkpoint


@pytest.mark.parametrize("file_type", list(DEFAULTS))
def test_each_written_tensor_is_its_quantized_source(file_type: str, tmp_path: Path) -> None:
    kind = {"F16": "F16", "F32": "F32"}.get(file_type, "BF16")
    tensors = weights(kind)
    header = converted(write_checkpoint(tmp_path / "base", tensors), tmp_path / "out.gguf", file_type)
    quantized, sources = stored_tensors(header), floats(tensors)
    assert quantized.keys() == sources.keys()
    for one in header.tensors:
        values = sources[one.name].reshape(-1, one.shape[0])
        assert quantized[one.name] == ggml_quantizer.quantize_chunk(values, one.type).tobytes(), one.name
    assert header.metadata["general.file_type"] == FILE_TYPES[file_type]
    assert header.metadata["general.quantization_version"] == 2
    assert header.metadata["general.name"] == "small"


@pytest.mark.parametrize("block_weights", [1, 3 * WIDTH, 1 << 22])
def test_the_bytes_do_not_depend_on_the_block_size(block_weights: int, tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", weights())
    adapter = write_adapter(tmp_path / "lora", factors(QUERY, WIDTH, WIDTH))
    converted(base, tmp_path / "one.gguf", adapters=[(adapter, 1.0)])
    converted(base, tmp_path / "two.gguf", adapters=[(adapter, 1.0)], block_weights=block_weights)
    assert (tmp_path / "one.gguf").read_bytes() == (tmp_path / "two.gguf").read_bytes()


def test_a_weight_that_is_not_finite_is_named(tmp_path: Path) -> None:
    tensors = weights()
    tensors["model.layers.1.mlp.up_proj.weight"][300, 7] = 0x7F80
    with refusal(ModelError, 256, 44, 7, field="blk.1.ffn_up.weight"):
        converted(write_checkpoint(tmp_path / "base", tensors), tmp_path / "out.gguf")
    assert not (tmp_path / "out.gguf").exists()
    # Resuming would fail at the same weight.
    assert not any(path.exists() for path in unfinished_paths(tmp_path / "out.gguf"))


def test_a_weight_that_is_too_large_for_its_type_is_named(tmp_path: Path) -> None:
    tensors = weights()
    tensors["model.layers.1.mlp.up_proj.weight"][300, 7] = bf16(np.array([1e9], dtype=np.float32))[0]
    base = write_checkpoint(tmp_path / "base", tensors)
    with refusal(ModelError, 256, 44, 0, "Q4_0", field="blk.1.ffn_up.weight"):
        converted(base, tmp_path / "out.gguf", "Q4_0")
    assert not any(path.exists() for path in (tmp_path / "out.gguf", *unfinished_paths(tmp_path / "out.gguf")))
    converted(base, tmp_path / "out.gguf", "BF16")


def test_a_plan_reports_types_bytes_and_memory(tmp_path: Path) -> None:
    with Checkpoint(write_checkpoint(tmp_path / "base", weights())) as source:
        plan = planned(source, overrides=[("ffn_down", "q8_0"), (r"blk\.0\..*_up", "F16")])
        assert plan.types == {"Q4_K": 11, "F32": 5, "Q8_0": 2, "Q6_K": 2, "F16": 1}
        assert plan.read_bytes == sum(values.nbytes for values in weights().values())
        with refusal(UsageError, settings=("max_memory",)):
            planned(source, max_memory=1 << 20)
        small = planned(source, max_memory=plan.memory - (64 << 20))
        assert small.block_weights < plan.block_weights
        assert small.identity == planned(source).identity
        with refusal(ModelError, settings=("file_type",), file=str(tmp_path / "out.gguf")):
            replace(plan, size=1 << 60).check_room(tmp_path / "out.gguf")
        with refusal(ModelError, settings=("max_memory",)):
            replace(plan, memory=1 << 60).check_room(tmp_path / "out.gguf")
        with refusal(UsageError, settings=("target",), file=str(tmp_path / "base" / "model.safetensors")):
            carry_out(plan, source, tmp_path / "base" / "model.safetensors")


def test_the_identity_changes_with_everything_that_affects_the_bytes(tmp_path: Path) -> None:
    one, two = (
        WeightedAdapter(read_adapter(write_adapter(tmp_path / str(seed), factors(QUERY, WIDTH, WIDTH, seed=seed))))
        for seed in (1, 2)
    )
    with Checkpoint(write_checkpoint(tmp_path / "base", weights())) as source:
        plans = [
            planned(source),
            planned(source, "Q4_K_S"),
            planned(source, adapters=[one]),
            planned(source, adapters=[two]),
            planned(source, adapters=[replace(one, weight=0.5)]),
            planned(source, overrides=[("ffn_up", "Q8_0")]),
            planned(source, importance={"blk.0.ffn_up.weight": np.ones(WIDTH, np.float32)}),
            planned(source, drawn=blueprint(metadata={"general.name": ("STRING", "other")})),
        ]
    assert len({plan.identity for plan in plans}) == len(plans)


@pytest.mark.parametrize("file_type", ["F32", "F16", "BF16"])
def test_an_imatrix_is_refused_where_nothing_is_quantized(file_type: str, tmp_path: Path) -> None:
    importance = {"blk.0.ffn_up.weight": np.ones(WIDTH, np.float32)}
    with Checkpoint(write_checkpoint(tmp_path / "base", weights())) as source:
        with refusal(UsageError, file_type, settings=("imatrix", "file_type")):
            planned(source, file_type, importance=importance)
        assert planned(source, file_type, importance=importance, overrides=[("ffn_up", "Q8_0")]).tensors
