"""Small checkpoints of Llama 3, Nemo, Qwen 2 and 3, SmolLM3, OLMo 2 and Granite 3, with random weights.

Each kind of checkpoint always has the same bytes. Tests need this: the expected files in golden/convert/ were made from
these checkpoints. Each tensor's random numbers have their own seed, so they do not depend on the vocabulary's size.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.support.cut_vocabularies import TOKENIZERS
from tests.support.tiny_checkpoints import write_safetensors

WIDTH, INNER, LAYERS, HEADS, KV_HEADS = 32, 48, 5, 4, 2

_COMMON = {
    "hidden_act": "silu", "hidden_size": WIDTH, "intermediate_size": INNER, "max_position_embeddings": 1024,
    "num_attention_heads": HEADS, "num_hidden_layers": LAYERS, "num_key_value_heads": KV_HEADS, "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False, "torch_dtype": "bfloat16",
}  # fmt: skip

CONFIGS: Mapping[str, Mapping[str, Any]] = {
    # The rotation's frequencies are computed; tied, as Llama 3.2.
    "llama3": _COMMON | {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "head_dim": 16, "tie_word_embeddings": True,
        "bos_token_id": 128000, "eos_token_id": [128001, 128008, 128009], "rope_theta": 500000.0,
        "rope_scaling": {
            "rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 256,
        },
    },
    "qwen2": _COMMON | {
        "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "rope_theta": 1000000.0, "rms_norm_eps": 1e-6,
        "tie_word_embeddings": True, "use_sliding_window": False, "sliding_window": 1024, "max_window_layers": 3,
        "bos_token_id": 151643, "eos_token_id": 151645,
    },
    # With yarn, as Qwen's model cards advise for long texts.
    "qwen3": _COMMON | {
        "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "head_dim": 16, "rope_theta": 1000000.0,
        "attention_bias": False, "use_sliding_window": False, "bos_token_id": 151643, "eos_token_id": 151645,
        "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 256},
    },
    # The fourth layer has no rotation.
    "smollm3": _COMMON | {
        "architectures": ["SmolLM3ForCausalLM"], "model_type": "smollm3", "rope_theta": 5000000.0,
        "tie_word_embeddings": True, "no_rope_layers": [1, 1, 1, 0, 1], "no_rope_layer_interval": 4,
        "eos_token_id": 128012, "pad_token_id": 128004, "attention_bias": False, "mlp_bias": False,
    },
    # A head is larger than width / heads.
    "nemo": _COMMON | {
        "architectures": ["MistralForCausalLM"], "model_type": "mistral", "head_dim": 12, "rope_theta": 1000000.0,
        "bos_token_id": 1, "eos_token_id": 2, "sliding_window": None,
    },
    "olmo2": _COMMON | {
        "architectures": ["Olmo2ForCausalLM"], "model_type": "olmo2", "rope_theta": 500000.0, "rms_norm_eps": 1e-6,
        "eos_token_id": 100257, "pad_token_id": 100277, "torch_dtype": "float32", "attention_bias": False,
    },
    # Scaled linearly for long texts.
    "granite": _COMMON | {
        "architectures": ["GraniteForCausalLM"], "model_type": "granite", "rope_theta": 10000000.0,
        "tie_word_embeddings": True, "attention_multiplier": 0.25, "embedding_multiplier": 12.0,
        "residual_multiplier": 0.22, "logits_scaling": 8.0, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0,
        "rope_scaling": {"rope_type": "linear", "factor": 2.0}, "attention_bias": False, "mlp_bias": False,
    },
}  # fmt: skip


def write_checkpoint(folder: Path, kind: str, *, tokens: int | None = None, **changes: Any) -> Path:
    """Write a checkpoint with the configuration CONFIGS[kind] to `folder`, and return `folder`.

    `tokens`: the size of the vocabulary, if it differs from that in CONFIGS. Then no tokenizer is written.
    `changes`: changes to the configuration.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = {**CONFIGS[kind], "vocab_size": tokens or TOKENIZERS[kind].size}
    kind_of = {"bfloat16": "BF16", "float32": "F32"}[config["torch_dtype"]]
    weights = {name: _stored(name, shape, kind_of) for name, shape in shapes(config).items()}
    write_safetensors(folder / "model.safetensors", weights, kind_of)
    (folder / "config.json").write_text(json.dumps(config | changes), "utf-8")
    if tokens is None:
        TOKENIZERS[kind].write(folder)
    return folder


def shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor of a checkpoint, by name."""
    model, width, inner = config["model_type"], config["hidden_size"], config["intermediate_size"]
    head = config.get("head_dim", width // config["num_attention_heads"])
    query, key = config["num_attention_heads"] * head, config["num_key_value_heads"] * head
    layer = {
        "self_attn.q_proj.weight": (query, width), "self_attn.k_proj.weight": (key, width),
        "self_attn.v_proj.weight": (key, width), "self_attn.o_proj.weight": (width, query),
        "mlp.gate_proj.weight": (inner, width), "mlp.up_proj.weight": (inner, width),
        "mlp.down_proj.weight": (width, inner), "post_attention_layernorm.weight": (width,),
    }  # fmt: skip
    layer |= {"post_feedforward_layernorm.weight" if model == "olmo2" else "input_layernorm.weight": (width,)}
    if model == "qwen2":
        layer |= {f"self_attn.{name}_proj.bias": (size,) for name, size in (("q", query), ("k", key), ("v", key))}
    if model in {"qwen3", "olmo2"}:
        sizes = (head, head) if model == "qwen3" else (query, key)
        layer |= {f"self_attn.{name}_norm.weight": (size,) for name, size in zip("qk", sizes, strict=True)}
    tensors: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (config["vocab_size"], width)}
    for number in range(config["num_hidden_layers"]):
        tensors |= {f"model.layers.{number}.{name}": shape for name, shape in layer.items()}
    tensors["model.norm.weight"] = (width,)
    if not config["tie_word_embeddings"]:
        tensors["lm_head.weight"] = (config["vocab_size"], width)
    return tensors


def _stored(name: str, shape: tuple[int, ...], kind: str) -> NDArray[Any]:
    generator = np.random.default_rng(zlib.crc32(name.encode()))
    values: NDArray[Any] = generator.standard_normal(shape, dtype=np.float32)
    # Matrices keep a text's numbers in size; norms are near 1.
    values = values / np.float32(math.sqrt(shape[-1])) if len(shape) > 1 else 1 + values / np.float32(8)
    values = values.astype(np.float32)
    return (values.view(np.uint32) >> 16).astype(np.uint16) if kind == "BF16" else values
