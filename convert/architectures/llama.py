"""Llama and models of its architecture: Llama-2, Mistral, SmolLM2.

The names of tensors and the metadata's keys are those of llama.cpp's converter (conversion/llama.py) and loader
(src/models/llama.cpp). Mistral's sliding window is not written to the file: for this architecture, llama.cpp always
attends to the whole context.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ecellm_lite.convert.architectures.hyperparameters import Hyperparameters, rope_parameters, unsupported
from ecellm_lite.convert.architectures.recipes import Recipes, general_metadata
from ecellm_lite.convert.blueprint import Blueprint, MetadataValue, TensorRecipe
from ecellm_lite.convert.checkpoint import Checkpoint
from ecellm_lite.convert.mixture import ModelShape
from ecellm_lite.errors import ModelError

MAX_LAYERS = 512  # LLAMA_MAX_LAYERS
MAX_HEADS, MAX_HEAD_SIZE = 1024, 1024  # at most a million rows, whose order is kept in memory

_EMBEDDING, _OUTPUT = "model.embed_tokens.weight", "lm_head.weight"
_COMPARED_ROWS = 1024


def blueprint(checkpoint: Checkpoint) -> Blueprint:
    """Return the blueprint of a Llama or Mistral checkpoint; raises ModelError if the checkpoint is wrong."""
    config = Hyperparameters(checkpoint.config)
    config.refuse("quantization_config", "only 16-bit checkpoints can be converted")
    config.one_of("hidden_act", ("silu",), "silu")
    width, vocabulary = config.count("hidden_size"), config.count("vocab_size")
    layers = config.count("num_hidden_layers", most=MAX_LAYERS)
    heads = config.count("num_attention_heads", most=MAX_HEADS)
    # transformers' defaults: Mistral has 8 key and value heads, Llama as many as query heads.
    kv_heads = config.count("num_key_value_heads", 8 if config.values.get("model_type") == "mistral" else heads)
    size = config.count("head_dim", max(width // heads, 1), most=MAX_HEAD_SIZE)
    if heads % kv_heads or size % 2 or (config.values.get("head_dim") is None and width % heads):
        raise unsupported(
            f"has {heads} heads of size {size} for a width of {width}, and {kv_heads} for keys and values, which do "
            "not divide each other",
            "num_attention_heads",
        )
    inner = config.count("intermediate_size")
    recipes = Recipes(checkpoint)
    recipes.take("token_embd.weight", _EMBEDDING, (vocabulary, width))
    recipes.take("output_norm.weight", "model.norm.weight", (width,))
    tied, ignored = config.flag("tie_word_embeddings", False), frozenset[str]()
    if not tied:
        recipes.take("output.weight", _OUTPUT, (vocabulary, width))
    elif _OUTPUT in checkpoint:
        _check_tied(checkpoint)
        ignored = frozenset({_OUTPUT})
    query, key = rotation_order(heads, size), rotation_order(kv_heads, size)
    for layer in range(layers):
        ours, theirs = f"blk.{layer}.", f"model.layers.{layer}."
        recipes.take(f"{ours}attn_norm.weight", f"{theirs}input_layernorm.weight", (width,))
        recipes.take(f"{ours}ffn_norm.weight", f"{theirs}post_attention_layernorm.weight", (width,))
        for name, source, shape, order in (
            ("attn_q", "self_attn.q_proj", (heads * size, width), query),
            ("attn_k", "self_attn.k_proj", (kv_heads * size, width), key),
            ("attn_v", "self_attn.v_proj", (kv_heads * size, width), None),
            ("attn_output", "self_attn.o_proj", (width, heads * size), None),
            ("ffn_gate", "mlp.gate_proj", (inner, width), None),
            ("ffn_up", "mlp.up_proj", (inner, width), None),
            ("ffn_down", "mlp.down_proj", (width, inner), None),
        ):
            recipes.take(f"{ours}{name}.weight", f"{theirs}{source}.weight", shape, order)
            biased = config.flag("attention_bias" if "attn" in name else "mlp_bias", False)
            take = recipes.take if biased else recipes.take_if_present
            take(f"{ours}{name}.bias", f"{theirs}{source}.bias", shape[:1], order)
    metadata: dict[str, MetadataValue] = {
        **general_metadata("llama", checkpoint),
        "llama.block_count": ("UINT32", layers),
        "llama.context_length": ("UINT32", config.count("max_position_embeddings")),
        "llama.embedding_length": ("UINT32", width),
        "llama.feed_forward_length": ("UINT32", inner),
        "llama.attention.head_count": ("UINT32", heads),
        "llama.attention.head_count_kv": ("UINT32", kv_heads),
        **_rotation(rope_parameters(config)),
        "llama.attention.layer_norm_rms_epsilon": ("FLOAT32", config.number("rms_norm_eps", 1e-6)),
        "llama.attention.key_length": ("UINT32", size),
        "llama.attention.value_length": ("UINT32", size),
        "llama.vocab_size": ("UINT32", vocabulary),
        "llama.rope.dimension_count": ("UINT32", size),
    }
    output = TensorRecipe("output.weight", _EMBEDDING, (vocabulary, width), "lm_head") if tied else None
    return Blueprint(
        "llama", ModelShape(layers, heads, kv_heads), metadata, recipes.finish(ignored), tied=tied, output=output
    )


def rotation_order(heads: int, size: int) -> NDArray[np.uint32]:
    """Return an array that has, for each row of a query or key matrix in the GGUF file, its row in the checkpoint.

    The rotary embedding rotates rows in pairs. In Hugging Face's layout, a pair is a row of the head's first half and
    the matching row of its second half. In llama.cpp's layout, a pair is two neighboring rows, so the two halves are
    interleaved. `size` is the number of rows of a head.

    >>> rotation_order(1, 6).tolist()
    [0, 3, 1, 4, 2, 5]
    """
    rows = np.arange(heads * size, dtype=np.uint32).reshape(heads, 2, size // 2)
    return np.ascontiguousarray(rows.swapaxes(1, 2)).reshape(-1)


def _rotation(rope: Hyperparameters) -> dict[str, MetadataValue]:
    kind = rope.one_of("rope_type", ("default", "linear"), "default")
    if rope.number("partial_rotary_factor", 1.0) != 1.0:
        raise unsupported("has a partial_rotary_factor, which Llama does not have", "partial_rotary_factor")
    base: dict[str, MetadataValue] = {"llama.rope.freq_base": ("FLOAT32", rope.number("rope_theta", 10000.0))}
    if kind == "default":
        return base
    scaling: dict[str, MetadataValue] = {
        "llama.rope.scaling.type": ("STRING", "linear"),
        "llama.rope.scaling.factor": ("FLOAT32", rope.number("factor")),
    }
    return scaling | base


def _check_tied(checkpoint: Checkpoint) -> None:
    """Raise ModelError if config.json says that embedding and output matrix are the same (tied), but they differ."""
    embedding, output = checkpoint.tensor(_EMBEDDING), checkpoint.tensor(_OUTPUT)
    same = embedding.shape == output.shape and embedding.type == output.type
    for first in range(0, embedding.shape[0] if same else 0, _COMPARED_ROWS):
        count = min(_COMPARED_ROWS, embedding.shape[0] - first)
        rows = [checkpoint.rows(name, first, count) for name in (_EMBEDDING, _OUTPUT)]
        same = same and rows[0].tobytes() == rows[1].tobytes()
    if not same:
        raise ModelError(
            f"{checkpoint.folder}: config.json ties {_OUTPUT} to {_EMBEDDING}, but they differ",
            step="set tie_word_embeddings to false if the model has an output matrix of its own",
            file=str(checkpoint.folder / "config.json"),
            field="tie_word_embeddings",
        )
