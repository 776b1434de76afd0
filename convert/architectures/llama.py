"""Llama and models with its architecture: Llama-2 and 3, Mistral, Mistral Nemo and SmolLM2.

The names of tensors and metadata come from llama.cpp's converter (conversion/llama.py) and loader
(src/models/llama.cpp). Mistral's sliding window is not written to the file, because llama.cpp always uses full
attention for this architecture.
"""

from __future__ import annotations

from ecellm_lite.convert.architectures.decoder import Decoder, Dimensions, checked_config
from ecellm_lite.convert.architectures.hyperparameters import Hyperparameters, rope_parameters
from ecellm_lite.convert.architectures.rotation import rotation_factors, rotation_metadata
from ecellm_lite.convert.blueprint import Blueprint
from ecellm_lite.convert.checkpoint import Checkpoint

_ATTENTION = ("attn_q", "attn_k", "attn_v", "attn_output")
_FEED_FORWARD = ("ffn_gate", "ffn_up", "ffn_down")


def blueprint(checkpoint: Checkpoint) -> Blueprint:
    """Return the GGUF blueprint of a Llama or Mistral checkpoint.

    Raises ModelError if the checkpoint cannot be converted.
    """
    config = checked_config(checkpoint)
    # transformers' defaults: Mistral has 8 key and value heads, Llama as many as query heads.
    sizes = Dimensions.of(config, 8 if config.values.get("model_type") == "mistral" else None)
    decoder = Decoder("llama", checkpoint, sizes)
    decoder.take_ends(config.flag("tie_word_embeddings", False))
    decoder.take_layers(interleaved=True, biased=biases(config))
    rope = rope_parameters(config)
    if (factors := rotation_factors(rope, sizes.size)) is not None:
        decoder.recipes.compute("rope_freqs.weight", factors)
    metadata = {
        **decoder.metadata(config),
        **rotation_metadata("llama", rope, ("default", "linear", "yarn", "llama3")),
        **decoder.head_metadata(),
        "llama.vocab_size": ("UINT32", sizes.vocabulary),
        "llama.rope.dimension_count": ("UINT32", sizes.size),
    }
    return decoder.finish(metadata)


def biases(config: Hyperparameters) -> dict[str, bool | None]:
    """Return which matrices may have a bias, by GGUF name: True if the bias is required, None if it is optional.

    A bias is required if the setting attention_bias (for attention) or mlp_bias (for the feed-forward network) is true.
    """
    attention, feed_forward = config.flag("attention_bias", False) or None, config.flag("mlp_bias", False) or None
    return {**dict.fromkeys(_ATTENTION, attention), **dict.fromkeys(_FEED_FORWARD, feed_forward)}
