"""Gemma 2. It has soft caps on attention scores and logits, and sliding-window attention in every other layer.

The names of tensors and metadata come from llama.cpp's converter (conversion/gemma.py) and loader
(src/models/gemma2.cpp). llama.cpp itself scales the embedding by the square root of its width.
"""

from __future__ import annotations

from dataclasses import replace

from ecellm_lite.convert.architectures.decoder import Decoder, Dimensions
from ecellm_lite.convert.architectures.gemma import NORM_ADDED, NORMS, check_config, check_scale, window_metadata
from ecellm_lite.convert.architectures.hyperparameters import Hyperparameters, rope_parameters, unsupported
from ecellm_lite.convert.architectures.rotation import rotation_metadata
from ecellm_lite.convert.blueprint import Blueprint, MetadataValue
from ecellm_lite.convert.checkpoint import Checkpoint

_LARGEST = 46  # layers of the 27B
_PERIOD = 2
# Of transformers.
_DEFAULTS = {"num_key_value_heads": 4, "head_dim": 256}
_ROPE_THETA = 10000.0  # llama.cpp's default


def blueprint(checkpoint: Checkpoint) -> Blueprint:
    """Return the GGUF blueprint of a Gemma 2 checkpoint. Raises ModelError if it cannot be converted."""
    config = Hyperparameters({**_DEFAULTS, **checkpoint.config})
    check_config(config)
    sizes = Dimensions.of(config)
    check_scale(config, sizes, _LARGEST)
    if not config.flag("tie_word_embeddings", True):
        raise unsupported(
            "has tie_word_embeddings = false, but llama.cpp's Gemma 2 has no output matrix", "tie_word_embeddings"
        )
    decoder = Decoder("gemma2", checkpoint, sizes)
    decoder.take_ends(True, added=NORM_ADDED)
    decoder.take_layers(norms=NORMS, added=NORM_ADDED)
    window = window_metadata("gemma2", config, sizes.layers, _PERIOD)
    if not window:
        raise unsupported(
            "has layer_types without a window, which llama.cpp's Gemma 2 has in every other layer", "layer_types"
        )
    rotation = rotation_metadata("gemma2", rope_parameters(config), ("default",), _ROPE_THETA)
    metadata: dict[str, MetadataValue] = {
        **decoder.metadata(config),
        **decoder.head_metadata(),
        "gemma2.attn_logit_softcapping": ("FLOAT32", config.number("attn_logit_softcapping")),
        "gemma2.final_logit_softcapping": ("FLOAT32", config.number("final_logit_softcapping")),
        **window,
        # llama.cpp's converter leaves the base out.
        **{key: value for key, value in rotation.items() if value[1] != _ROPE_THETA},
    }
    return replace(decoder.finish(metadata), inseparable=True)
