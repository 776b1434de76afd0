"""The common parts of Gemma 2 and 3.

Both have norms before and after attention, and before and after the feed-forward network. Some of their layers have
sliding-window attention. transformers adds 1 to the weights of every norm. In a GGUF file, the 1 is already part of the
weights.
"""

from __future__ import annotations

from ecellm_lite.convert.architectures.decoder import Dimensions
from ecellm_lite.convert.architectures.hyperparameters import Hyperparameters, unsupported
from ecellm_lite.convert.blueprint import MetadataValue

NORM_ADDED = 1.0
NORMS = {
    "attn_norm": "input_layernorm", "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm", "post_ffw_norm": "post_feedforward_layernorm",
}  # fmt: skip

_KINDS = ("sliding_attention", "full_attention")


def check_config(config: Hyperparameters) -> None:
    """Raise ModelError for a setting that llama.cpp ignores or computes differently, or for a quantized checkpoint."""
    config.refuse("quantization_config", "only 16-bit checkpoints can be converted")
    config.refuse("attention_bias", "llama.cpp's Gemma has no biases")
    config.refuse("use_bidirectional_attention", "llama.cpp supports only attention to earlier tokens")
    config.one_of("hidden_activation", ("gelu_pytorch_tanh",), "gelu_pytorch_tanh")


def check_scale(config: Hyperparameters, sizes: Dimensions, largest: int) -> None:
    """Raise ModelError if llama.cpp would not scale the queries as config.json says.

    A GGUF file has no key for this scale. llama.cpp computes the scale from the number of values in a head. For the
    27B model, which has `largest` layers, it uses a hidden state's width divided by the number of heads instead.
    """
    scalar = config.number("query_pre_attn_scalar", 256)
    expected = sizes.width // sizes.heads if sizes.layers == largest else sizes.size
    if scalar != expected:
        raise unsupported(
            f"has query_pre_attn_scalar = {scalar:g}, but llama.cpp computes with {expected} for these dimensions",
            "query_pre_attn_scalar",
        )


def window_metadata(architecture: str, config: Hyperparameters, layers: int, period: int) -> dict[str, MetadataValue]:
    """Return the metadata about sliding-window attention, or an empty dict if no layer has a window.

    In llama.cpp, the last of every `period` layers has no window, and all other layers have a window. Raises ModelError
    if config.json says otherwise.
    """
    expected = _kinds(layers, period)
    kinds = config.values.get("layer_types")
    if kinds is None:
        named = config.count("sliding_window_pattern", config.count("_sliding_window_pattern", period))
        kinds = _kinds(layers, named)
    if kinds == _kinds(layers, 1):
        return {}
    if kinds != expected:
        raise unsupported(
            f"has unsupported layer_types: llama.cpp has a window in all layers but the last of every {period}",
            "layer_types",
        )
    return {f"{architecture}.attention.sliding_window": ("UINT32", config.count("sliding_window", 4096))}


def _kinds(layers: int, period: int) -> list[str]:
    return [_KINDS[(layer + 1) % period == 0] for layer in range(layers)]
