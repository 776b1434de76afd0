"""Tests that adapters in PEFT's format are read, and that adapters that cannot be merged are refused."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ecellm_lite.convert.adapter import read_adapter
from ecellm_lite.errors import ModelError
from tests.support.refusals import refusal
from tests.support.small_checkpoints import bf16, factors, write_adapter

QUERY, DOWN = "model.layers.0.self_attn.q_proj", "model.layers.0.mlp.down_proj"
BOTH = factors(QUERY, 8, 6) | factors(DOWN, 6, 12)


def test_a_lora_adapter_is_read(tmp_path: Path) -> None:
    adapter = read_adapter(write_adapter(tmp_path, BOTH, base_model_name_or_path="a/b"))
    assert adapter.factors.keys() == {QUERY, DOWN}
    query = adapter.factors[QUERY]
    assert query.a.tobytes() == BOTH[f"{QUERY}.lora_A.weight"].tobytes()
    assert query.b.tobytes() == BOTH[f"{QUERY}.lora_B.weight"].tobytes()
    assert (query.scale, adapter.magnitudes, adapter.base_model) == (2.0, {}, "a/b")
    assert [one.path.name for one in adapter.inputs] == ["adapter_config.json", "adapter_model.safetensors"]
    assert not adapter.saved
    assert not adapter.base_layers


def test_16_bit_factors_are_widened(tmp_path: Path) -> None:
    tensors: dict[str, NDArray[Any]] = {name: bf16(values) for name, values in factors(QUERY, 8, 6).items()}
    tensors |= {name: values.astype(np.float16) for name, values in factors(DOWN, 6, 12).items()}
    adapter = read_adapter(write_adapter(tmp_path, tensors))
    a = tensors[f"{QUERY}.lora_A.weight"]
    assert (adapter.factors[QUERY].a == (a.astype(np.uint32) << 16).view(np.float32)).all()
    assert (adapter.factors[DOWN].b == tensors[f"{DOWN}.lora_B.weight"].astype(np.float32)).all()


@pytest.mark.parametrize(
    ("config", "scales"),
    [
        ({"lora_alpha": 3}, (3 / 4, 3 / 4)),
        ({"use_rslora": True}, (8 / 2, 8 / 2)),
        ({"alpha_pattern": {"q_proj": 2}}, (2 / 4, 8 / 4)),
        ({"alpha_pattern": {r"layers\.\d+\.self_attn\.q_proj": 2, "q_proj": 3}}, (2 / 4, 8 / 4)),
        ({"alpha_pattern": {"^model.layers.0.self_attn.q_proj": 2}}, (2 / 4, 8 / 4)),
        ({"alpha_pattern": {"proj": 2}}, (8 / 4, 8 / 4)),
        ({"alpha_pattern": {r"k_proj|model\.layers\.0\..*proj$": 2}}, (2 / 4, 2 / 4)),
        ({"alpha_pattern": {r"layers.\d+.mlp.down_proj$": 2}}, (8 / 4, 2 / 4)),
        ({"alpha_pattern": {r".*\.1\d+\.q_proj": 2}}, (8 / 4, 8 / 4)),
        ({"alpha_pattern": {"mlp.down.proj|q_pro": 2}}, (8 / 4, 2 / 4)),
        ({"r": 16, "rank_pattern": {"q_proj": 4, DOWN: 4}, "use_rslora": True}, (8 / 2, 8 / 2)),
        ({"lora_alpha": 0.5, "rank_pattern": {}, "alpha_pattern": None}, (0.125, 0.125)),
    ],
)
def test_scales_follow_ranks_alphas_and_their_patterns(
    config: dict[str, Any], scales: tuple[float, float], tmp_path: Path
) -> None:
    adapter = read_adapter(write_adapter(tmp_path, BOTH, **config))
    assert (adapter.factors[QUERY].scale, adapter.factors[DOWN].scale) == scales


def test_rslora_divides_by_the_root_of_each_rank(tmp_path: Path) -> None:
    tensors = factors(QUERY, 8, 6, rank=3) | factors(DOWN, 6, 12)
    adapter = read_adapter(write_adapter(tmp_path, tensors, rank_pattern={"q_proj": 3}, use_rslora=True))
    assert adapter.factors[QUERY].scale == 8 / math.sqrt(3)


def test_a_dora_adapter_has_magnitudes(tmp_path: Path) -> None:
    for number, key in enumerate(("lora_magnitude_vector", "lora_magnitude_vector.weight")):
        tensors = factors(QUERY, 8, 6) | {f"{QUERY}.{key}": np.arange(8, dtype=np.float32)}
        adapter = read_adapter(write_adapter(tmp_path / str(number), tensors, use_dora=True))
        assert adapter.magnitudes[QUERY].tolist() == list(range(8))


def test_an_embedding_adapter_adds_the_transposed_product(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    a, b = (generator.standard_normal(shape).astype(np.float32) for shape in ((4, 20), (6, 4)))
    tensors = {"model.embed_tokens.lora_embedding_A": a, "model.embed_tokens.lora_embedding_B": b}
    embedding = read_adapter(write_adapter(tmp_path / "one", tensors)).factors["model.embed_tokens"]
    np.testing.assert_allclose(embedding.b @ embedding.a, (b @ a).T, rtol=1e-5, atol=1e-6)
    tensors["model.embed_tokens.lora_magnitude_vector"] = np.ones(20, dtype=np.float32)
    with refusal(ModelError, "'model.embed_tokens'", "DoRA", file=str(tmp_path / "two")):
        read_adapter(write_adapter(tmp_path / "two", tensors, use_dora=True))


def test_whole_tensors_are_read_in_blocks(tmp_path: Path) -> None:
    matrix = np.arange(60, dtype=np.float32).reshape(10, 6)
    folder = write_adapter(
        tmp_path, {"lm_head.weight": bf16(matrix), "x.base_layer.bias": matrix[:, 1].astype(np.float16)}
    )
    adapter = read_adapter(folder)
    whole, bias = adapter.saved["lm_head.weight"], adapter.base_layers["x.bias"]
    assert [(first, block.shape, block.dtype.name) for first, block in whole.blocks(25)] == [
        (0, (4, 6), "float32"),
        (4, (4, 6), "float32"),
        (8, (2, 6), "float32"),
    ]
    assert (whole.values() == matrix).all()
    some = whole.part(slice(3, 9)).part(slice(1, None))
    assert (some.values() == matrix[4:9]).all()
    assert [first for first, _ in some.blocks(1)] == [0, 1, 2, 3, 4]
    assert (bias.values() == matrix[:, 1]).all()
    write_adapter(tmp_path, {"lm_head.weight": matrix[1:]})
    with refusal(ModelError, file=str(folder / "adapter_model.safetensors")):
        whole.values()


def test_saved_modules_and_base_layers_are_told_apart(tmp_path: Path) -> None:
    one = np.ones((3, 6), dtype=np.float32)
    tensors = {"lm_head.modules_to_save.weight": one, "model.norm.weight": one[0], "x.base_layer.weight": one * 2}
    adapter = read_adapter(write_adapter(tmp_path, {**factors(QUERY, 8, 6), **tensors}))
    assert {name: values.shape for name, values in adapter.saved.items()} == {
        "lm_head.weight": (3, 6),
        "model.norm.weight": (6,),
    }
    assert adapter.base_layers["x.weight"].values().tobytes() == (one * 2).tobytes()


@pytest.mark.parametrize(
    ("config", "value"),
    [
        ({"peft_type": "LOHA"}, "LOHA"),
        ({"peft_type": None}, "None"),
        ({"fan_in_fan_out": True}, "fan_in_fan_out"),
        ({"lora_bias": True}, "lora_bias"),
        ({"bias": "all"}, "bias"),
        ({"use_qalora": True}, "use_qalora"),
        ({"layer_replication": [[0, 4]]}, "layer_replication"),
        ({"target_parameters": ["x"]}, "target_parameters"),
        ({"trainable_token_indices": [1]}, "trainable_token_indices"),
        ({"alora_invocation_tokens": [1]}, "alora_invocation_tokens"),
        ({"ensure_weight_tying": True}, "ensure_weight_tying"),
        ({"init_lora_weights": "pissa_niter_4"}, "init_lora_weights"),
        ({"init_lora_weights": "olora"}, "init_lora_weights"),
        ({"use_dora": True}, "DoRA"),
        ({"r": 5}, " 5"),
        ({"r": None}, "None"),
        ({"r": True}, "True"),
        ({"r": 4.0}, "4.0"),
        ({"lora_alpha": 0}, "alpha"),
        ({"lora_alpha": -0.0}, "alpha"),
        ({"lora_alpha": 1e-60}, "alpha"),
        ({"lora_alpha": 10**400}, "alpha"),
        ({"lora_alpha": True}, "alpha"),
        ({"alpha_pattern": {"q_proj": 0}}, "alpha"),
        ({"lora_alpha": "8"}, "alpha"),
        ({"lora_alpha": float("inf")}, "alpha"),
        ({"lora_alpha": None}, "alpha"),
        ({"alpha_pattern": [1]}, "alpha_pattern"),
        ({"alpha_pattern": {"(": 1}}, "_pattern"),
        ({"alpha_pattern": {"[z-a]": 1}}, "_pattern"),
        ({"alpha_pattern": {r"\d+\d+": 1}}, "_pattern"),
        ({"alpha_pattern": {r"\d+1": 1}}, "_pattern"),
        ({"alpha_pattern": {"a?b": 1}}, "_pattern"),
        ({"alpha_pattern": {r"q\Wproj": 1}}, "_pattern"),
        ({"alpha_pattern": {str(number): 1 for number in range(1 << 20)}}, "alpha_pattern"),
        ({"alpha_pattern": {"(a+)+": 1}}, "_pattern"),
        ({"rank_pattern": {"a" * 300: 1}}, "_pattern"),
        ({"rank_pattern": {".*.*.*.*.*x": 1}}, "_pattern"),
    ],
)
def test_settings_that_cannot_be_merged_exactly_are_refused(config: dict[str, Any], value: str, tmp_path: Path) -> None:
    with refusal(ModelError, value):
        read_adapter(write_adapter(tmp_path, BOTH, **config))


@pytest.mark.parametrize(
    ("tensors", "value"),
    [
        ({}, ""),
        ({f"{QUERY}.lora_A.weight": np.ones((4, 6), np.float32)}, QUERY),
        ({f"{QUERY}.lora_magnitude_vector": np.ones(8, np.float32)}, QUERY),
        ({f"{QUERY}.lora_C.weight": np.ones((4, 6), np.float32)}, "lora_C"),
        ({f"{QUERY}.lora_B.bias": np.ones(8, np.float32)}, "lora_B.bias"),
        (
            {
                f"{QUERY}.lora_A.weight": np.ones((4, 6, 1, 1), np.float32),
                f"{QUERY}.lora_B.weight": np.ones((8, 4, 1, 1), np.float32),
            },
            QUERY,
        ),
        (
            {
                f"{QUERY}.lora_A.weight": np.ones((4, 6), np.float32),
                f"{QUERY}.lora_B.weight": np.ones((8, 3), np.float32),
            },
            QUERY,
        ),
        ({**factors(QUERY, 8, 6), f"{QUERY}.lora_magnitude_vector": np.ones(8, np.float32)}, QUERY),
        ({**factors(QUERY, 8, 6), f"{QUERY}.lora_embedding_A": np.ones((4, 6), np.float32)}, QUERY),
        (
            {
                f"{QUERY}.lora_magnitude_vector": np.ones(8, np.float32),
                f"{QUERY}.lora_magnitude_vector.weight": np.ones(8, np.float32),
            },
            QUERY,
        ),
        (
            {
                "lm_head.weight": np.ones((3, 6), np.float32),
                "lm_head.modules_to_save.weight": np.ones((3, 6), np.float32),
            },
            "'lm_head.weight'",
        ),
        ({f"{QUERY}.lora_A.weight": np.ones((0, 6), np.float32)}, QUERY),
    ],
)
def test_unknown_keys_are_refused(tensors: Any, value: str, tmp_path: Path) -> None:
    with refusal(ModelError, value):
        read_adapter(write_adapter(tmp_path, tensors))


def test_incomplete_folders_are_refused(tmp_path: Path) -> None:
    with refusal(ModelError, file=str(tmp_path / "none")):
        read_adapter(tmp_path / "none")
    folder = write_adapter(tmp_path / "one", BOTH)
    weights = folder / "adapter_model.safetensors"
    data = weights.read_bytes()
    weights.unlink()
    with refusal(ModelError, file=str(weights)):
        read_adapter(folder)
    (folder / "adapter_model.bin").write_bytes(b"\x80\x04.")
    with refusal(ModelError, "safe_serialization=True", file=str(folder / "adapter_model.bin")):
        read_adapter(folder)
    weights.write_bytes(data.replace(b"base_model.model.", b"other_name.model."))
    with refusal(ModelError, "base_model.model."):
        read_adapter(folder)
    weights.unlink()
    (tmp_path / "elsewhere").write_bytes(data)
    weights.symlink_to(tmp_path / "elsewhere")
    with refusal(ModelError, tmp_path / "elsewhere", file=str(weights)):
        read_adapter(folder)
    for text in (b"", b"[]", b"{", json.dumps({"peft_type": ["LORA"]}).encode()):
        (folder / "adapter_config.json").write_bytes(text)
        with pytest.raises(ModelError):
            read_adapter(folder)
