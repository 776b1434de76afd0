"""Granite 3. It is a Llama with scales for the embedding, attention, residual branches and logits.

The names of tensors and metadata come from llama.cpp's converter (conversion/granite.py) and loader
(src/models/granite.cpp).
"""

from __future__ import annotations

from ecellm_lite.convert.architectures.decoder import Decoder, Dimensions, checked_config
from ecellm_lite.convert.architectures.hyperparameters import rope_parameters
from ecellm_lite.convert.architectures.llama import biases
from ecellm_lite.convert.architectures.rotation import rotation_factors, rotation_metadata
from ecellm_lite.convert.blueprint import Blueprint, MetadataValue
from ecellm_lite.convert.checkpoint import Checkpoint

# llama.cpp's names for the scales, with transformers' (whose default is 1).
_SCALES = {
    "attention.scale": "attention_multiplier",
    "embedding_scale": "embedding_multiplier",
    "residual_scale": "residual_multiplier",
    "logit_scale": "logits_scaling",
}


def blueprint(checkpoint: Checkpoint) -> Blueprint:
    """Return the GGUF blueprint of a Granite 3 checkpoint. Raises ModelError if it cannot be converted."""
    config = checked_config(checkpoint)
    sizes = Dimensions.of(config)
    sizes.check_head_size()
    decoder = Decoder("granite", checkpoint, sizes)
    decoder.take_ends(config.flag("tie_word_embeddings", False))
    decoder.take_layers(interleaved=True, biased=biases(config))
    rope = rope_parameters(config)
    if (factors := rotation_factors(rope, sizes.size)) is not None:
        decoder.recipes.compute("rope_freqs.weight", factors)
    scales: dict[str, MetadataValue] = {
        f"granite.{key}": ("FLOAT32", config.number(name, 1.0)) for key, name in _SCALES.items()
    }
    return decoder.finish(
        {
            **decoder.metadata(config),
            **rotation_metadata("granite", rope, ("default", "linear", "yarn", "llama3")),
            **scales,
            "granite.vocab_size": ("UINT32", sizes.vocabulary),
            "granite.rope.dimension_count": ("UINT32", sizes.size),
        }
    )
