"""Phi-3, Phi-3.5 and Phi-4. They have fused matrices, and scaling factors for long contexts.

The matrices of queries, keys and values are fused into one, and so are the two input matrices of the feed-forward
network. llama.cpp keeps the fused matrices. The names of tensors and metadata come from llama.cpp's converter
(conversion/phi.py) and loader (src/models/phi3.cpp). llama.cpp uses full attention even if the model has a sliding
window.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ecellm_lite.convert.architectures.decoder import NORMS, Decoder, Dimensions, checked_config
from ecellm_lite.convert.architectures.hyperparameters import Hyperparameters, rope_parameters, unsupported
from ecellm_lite.convert.blueprint import Blueprint, MetadataValue
from ecellm_lite.convert.checkpoint import Checkpoint

_LONG = ("longrope", "su", "yarn")  # transformers takes the two old names for the first


def blueprint(checkpoint: Checkpoint) -> Blueprint:
    """Return the GGUF blueprint of a Phi-3 checkpoint. Raises ModelError if it cannot be converted."""
    config = checked_config(checkpoint)
    sizes = Dimensions.of(config)
    sizes.check_head_size()
    rope = rope_parameters(config)
    rotated = _rotated(rope, sizes.size)
    decoder = Decoder("phi3", checkpoint, sizes)
    decoder.take_ends(config.flag("tie_word_embeddings", False))
    fused = sizes.width + 2 * sizes.kv_heads * sizes.size
    for layer in range(sizes.layers):
        ours, theirs = f"blk.{layer}.", f"model.layers.{layer}."
        for name, source in NORMS.items():
            decoder.recipes.take(f"{ours}{name}.weight", f"{theirs}{source}.weight", (sizes.width,))
        for name, source, shape in (
            ("attn_qkv", "self_attn.qkv_proj", (fused, sizes.width)),
            ("attn_output", "self_attn.o_proj", (sizes.width, sizes.width)),
            ("ffn_up", "mlp.gate_up_proj", (2 * sizes.inner, sizes.width)),
            ("ffn_down", "mlp.down_proj", (sizes.width, sizes.inner)),
        ):
            decoder.recipes.take(f"{ours}{name}.weight", f"{theirs}{source}.weight", shape)
    original = rope if rope.values.get("original_max_position_embeddings") is not None else config
    original_context = original.count("original_max_position_embeddings", 4096)
    metadata: dict[str, MetadataValue] = {
        **decoder.metadata(config, epsilon=1e-5),
        "phi3.rope.scaling.original_context_length": ("UINT32", original_context),
        "phi3.rope.dimension_count": ("UINT32", rotated),
        "phi3.rope.freq_base": ("FLOAT32", rope.number("rope_theta", 10000.0)),
        # 0 tells llama.cpp that the model is Phi-4.
        "phi3.attention.sliding_window": ("UINT32", config.count("sliding_window", None) if _window(config) else 0),
    }
    if rope.one_of("rope_type", ("default", *_LONG), "default") != "default":
        for length in ("long", "short"):
            decoder.recipes.compute(f"rope_factors_{length}.weight", _factors(rope, f"{length}_factor", rotated // 2))
        attention = _attention_factor(rope, config.count("max_position_embeddings"), original_context)
        metadata["phi3.rope.scaling.attn_factor"] = ("FLOAT32", attention)
    return decoder.finish(metadata)


def _window(config: Hyperparameters) -> bool:
    return config.values.get("sliding_window") is not None


def _rotated(rope: Hyperparameters, size: int) -> int:
    """Return how many of a head's `size` values the rotary embedding (`rope`) rotates."""
    factor = rope.number("partial_rotary_factor", 1.0)
    rotated = int(factor * size)
    if factor > 1 or rotated < 2 or rotated % 2:
        raise unsupported(
            f"rotates {factor:g} of a head of size {size}, which is not an even number", "partial_rotary_factor"
        )
    return rotated


def _factors(rope: Hyperparameters, name: str, count: int) -> NDArray[np.float32]:
    """Return RoPE's frequency factors, of shape (count,).

    Each pair of values in a head has its own factor, by which its rotation frequency is divided.
    """
    values = rope.values.get(name)
    if not isinstance(values, list) or len(values) != count:
        raise unsupported(f"has no list of {count} numbers as {name}", name)
    return np.array([Hyperparameters({name: value}).number(name) for value in values], dtype=np.float32)


def _attention_factor(rope: Hyperparameters, context: int, original: int) -> float:
    """Return the factor by which the rotated queries and keys are multiplied.

    `context`: the longest context in tokens. `original`: the context before it was extended.

    The formula is from _compute_longrope_parameters in modeling_rope_utils.py of transformers.
    """
    if rope.values.get("attention_factor") is not None:
        return rope.number("attention_factor")
    factor = rope.number("factor", context / original)
    return math.sqrt(1 + math.log(factor) / math.log(original)) if factor > 1 and original > 1 else 1.0
