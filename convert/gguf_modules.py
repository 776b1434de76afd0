"""Says which module of a checkpoint a GGUF tensor comes from, and what the conversion added to the tensor's values."""

from __future__ import annotations

import re
from collections.abc import Mapping

_ENDS = {"token_embd": "model.embed_tokens", "output": "lm_head"}
_DECODER = {
    "output_norm": "model.norm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}  # fmt: skip
_LLAMA = {**_DECODER, "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}
_QUERY_KEY_NORMS = {"attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm"}

_GEMMA = {
    **_DECODER, "attn_norm": "input_layernorm", "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm", "post_ffw_norm": "post_feedforward_layernorm",
}  # fmt: skip

# By architecture: from the names of a GGUF file's tensors to the names of a checkpoint's modules.
_MODULES: Mapping[str, Mapping[str, str]] = {
    "llama": _LLAMA, "granite": _LLAMA, "qwen2": _LLAMA, "smollm3": _LLAMA,
    "gemma2": _GEMMA,
    "gemma3": {**_GEMMA, **_QUERY_KEY_NORMS},
    "qwen3": {**_LLAMA, **_QUERY_KEY_NORMS},
    "olmo2": {
        **_DECODER, **_QUERY_KEY_NORMS, "post_attention_norm": "post_attention_layernorm",
        "post_ffw_norm": "post_feedforward_layernorm",
    },
    "phi2": {
        "output_norm": "model.final_layernorm", "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj",
        "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.dense",
        "ffn_up": "mlp.fc1", "ffn_down": "mlp.fc2",
    },
    "phi3": {
        "output_norm": "model.norm", "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
        "attn_qkv": "self_attn.qkv_proj", "attn_output": "self_attn.o_proj", "ffn_up": "mlp.gate_up_proj",
        "ffn_down": "mlp.down_proj",
    },
}  # fmt: skip

# The architectures whose query and key rows llama.cpp's converter interleaves (architectures/rotation.py).
INTERLEAVED = frozenset({"granite", "llama", "smollm3"})
# What llama.cpp's converter adds to the weights of norms, by architecture (TensorRecipe.adapter_added).
_ADDED: Mapping[str, float] = {"gemma2": 1.0, "gemma3": 1.0}
# The architectures for which llama.cpp always multiplies by the embedding for the logits.
INSEPARABLE = frozenset({"gemma", "gemma2"})


def module_of(architecture: str, name: str) -> str:
    """Return the name that a checkpoint has for a GGUF tensor, without `.weight` at the end. For a bias, `.bias` stays.

    The result is empty for a tensor that adapters cannot change.
    """
    match = re.fullmatch(r"(?:blk\.(\d+)\.)?(\w+)\.(weight|bias)", name)
    if not match:
        return ""
    layer, part, kind = match.groups()
    modules = _MODULES.get(architecture, {})
    module = _ENDS.get(part, modules.get(part, "")) if layer is None else modules.get(part, "")
    if not module:
        return ""
    path = module if layer is None else f"model.layers.{layer}.{module}"
    return path if kind == "weight" else f"{path}.bias"


def added_to(architecture: str, name: str) -> float:
    """Return the number that a conversion to GGUF adds to each value of a tensor: 1.0 for Gemma's norms, else 0."""
    return _ADDED.get(architecture, 0.0) if name.endswith("_norm.weight") else 0.0
