"""Qwen2 and Qwen2.5. Queries, keys and values have biases.

A small model uses its embedding as the output matrix too. The names of tensors and metadata come from llama.cpp's
converter (conversion/qwen.py) and loader (src/models/qwen2.cpp).
"""

from __future__ import annotations

from ecellm_lite.convert.architectures.decoder import Decoder, Dimensions, checked_config
from ecellm_lite.convert.architectures.hyperparameters import refuse_windows, rope_parameters
from ecellm_lite.convert.architectures.rotation import rotation_metadata
from ecellm_lite.convert.blueprint import Blueprint
from ecellm_lite.convert.checkpoint import Checkpoint


def blueprint(checkpoint: Checkpoint) -> Blueprint:
    """Return the GGUF blueprint of a Qwen2 or Qwen2.5 checkpoint.

    Raises ModelError if the checkpoint cannot be converted.
    """
    config = checked_config(checkpoint)
    refuse_windows(config)
    sizes = Dimensions.of(config, kv_heads=32)
    sizes.check_head_size()
    decoder = Decoder("qwen2", checkpoint, sizes)
    decoder.take_ends(config.flag("tie_word_embeddings", False))
    decoder.take_layers(biased=dict.fromkeys(("attn_q", "attn_k", "attn_v"), True))
    heads = decoder.head_metadata() if config.values.get("head_dim") is not None else {}
    return decoder.finish({**decoder.metadata(config), **rotation_metadata("qwen2", rope_parameters(config)), **heads})
