"""Small Hugging Face checkpoints with random weights and real tokenizers, for each architecture of the converter.

The same kind always gives the same bytes, because the expected files in golden/convert/ were made from these
checkpoints.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.support.gemma_phi_checkpoints import GEMMA_PHI, GEMMA_PHI_TOKENIZERS, gemma_phi_shapes
from tests.support.tiny_tokenizers import (
    write_mistral_model,
    write_mistral_tokenizer,
    write_phi_files,
    write_smollm_tokenizer,
)

WIDTH, INNER, LAYERS = 64, 96, 2

_LLAMA = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "hidden_size": WIDTH,
    "intermediate_size": INNER, "max_position_embeddings": 512, "num_attention_heads": 4, "num_hidden_layers": LAYERS,
    "num_key_value_heads": 2, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "vocab_size": 32000,
    "tie_word_embeddings": False, "bos_token_id": 1, "eos_token_id": 2, "torch_dtype": "float16",
}  # fmt: skip

CONFIGS: Mapping[str, Mapping[str, Any]] = {
    # Grouped queries, tied, bfloat16, byte-level BPE: as SmolLM2.
    "smollm": _LLAMA
    | {"tie_word_embeddings": True, "rope_theta": 100000.0, "vocab_size": 49152, "torch_dtype": "bfloat16"},
    # Grouped queries, a head that is not width / heads, shards, SentencePiece's own file: as Mistral.
    "mistral": _LLAMA
    | {"architectures": ["MistralForCausalLM"], "model_type": "mistral", "head_dim": 24, "rope_theta": 1000000.0}
    | {"sliding_window": 128},
    # As many heads for keys as for queries, biases, tokenizer.json alone: as eCeLLM-L, but for the biases.
    "llama": _LLAMA | {"num_key_value_heads": 4, "attention_bias": True, "mlp_bias": True, "torch_dtype": "float32"},
    "phi": {
        "architectures": ["PhiForCausalLM"], "model_type": "phi", "hidden_act": "gelu_new", "hidden_size": WIDTH,
        "intermediate_size": 4 * WIDTH, "layer_norm_eps": 1e-5, "max_position_embeddings": 512,
        "num_attention_heads": 4, "num_hidden_layers": LAYERS, "num_key_value_heads": 4, "partial_rotary_factor": 0.5,
        "rope_theta": 10000.0, "qk_layernorm": False, "tie_word_embeddings": False, "vocab_size": 51200,
        "bos_token_id": 50256, "eos_token_id": 50256, "torch_dtype": "float16",
    },
    **GEMMA_PHI,
}  # fmt: skip

_TOKENIZERS: Mapping[str, Callable[[Path], None]] = {
    "smollm": write_smollm_tokenizer,
    "mistral": write_mistral_model,
    "llama": write_mistral_tokenizer,
    "phi": write_phi_files,
    **GEMMA_PHI_TOKENIZERS,
}
_SEEDS = {"llama": 0, "mistral": 1, "phi": 2, "smollm": 3}  # of the others: the hash of their names
_DTYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}


def write_checkpoint(folder: Path, kind: str, *, tokenizer: bool = True, **changes: Any) -> Path:
    """Write a checkpoint with the configuration CONFIGS[kind] to `folder`, and return `folder`.

    `tokenizer`: whether to write the tokenizer too.
    `changes`: settings to change in the written config.json. Of these, only `vocab_size` changes the weights too.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = dict(CONFIGS[kind])
    generator = np.random.default_rng(_SEEDS.get(kind, zlib.crc32(kind.encode())))
    dtype = _DTYPES[config["torch_dtype"]]
    sized = config | {"vocab_size": changes["vocab_size"]} if "vocab_size" in changes else config
    # Near 1, the norms of a layer let all of it count.
    ones = "norm.weight" if kind in {"phi3", "phi4"} else "nothing"
    weights = {
        name: _stored(generator.normal(1.0 if name.endswith(ones) else 0.0, 0.1, shape), dtype)
        for name, shape in shapes(sized).items()
    }
    if kind == "mistral":
        names = list(weights)
        _write_sharded(folder, weights, [names[: len(names) // 2], names[len(names) // 2 :]], dtype)
    else:
        write_safetensors(folder / "model.safetensors", weights, dtype)
    written = config | changes
    if "text_config" in config and "vocab_size" in changes:
        written["text_config"] = config["text_config"] | {"vocab_size": written.pop("vocab_size")}
    (folder / "config.json").write_text(json.dumps(written), "utf-8")
    if tokenizer:
        _TOKENIZERS[kind](folder)
    return folder


def shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor of a checkpoint, by name."""
    if config["model_type"].startswith(("gemma", "phi3")):
        return gemma_phi_shapes(config)
    width, inner, size = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    head = config.get("head_dim", width // config["num_attention_heads"])
    query, key = config["num_attention_heads"] * head, config["num_key_value_heads"] * head
    tensors: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (size, width)}
    if config["model_type"] == "phi":
        parts = {
            "input_layernorm": (width,), "self_attn.q_proj": (query, width), "self_attn.k_proj": (key, width),
            "self_attn.v_proj": (key, width), "self_attn.dense": (width, query), "mlp.fc1": (inner, width),
            "mlp.fc2": (width, inner),
        }  # fmt: skip
        for layer in range(config["num_hidden_layers"]):
            for name, shape in parts.items():
                tensors[f"model.layers.{layer}.{name}.weight"] = shape
                tensors[f"model.layers.{layer}.{name}.bias"] = shape[:1]
        ends = {"model.final_layernorm": (width,), "lm_head": (size, width)}
        for name, shape in ends.items():
            tensors[f"{name}.weight"], tensors[f"{name}.bias"] = shape, shape[:1]
        return tensors
    parts = {
        "self_attn.q_proj": (query, width), "self_attn.k_proj": (key, width), "self_attn.v_proj": (key, width),
        "self_attn.o_proj": (width, query), "mlp.gate_proj": (inner, width), "mlp.up_proj": (inner, width),
        "mlp.down_proj": (width, inner),
    }  # fmt: skip
    for layer in range(config["num_hidden_layers"]):
        for name, shape in parts.items():
            tensors[f"model.layers.{layer}.{name}.weight"] = shape
            if config.get("attention_bias"):
                tensors[f"model.layers.{layer}.{name}.bias"] = shape[:1]
        tensors[f"model.layers.{layer}.input_layernorm.weight"] = (width,)
        tensors[f"model.layers.{layer}.post_attention_layernorm.weight"] = (width,)
    tensors["model.norm.weight"] = (width,)
    if not config["tie_word_embeddings"]:
        tensors["lm_head.weight"] = (size, width)
    return tensors


def write_safetensors(path: Path, weights: Mapping[str, NDArray[Any]], dtype: str) -> None:
    """Write arrays as one safetensors file. For the type BF16, the arrays contain the 16 bits of each value."""
    header, end = {}, 0
    for name, values in weights.items():
        header[name] = {"dtype": dtype, "shape": values.shape, "data_offsets": [end, end + values.nbytes]}
        end += values.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(values.tobytes() for values in weights.values()))


def _write_sharded(folder: Path, weights: Mapping[str, NDArray[Any]], shards: list[list[str]], dtype: str) -> None:
    where = {}
    for place, names in enumerate(shards, start=1):
        file = f"model-{place:05}-of-{len(shards):05}.safetensors"
        write_safetensors(folder / file, {name: weights[name] for name in names}, dtype)
        where.update(dict.fromkeys(names, file))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}), "utf-8")


def _stored(values: NDArray[np.float64], dtype: str) -> NDArray[Any]:
    if dtype == "BF16":
        return (values.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    return values.astype(np.float16 if dtype == "F16" else np.float32)
