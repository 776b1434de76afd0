"""Qwen3. Each query and key head is normalized before the rotary position embedding.

The names of tensors and metadata come from llama.cpp's converter (conversion/qwen.py) and loader
(src/models/qwen3.cpp).
"""

from __future__ import annotations

from ecellm_lite.convert.architectures.decoder import Decoder, Dimensions, checked_config
from ecellm_lite.convert.architectures.hyperparameters import refuse_windows, rope_parameters
from ecellm_lite.convert.architectures.rotation import rotation_metadata
from ecellm_lite.convert.blueprint import Blueprint
from ecellm_lite.convert.checkpoint import Checkpoint


def blueprint(checkpoint: Checkpoint) -> Blueprint:
    """Return the GGUF blueprint of a Qwen3 checkpoint. Raises ModelError if the checkpoint cannot be converted."""
    config = checked_config(checkpoint)
    refuse_windows(config)
    config.refuse("attention_bias", "llama.cpp's qwen3 has no biases")
    sizes = Dimensions.of(config, kv_heads=32, size=128)
    decoder = Decoder("qwen3", checkpoint, sizes)
    decoder.take_ends(config.flag("tie_word_embeddings", False))
    decoder.take_layers()
    for name in ("q", "k"):
        decoder.take_vectors(f"attn_{name}_norm.weight", f"self_attn.{name}_norm.weight", sizes.size)
    rotation = rotation_metadata("qwen3", rope_parameters(config))
    return decoder.finish({**decoder.metadata(config), **rotation, **decoder.head_metadata()})
