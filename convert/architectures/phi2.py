"""Phi-2. It has layer norms with biases, and attention in parallel with the feed-forward network.

The rotary embedding rotates only a part of each head. The names of tensors and metadata come from llama.cpp's converter
(conversion/phi.py) and loader (src/models/phi2.cpp).
"""

from __future__ import annotations

from ecellm_lite.convert.architectures.decoder import MAX_LAYERS
from ecellm_lite.convert.architectures.hyperparameters import Hyperparameters, rope_parameters, unsupported
from ecellm_lite.convert.architectures.recipes import Recipes, general_metadata
from ecellm_lite.convert.blueprint import Blueprint, MetadataValue
from ecellm_lite.convert.checkpoint import Checkpoint
from ecellm_lite.convert.mixture import ModelShape

_ROPE_THETA = 10000.0  # llama.cpp's default


def blueprint(checkpoint: Checkpoint) -> Blueprint:
    """Return the GGUF blueprint of a Phi-2 checkpoint. Raises ModelError if it cannot be converted."""
    config = Hyperparameters(checkpoint.config)
    config.refuse("quantization_config", "only 16-bit checkpoints can be converted")
    config.refuse("qk_layernorm", "llama.cpp's phi2 has no norms for queries and keys")
    config.refuse("tie_word_embeddings", "llama.cpp's phi2 needs a separate output matrix")
    config.one_of("hidden_act", ("gelu_new", "gelu_pytorch_tanh"), "gelu_new")
    width, vocabulary = config.count("hidden_size"), config.count("vocab_size")
    layers, heads = config.count("num_hidden_layers", most=MAX_LAYERS), config.count("num_attention_heads")
    kv_heads = config.count("num_key_value_heads", heads)
    if width % heads or heads % kv_heads:
        raise unsupported(
            f"has {heads} heads for a width of {width}, and {kv_heads} for keys and values, which do not divide each "
            "other",
            "num_attention_heads",
        )
    size, inner = width // heads, config.count("intermediate_size", 4 * width)
    rope = rope_parameters(config)
    rope.one_of("rope_type", ("default",), "default")
    factor = rope.number("partial_rotary_factor", 0.5)
    rotated = int(factor * size)
    if factor > 1 or rotated < 2 or rotated % 2:
        raise unsupported(
            f"rotates {factor:g} of a head of size {size}, which is not an even number", "partial_rotary_factor"
        )
    recipes = Recipes(checkpoint)

    def both(name: str, source: str, *shape: int) -> None:
        recipes.take(f"{name}.weight", f"{source}.weight", shape)
        recipes.take(f"{name}.bias", f"{source}.bias", shape[:1])

    recipes.take("token_embd.weight", "model.embed_tokens.weight", (vocabulary, width))
    both("output_norm", "model.final_layernorm", width)
    both("output", "lm_head", vocabulary, width)
    for layer in range(layers):
        ours, theirs = f"blk.{layer}.", f"model.layers.{layer}."
        both(f"{ours}attn_norm", f"{theirs}input_layernorm", width)
        both(f"{ours}attn_q", f"{theirs}self_attn.q_proj", width, width)
        both(f"{ours}attn_k", f"{theirs}self_attn.k_proj", kv_heads * size, width)
        both(f"{ours}attn_v", f"{theirs}self_attn.v_proj", kv_heads * size, width)
        both(f"{ours}attn_output", f"{theirs}self_attn.dense", width, width)
        both(f"{ours}ffn_up", f"{theirs}mlp.fc1", inner, width)
        both(f"{ours}ffn_down", f"{theirs}mlp.fc2", width, inner)
    metadata: dict[str, MetadataValue] = {
        **general_metadata("phi2", checkpoint),
        "phi2.context_length": ("UINT32", config.count("max_position_embeddings")),
        "phi2.embedding_length": ("UINT32", width),
        "phi2.feed_forward_length": ("UINT32", inner),
        "phi2.block_count": ("UINT32", layers),
        "phi2.attention.head_count": ("UINT32", heads),
        "phi2.attention.head_count_kv": ("UINT32", kv_heads),
        "phi2.attention.layer_norm_epsilon": ("FLOAT32", config.number("layer_norm_eps", 1e-5)),
        "phi2.rope.dimension_count": ("UINT32", rotated),
    }
    theta = rope.number("rope_theta", _ROPE_THETA)
    if theta != _ROPE_THETA:
        metadata["phi2.rope.freq_base"] = ("FLOAT32", theta)
    return Blueprint("phi2", ModelShape(layers, heads, kv_heads), metadata, recipes.finish())
