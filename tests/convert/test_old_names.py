"""Tests that old module names in an adapter for Phi-2 are replaced by the names that today's checkpoints have."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ecellm_lite.convert.adapter import read_adapter
from ecellm_lite.convert.old_names import with_current_names
from ecellm_lite.errors import ModelError
from tests.support.refusals import refusal
from tests.support.small_checkpoints import factors, write_adapter

STACK = "transformer.h.3.mixer.Wqkv"


def test_a_stacked_module_becomes_three_modules_that_share_a(tmp_path: Path) -> None:
    weights = factors(STACK, 12, 6) | factors("transformer.h.3.mlp.fc1", 8, 6) | factors("lm_head.linear", 9, 6)
    weights |= factors("transformer.h.0.mixer.out_proj", 6, 6)
    weights[f"{STACK}.lora_magnitude_vector"] = np.arange(12, dtype=np.float32)
    weights["transformer.h.3.mlp.fc1.lora_magnitude_vector"] = np.ones(8, np.float32)
    weights["lm_head.linear.lora_magnitude_vector"] = np.ones(9, np.float32)
    weights["transformer.h.0.mixer.out_proj.lora_magnitude_vector"] = np.ones(6, np.float32)
    weights["lm_head.ln.weight"] = np.ones(6, np.float32)
    weights["lm_head.linear.base_layer.weight"] = np.ones((9, 6), np.float32)
    weights["lm_head.linear.base_layer.bias"] = np.ones(9, np.float32)
    weights[f"{STACK}.bias"] = np.arange(12, dtype=np.float32)
    adapter = read_adapter(write_adapter(tmp_path, weights, use_dora=True))
    current = with_current_names(adapter, "phi2")
    attention = "model.layers.3.self_attn"
    assert current.factors.keys() == {
        *(f"{attention}.{part}_proj" for part in "qkv"),
        "model.layers.3.mlp.fc1",
        "model.layers.0.self_attn.dense",
        "lm_head",
    }
    for place, part in enumerate("qkv"):
        each = current.factors[f"{attention}.{part}_proj"]
        rows = slice(4 * place, 4 * place + 4)
        assert each.a.tobytes() == weights[f"{STACK}.lora_A.weight"].tobytes()
        assert (each.b == weights[f"{STACK}.lora_B.weight"][rows]).all()
        assert current.magnitudes[f"{attention}.{part}_proj"].tolist() == list(range(12))[rows]
        assert current.saved[f"{attention}.{part}_proj.bias"].values().tolist() == list(range(12))[rows]
    assert current.saved.keys() >= {"model.final_layernorm.weight"}
    assert current.base_layers.keys() == {"lm_head.weight", "lm_head.bias"}
    assert with_current_names(adapter, "llama") is adapter


def test_current_names_are_kept(tmp_path: Path) -> None:
    weights = factors("model.layers.0.mlp.fc1", 8, 6) | factors("lm_head", 9, 6)
    adapter = read_adapter(write_adapter(tmp_path, weights))
    assert with_current_names(adapter, "phi2") == adapter


def test_stacks_that_cannot_be_split_are_refused(tmp_path: Path) -> None:
    adapter = read_adapter(write_adapter(tmp_path / "one", factors(STACK, 13, 6)))
    with refusal(ModelError, STACK, 13):
        with_current_names(adapter, "phi2")
    both = factors("lm_head.linear", 9, 6) | factors("lm_head", 9, 6)
    adapter = read_adapter(write_adapter(tmp_path / "two", both))
    with refusal(ModelError, "lm_head"):
        with_current_names(adapter, "phi2")
