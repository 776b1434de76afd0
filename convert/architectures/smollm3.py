"""SmolLM3. Every fourth layer has no rotary position embedding.

The names of tensors and metadata come from llama.cpp's converter (conversion/llama.py) and loader
(src/models/smollm3.cpp).
"""

from __future__ import annotations

from ecellm_lite.convert.architectures.decoder import Decoder, Dimensions, checked_config
from ecellm_lite.convert.architectures.hyperparameters import (
    Hyperparameters,
    refuse_windows,
    rope_parameters,
    unsupported,
)
from ecellm_lite.convert.architectures.rotation import rotation_metadata
from ecellm_lite.convert.blueprint import Blueprint
from ecellm_lite.convert.checkpoint import Checkpoint

_INTERVAL = 4  # n_no_rope_layer_step, which llama.cpp does not read from the file


def blueprint(checkpoint: Checkpoint) -> Blueprint:
    """Return the GGUF blueprint of a SmolLM3 checkpoint. Raises ModelError if the checkpoint cannot be converted."""
    config = checked_config(checkpoint)
    refuse_windows(config)
    for name in ("attention_bias", "mlp_bias"):
        config.refuse(name, "llama.cpp's smollm3 has no biases")
    sizes = Dimensions.of(config, kv_heads=4)
    _check_rotated_layers(config, sizes.layers)
    decoder = Decoder("smollm3", checkpoint, sizes)
    decoder.take_ends(config.flag("tie_word_embeddings", True))
    decoder.take_layers(interleaved=True)
    return decoder.finish(
        {
            **decoder.metadata(config),
            **rotation_metadata("smollm3", rope_parameters(config), base=2e6),
            **(decoder.head_metadata() if config.values.get("head_dim") is not None else {}),
            "smollm3.vocab_size": ("UINT32", sizes.vocabulary),
            "smollm3.rope.dimension_count": ("UINT32", sizes.size),
        }
    )


def _check_rotated_layers(config: Hyperparameters, layers: int) -> None:
    """Raise ModelError unless exactly every fourth layer has no rotary embedding, as llama.cpp expects."""
    rotated = config.values.get("no_rope_layers")  # in spite of its name, 1 for each layer that has one
    if rotated is None:
        if (interval := config.count("no_rope_layer_interval", _INTERVAL)) != _INTERVAL:
            raise unsupported(
                f"has no_rope_layer_interval = {interval}, but llama.cpp has {_INTERVAL}", "no_rope_layer_interval"
            )
    elif not isinstance(rotated, list) or rotated[:layers] != [
        int((layer + 1) % _INTERVAL != 0) for layer in range(layers)
    ]:
        raise unsupported(
            "has no_rope_layers other than every fourth layer, which llama.cpp does not support", "no_rope_layers"
        )
