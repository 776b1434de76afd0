"""Tests that our converter makes the same tensors and metadata as llama.cpp's converter.

The checkpoints are Llama 3, Nemo, Qwen 2 and 3, SmolLM3, OLMo 2 and Granite 3, with random weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ecellm_lite.cli.main import run_command
from ecellm_lite.convert.architectures import architecture_of
from ecellm_lite.convert.checkpoint import Checkpoint
from ecellm_lite.errors import ModelError
from tests.support.decoder_checkpoints import CONFIGS, write_checkpoint
from tests.support.golden_conversions import MEANT, blueprint, golden, metadata_of, tensors_of
from tests.support.llama_quantize import requantize
from tests.support.refusals import refusal

# The tensors whose bytes change with the number of tokens.
VOCABULARY = {"token_embd.weight", "output.weight"}
TOKENS = 8

# Where the metadata differs, beside MEANT.
OTHER = {
    "qwen2": {"ecellm.tokenizer.normal_form"},
    "qwen3": {"ecellm.tokenizer.normal_form"},
    # llama.cpp's name for SmolLM3's tokenizer does not take whole words as tokens (byte_pair_vocabulary.py).
    "smollm3": {"tokenizer.ggml.pre"},
    # Without effect on a byte-level vocabulary.
    "granite": {"tokenizer.ggml.add_space_prefix"},
}


@pytest.mark.parametrize("kind", CONFIGS)
def test_tensors_of_the_layers_are_those_of_llama_cpp(kind: str, tmp_path: Path) -> None:
    tensors, expected = tensors_of(write_checkpoint(tmp_path, kind, tokens=TOKENS)), golden(kind)["tensors"]
    assert tensors.keys() == expected.keys()
    assert {name for name in expected if tensors[name] != expected[name]} == VOCABULARY & expected.keys()


@pytest.mark.slow
@pytest.mark.parametrize("kind", CONFIGS)
def test_all_tensors_are_those_of_llama_cpp(kind: str, tmp_path: Path) -> None:
    assert tensors_of(write_checkpoint(tmp_path, kind)) == golden(kind)["tensors"]


@pytest.mark.parametrize("kind", CONFIGS)
def test_metadata_is_that_of_llama_cpp(kind: str, tmp_path: Path) -> None:
    values, expected = metadata_of(write_checkpoint(tmp_path / kind, kind)), golden(kind)["metadata"]
    other = {key for key in values.keys() | expected.keys() if values.get(key) != expected.get(key)}
    assert other == set(MEANT) | OTHER.get(kind, set[str]())
    assert values["general.name"] == ["STRING", kind]


@pytest.mark.parametrize(
    ("kind", "changes", "value"),
    [
        ("qwen2", {"use_sliding_window": True}, "use_sliding_window"),
        ("qwen2", {"layer_types": ["full_attention"] * 4 + ["sliding_attention"]}, "layer_types"),
        ("qwen2", {"head_dim": 16}, "head_dim"),
        ("qwen2", {"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "rope_type"),
        ("qwen3", {"attention_bias": True}, "attention_bias"),
        ("qwen3", {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "original_max_position_embeddings"),
        (
            "qwen3",
            {
                "rope_scaling": {
                    "rope_type": "yarn",
                    "factor": 4.0,
                    "original_max_position_embeddings": 256,
                    "mscale": 1.0,
                }
            },
            "mscale",
        ),
        ("smollm3", {"no_rope_layers": [1, 1, 1, 1, 1]}, "no_rope_layers"),
        ("smollm3", {"no_rope_layers": 4}, "no_rope_layers"),
        ("smollm3", {"no_rope_layers": None, "no_rope_layer_interval": 3}, "no_rope_layer_interval"),
        ("smollm3", {"mlp_bias": True}, "mlp_bias"),
        ("olmo2", {"tie_word_embeddings": True}, "tie_word_embeddings"),
        ("olmo2", {"attention_bias": True}, "attention_bias"),
        ("granite", {"logits_scaling": 0}, "logits_scaling"),
        ("granite", {"residual_multiplier": "x"}, "residual_multiplier"),
        (
            "llama3",
            {"rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 4.0}},
            "high_freq_factor",
        ),
        # Mixtures of experts
        ("llama3", {"architectures": ["MixtralForCausalLM"]}, "MixtralForCausalLM"),
        ("qwen3", {"architectures": ["Qwen3MoeForCausalLM"]}, "Qwen3MoeForCausalLM"),
        ("qwen3", {"num_experts": 128}, "mixture of experts"),
        ("granite", {"architectures": ["GraniteMoeForCausalLM"]}, "mixture of experts"),
    ],
)
def test_models_that_llama_cpp_would_compute_wrongly_are_refused(
    kind: str, changes: dict[str, Any], value: str, tmp_path: Path
) -> None:
    with refusal(ModelError, value):
        blueprint(write_checkpoint(tmp_path, kind, tokens=TOKENS, **changes))


ABSURD = [-1, 0, 10**9, 10**30, 1.5, True, "64", [], {}, float("nan"), float("inf"), [64]]
SHAPES = [
    "hidden_size", "intermediate_size", "num_attention_heads", "num_hidden_layers", "num_key_value_heads", "vocab_size",
    "head_dim", "hidden_act",
]  # fmt: skip


@pytest.mark.parametrize("kind", CONFIGS)
def test_absurd_configurations_are_used_or_refused(kind: str, tmp_path: Path) -> None:
    with Checkpoint(write_checkpoint(tmp_path, kind, tokens=TOKENS)) as checkpoint:
        config = checkpoint.config
        for name in (*SHAPES, *config.keys() - {"torch_dtype", "model_type"}):
            for value in ABSURD:
                checkpoint.config = config | {name: value}
                try:
                    architecture_of(checkpoint.config).blueprint(checkpoint)
                except ModelError:
                    continue
                assert name not in SHAPES, (name, value)


@pytest.mark.parametrize("kind", ["llama3", "qwen2", "granite"])
def test_the_rope_scaling_of_transformers_5_is_read(kind: str, tmp_path: Path) -> None:
    old = write_checkpoint(tmp_path / "old", kind, tokens=TOKENS)
    rope = {"rope_theta": CONFIGS[kind]["rope_theta"], **CONFIGS[kind].get("rope_scaling", {"rope_type": "default"})}
    changes = {"rope_theta": None, "rope_scaling": None, "rope_parameters": rope}
    new = write_checkpoint(tmp_path / "new", kind, tokens=TOKENS, **changes)
    metadata = [dict(blueprint(folder).metadata) for folder in (old, new)]
    assert all(each.pop("general.name") for each in metadata)
    assert metadata[0] == metadata[1]
    assert tensors_of(old) == tensors_of(new)


@pytest.mark.slow
@pytest.mark.parametrize("kind", CONFIGS)
def test_one_pass_gives_the_bytes_of_llama_quantize(kind: str, tmp_path: Path) -> None:
    base, f32 = write_checkpoint(tmp_path / "base", kind), tmp_path / "f32.gguf"
    for file_type in ("F32", "Q8_0", "Q4_K_M", "Q3_K_M"):
        target = tmp_path / f"{file_type.lower()}.gguf"
        arguments = ["convert", str(base), "-o", str(target), "--quant", file_type, "--envelope", "alpaca", "--quiet"]
        assert run_command(arguments) == 0
        if file_type != "F32":
            requantize(f32, tmp_path / "theirs.gguf", file_type)
            assert target.read_bytes() == (tmp_path / "theirs.gguf").read_bytes(), file_type
