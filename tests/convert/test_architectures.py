"""Tests that our converter writes the same tensors and metadata as llama.cpp's own converter, byte for byte."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ecellm_lite.convert.architectures import architecture_of
from ecellm_lite.convert.checkpoint import Checkpoint
from ecellm_lite.errors import ModelError
from tests.support.golden_conversions import MEANT, blueprint, golden, metadata_of, tensors_of
from tests.support.refusals import refusal
from tests.support.tiny_checkpoints import CONFIGS, WIDTH, shapes, write_checkpoint, write_safetensors

# By the kind of checkpoint, more differences.
# Gemma's runs of spaces are merged, as in its own tokenizer. llama.cpp's converter has them cut out before.
_RUNS = {"tokenizer.ggml.tokens", "tokenizer.ggml.scores", "tokenizer.ggml.token_type"}
OTHERWISE = {
    # It has nothing but tokenizer.json, for which llama.cpp's converter gives all tokens the score -1000.
    "llama": {"tokenizer.ggml.scores"},
    "gemma2": _RUNS,
    "gemma3": _RUNS,
    "gemma3-images": _RUNS,
}
SMALL = {"vocab_size": 8}


@pytest.mark.parametrize("kind", CONFIGS)
def test_tensors_are_those_of_llama_cpp(kind: str, tmp_path: Path) -> None:
    assert tensors_of(write_checkpoint(tmp_path, kind, tokenizer=False)) == golden(kind)["tensors"]


@pytest.mark.parametrize("kind", CONFIGS)
def test_metadata_is_that_of_llama_cpp(kind: str, tmp_path: Path) -> None:
    values, expected = metadata_of(write_checkpoint(tmp_path / kind, kind)), golden(kind)["metadata"]
    other = {key for key in values.keys() | expected.keys() if values.get(key) != expected.get(key)}
    assert other == set(MEANT) | OTHERWISE.get(kind, set())
    assert values["general.name"] == ["STRING", kind]


def test_a_tied_model_has_a_recipe_for_an_output_matrix_of_its_own(tmp_path: Path) -> None:
    drawn = blueprint(write_checkpoint(tmp_path, "smollm", tokenizer=False, **SMALL))
    assert drawn.tied
    assert drawn.output is not None
    assert (drawn.output.name, drawn.output.module) == ("output.weight", "lm_head")
    assert drawn.output.source == "model.embed_tokens.weight"
    assert "output.weight" not in {recipe.name for recipe in drawn.recipes}
    assert (drawn.model.layers, drawn.model.heads, drawn.model.kv_heads) == (2, 4, 2)


def test_tensors_have_the_module_names_that_adapters_use(tmp_path: Path) -> None:
    drawn = blueprint(write_checkpoint(tmp_path, "mistral", tokenizer=False, **SMALL))
    modules = {recipe.name: recipe.module for recipe in drawn.recipes}
    assert modules["blk.1.attn_q.weight"] == "model.layers.1.self_attn.q_proj"
    assert modules["output.weight"] == "lm_head"
    assert not drawn.tied
    assert drawn.output is None


def rewritten(folder: Path, **tensors: np.ndarray[Any, Any] | None) -> Path:
    """Write a checkpoint of the kind `smollm` to a folder, and return the folder.

    It has a vocabulary of 8 tokens, and all its weights are 0.

    `tensors`: tensors to replace or add, by name. None removes a tensor.
    """
    write_checkpoint(folder, "smollm", tokenizer=False, **SMALL)
    all_of = shapes({**CONFIGS["smollm"], **SMALL})
    weights: dict[str, Any] = {name: np.zeros(shape, np.float32) for name, shape in all_of.items()}
    weights = {name: values for name, values in (weights | tensors).items() if values is not None}
    write_safetensors(folder / "model.safetensors", weights, "F32")
    return folder


def test_constants_and_a_tied_output_matrix_are_left_out(tmp_path: Path) -> None:
    extra = {"model.layers.0.self_attn.rotary_emb.inv_freq": np.zeros(8, np.float32)}
    extra["lm_head.weight"] = np.zeros((8, WIDTH), np.float32)
    drawn = blueprint(rewritten(tmp_path, **extra))
    assert len(drawn.recipes) == 20
    assert drawn.tied


@pytest.mark.parametrize(
    ("name", "shape", "value"),
    [
        ("lm_head.weight", (8, WIDTH), "tie_word_embeddings"),
        ("lm_head.weight", (4, WIDTH), "tie_word_embeddings"),
        ("model.layers.2.mlp.up_proj.weight", (1,), "up_proj"),
        ("model.layers.0.self_attn.q_norm.weight", (16,), "q_norm"),
        ("model.norm.weight", (WIDTH + 1,), "[65]"),
        ("model.norm.weight", None, "'model.norm.weight'"),
        ("model.layers.1.mlp.up_proj.weight", None, "'model.layers.1.mlp.up_proj.weight'"),
        ("model.layers.1.self_attn.q_proj.bias", (3,), "[64]"),
    ],
)
def test_tensors_of_the_wrong_shape_are_refused(
    name: str, shape: tuple[int, ...] | None, value: str, tmp_path: Path
) -> None:
    changed = None if shape is None else np.ones(shape, np.float32)
    with refusal(ModelError, value):
        blueprint(rewritten(tmp_path, **{name: changed}))


def test_a_tensor_of_integers_is_refused(tmp_path: Path) -> None:
    folder = rewritten(tmp_path)
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data.replace(b'"F32"', b'"I32"'))
    with refusal(ModelError, "I32"):
        blueprint(folder)


ABSURD = [-1, 0, 10**9, 10**30, 1.5, True, "64", [], {}, float("nan"), float("inf"), [64]]
_READ = {
    "smollm": [
        "hidden_size", "intermediate_size", "num_attention_heads", "num_hidden_layers", "num_key_value_heads",
        "vocab_size", "max_position_embeddings", "head_dim", "rms_norm_eps", "rope_theta", "hidden_act",
        "tie_word_embeddings", "attention_bias", "rope_scaling", "rope_parameters", "architectures",
    ],
    "phi": [
        "hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads", "num_hidden_layers",
        "vocab_size", "layer_norm_eps", "partial_rotary_factor", "hidden_act", "rope_theta", "rope_scaling",
    ],
}  # fmt: skip


@pytest.mark.parametrize("kind", _READ)
def test_absurd_configurations_are_used_or_refused(kind: str, tmp_path: Path) -> None:
    with Checkpoint(write_checkpoint(tmp_path, kind, tokenizer=False, **SMALL)) as checkpoint:
        config = checkpoint.config
        for name in _READ[kind]:
            for value in ABSURD:
                checkpoint.config = config | {name: value}
                harmless = name in {"rms_norm_eps", "layer_norm_eps", "rope_theta", "max_position_embeddings"}
                harmless |= name in {"rope_scaling", "rope_parameters"} and value == {}
                harmless |= name in {"tie_word_embeddings", "attention_bias"} and value is True
                try:
                    architecture_of(checkpoint.config).blueprint(checkpoint)
                except ModelError:
                    continue
                assert harmless, (name, value)
            if name in {"hidden_size", "vocab_size", "num_hidden_layers", "max_position_embeddings"}:
                checkpoint.config = {key: setting for key, setting in config.items() if key != name}
                with refusal(ModelError, name):
                    architecture_of(checkpoint.config).blueprint(checkpoint)


@pytest.mark.parametrize(
    ("kind", "changes", "value"),
    [
        ("smollm", {"hidden_act": "gelu"}, "hidden_act"),
        ("smollm", {"rope_scaling": {"type": "dynamic", "factor": 8.0}}, "rope_type"),
        ("smollm", {"rope_scaling": {"rope_type": None, "type": "dynamic", "factor": 8.0}}, "rope_type"),
        ("smollm", {"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "low_freq_factor"),
        ("smollm", {"rope_scaling": {"rope_type": "linear"}}, "factor"),
        ("smollm", {"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        ("smollm", {"quantization_config": {"quant_method": "gptq"}}, "quantization_config"),
        ("smollm", {"num_attention_heads": 3}, "3"),
        ("smollm", {"attention_bias": True}, "q_proj.bias"),
        ("smollm", {"tie_word_embeddings": False}, "lm_head.weight"),
        ("phi", {"num_attention_heads": 5, "num_key_value_heads": 5}, "5 heads"),
        ("phi", {"qk_layernorm": True}, "qk_layernorm"),
        ("phi", {"tie_word_embeddings": True}, "tie_word_embeddings"),
        ("phi", {"hidden_act": "silu"}, "hidden_act"),
        ("phi", {"partial_rotary_factor": 0.2}, "0.2"),
        ("phi", {"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_type"),
        ("smollm", {"architectures": ["MixtralForCausalLM"]}, "MixtralForCausalLM"),
        ("smollm", {"architectures": ["LlamaForCausalLM", "X"]}, "architectures"),
        ("smollm", {"architectures": None, "model_type": "gpt_oss"}, "gpt_oss"),
        ("smollm", {"architectures": None, "model_type": 7}, "architectures"),
    ],
)
def test_models_that_llama_cpp_would_compute_wrongly_are_refused(
    kind: str, changes: dict[str, Any], value: str, tmp_path: Path
) -> None:
    with refusal(ModelError, value):
        blueprint(write_checkpoint(tmp_path, kind, tokenizer=False, **SMALL, **changes))


def test_the_configuration_of_transformers_5_is_read(tmp_path: Path) -> None:
    rope = {"rope_type": "linear", "rope_theta": 5000.0, "factor": 4.0}
    changes = {"rope_theta": None, "rope_parameters": rope, "architectures": None}
    metadata = blueprint(write_checkpoint(tmp_path, "smollm", tokenizer=False, **SMALL, **changes)).metadata
    assert metadata["llama.rope.freq_base"] == ("FLOAT32", 5000.0)
    assert metadata["llama.rope.scaling.type"] == ("STRING", "linear")
    assert metadata["llama.rope.scaling.factor"] == ("FLOAT32", 4.0)


def test_a_snapshot_of_the_hub_is_named_by_its_repository(tmp_path: Path) -> None:
    folder = tmp_path / "models--NingLab--eCeLLM-M" / "snapshots" / ("0" * 40)
    assert blueprint(rewritten(folder)).metadata["general.name"] == ("STRING", "eCeLLM-M")
