"""OLMo 2.

In each layer, the norms come after the attention and after the feed-forward network. In most other models, the norms
come before them. The queries and the keys are normalized too. Each of the two has a single norm over all heads.

The names of tensors and metadata come from llama.cpp's converter (conversion/olmo.py) and loader
(src/models/olmo2.cpp).
"""

from __future__ import annotations

from ecellm_lite.convert.architectures.decoder import Decoder, Dimensions, checked_config
from ecellm_lite.convert.architectures.hyperparameters import refuse_windows, rope_parameters
from ecellm_lite.convert.architectures.rotation import rotation_metadata
from ecellm_lite.convert.blueprint import Blueprint
from ecellm_lite.convert.checkpoint import Checkpoint

_NORMS = {"post_attention_norm": "post_attention_layernorm", "post_ffw_norm": "post_feedforward_layernorm"}


def blueprint(checkpoint: Checkpoint) -> Blueprint:
    """Return the GGUF blueprint of an OLMo 2 checkpoint. Raises ModelError if it cannot be converted."""
    config = checked_config(checkpoint)
    refuse_windows(config)
    config.refuse("attention_bias", "llama.cpp's olmo2 has no biases")
    config.refuse("tie_word_embeddings", "llama.cpp's olmo2 needs a separate output matrix")
    sizes = Dimensions.of(config)
    sizes.check_head_size()
    decoder = Decoder("olmo2", checkpoint, sizes)
    decoder.take_ends(tied=False)
    decoder.take_layers(norms=_NORMS)
    decoder.take_vectors("attn_q_norm.weight", "self_attn.q_norm.weight", sizes.heads * sizes.size)
    decoder.take_vectors("attn_k_norm.weight", "self_attn.k_norm.weight", sizes.kv_heads * sizes.size)
    heads = decoder.head_metadata() if config.values.get("head_dim") is not None else {}
    rotation = rotation_metadata("olmo2", rope_parameters(config))
    return decoder.finish({**decoder.metadata(config, epsilon=1e-5), **rotation, **heads})
