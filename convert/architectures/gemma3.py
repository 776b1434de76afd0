"""Gemma 3's language model. It has norms of queries and keys, and sliding-window attention in five of six layers.

The layers with a sliding window have a RoPE base frequency of their own. llama.cpp itself multiplies the embedding by
the square root of its width. Models with at least 4 billion parameters can also see images. The converter leaves out
the tensors for images. The names of tensors and metadata come from llama.cpp's converter (conversion/gemma.py) and
loader (src/models/gemma3.cpp).
"""

from __future__ import annotations

from typing import Any

from ecellm_lite.convert.architectures.decoder import Decoder, Dimensions
from ecellm_lite.convert.architectures.gemma import NORM_ADDED, NORMS, check_config, check_scale, window_metadata
from ecellm_lite.convert.architectures.hyperparameters import Hyperparameters
from ecellm_lite.convert.architectures.language_part import LanguagePart
from ecellm_lite.convert.architectures.rotation import rotation_metadata
from ecellm_lite.convert.blueprint import Blueprint, MetadataValue
from ecellm_lite.convert.checkpoint import Checkpoint

_LARGEST = 62  # layers of the 27B
_PERIOD = 6
# Of transformers; the config.json of a model that sees images leaves most of them out.
_DEFAULTS = {
    "vocab_size": 262208, "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26,
    "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "max_position_embeddings": 131072,
}  # fmt: skip
_GLOBAL_BASE = 1000000.0


def blueprint(checkpoint: Checkpoint) -> Blueprint:
    """Return the GGUF blueprint of a Gemma 3 checkpoint. Raises ModelError if it cannot be converted."""
    config = _text_config(Hyperparameters(checkpoint.config))
    check_config(config)
    config.refuse("attn_logit_softcapping", "llama.cpp's Gemma 3 has no soft cap on attention scores")
    sizes = Dimensions.of(config)
    check_scale(config, sizes, _LARGEST)
    part = LanguagePart(checkpoint)
    decoder = Decoder("gemma3", part, sizes)
    decoder.take_ends(config.flag("tie_word_embeddings", True), added=NORM_ADDED)
    decoder.take_layers(norms=NORMS, added=NORM_ADDED)
    decoder.take_vectors("attn_q_norm.weight", "self_attn.q_norm.weight", sizes.size, added=NORM_ADDED)
    decoder.take_vectors("attn_k_norm.weight", "self_attn.k_norm.weight", sizes.size, added=NORM_ADDED)
    window = window_metadata("gemma3", config, sizes.layers, _PERIOD)
    metadata: dict[str, MetadataValue] = {
        **decoder.metadata(config),
        **decoder.head_metadata(),
        **_rotation(config, bool(window)),
        **window,
    }
    if config.values.get("final_logit_softcapping") is not None:
        metadata["gemma3.final_logit_softcapping"] = ("FLOAT32", config.number("final_logit_softcapping"))
    return part.restored(decoder.finish(metadata))


def _text_config(config: Hyperparameters) -> Hyperparameters:
    """Return the settings of the language model. For a model that sees images, they are in the object `text_config`."""
    values: dict[str, Any] = dict(_DEFAULTS)
    for part in (config, config.part("text_config")):
        values.update({name: value for name, value in part.values.items() if value is not None})
    return Hyperparameters(values)


def _rotation(config: Hyperparameters, windows: bool) -> dict[str, MetadataValue]:
    """Return the RoPE metadata.

    `windows`: whether some layers have sliding-window attention, which needs its own metadata.
    """
    parameters = config.part("rope_parameters")
    if parameters.values.keys() & {"full_attention", "sliding_attention"}:  # transformers 5
        whole, local = parameters.part("full_attention"), parameters.part("sliding_attention")
        base = local.number("rope_theta", 10000.0) if local.values else None
    else:
        scaling = config.part("rope_scaling").values
        whole = Hyperparameters({"rope_theta": config.values.get("rope_theta"), **scaling})
        base = config.number("rope_local_base_freq") if "rope_local_base_freq" in config.values else None
        local = Hyperparameters({})
    local.one_of("rope_type", ("default",), "default")
    if whole.values.get("rope_type") is None and "type" in whole.values:
        whole = Hyperparameters({**whole.values, "rope_type": whole.values["type"]})
    metadata = rotation_metadata("gemma3", whole, ("default", "linear"), _GLOBAL_BASE)
    if windows and base is not None:
        metadata["gemma3.rope.freq_base_swa"] = ("FLOAT32", base)
    return metadata
