"""The configurations and tensor shapes of small Gemma and Phi-3 checkpoints (see tiny_checkpoints.py)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.support.cut_vocabularies import TOKENIZERS
from tests.support.gemma_tokenizers import GEMMA_TRAINED, write_gemma_model
from tests.support.tiny_tokenizers import write_phi3_model

_GEMMA = {
    "hidden_activation": "gelu_pytorch_tanh", "hidden_size": 64, "intermediate_size": 96, "head_dim": 24,
    "max_position_embeddings": 512, "num_attention_heads": 4, "num_key_value_heads": 2, "rms_norm_eps": 1e-6,
    "query_pre_attn_scalar": 24, "rope_theta": 10000.0, "sliding_window": 16, "vocab_size": GEMMA_TRAINED,
    "bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0, "torch_dtype": "bfloat16",
}  # fmt: skip
_GEMMA3 = _GEMMA | {
    "num_hidden_layers": 7, "rope_theta": 1000000.0, "rope_local_base_freq": 10000.0, "sliding_window_pattern": 6,
    "model_type": "gemma3_text",
}  # fmt: skip
_PHI3 = {
    "architectures": ["Phi3ForCausalLM"], "model_type": "phi3", "hidden_act": "silu", "hidden_size": 64,
    "intermediate_size": 96, "max_position_embeddings": 512, "num_attention_heads": 4, "num_hidden_layers": 2,
    "num_key_value_heads": 4, "original_max_position_embeddings": 512, "rms_norm_eps": 1e-5, "rope_scaling": None,
    "rope_theta": 10000.0, "sliding_window": 2047, "tie_word_embeddings": False, "vocab_size": 32064,
    "bos_token_id": 1, "eos_token_id": 32000, "pad_token_id": 32000, "torch_dtype": "bfloat16",
}  # fmt: skip

GEMMA_PHI: Mapping[str, Mapping[str, Any]] = {
    "gemma2": _GEMMA | {
        "architectures": ["Gemma2ForCausalLM"], "model_type": "gemma2", "num_hidden_layers": 2,
        "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0,
    },
    "gemma3": _GEMMA3 | {"architectures": ["Gemma3ForCausalLM"]},
    # As the models that see images: the language model's settings in an object, its tensors under other names.
    "gemma3-images": {
        "architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3", "torch_dtype": "bfloat16",
        "text_config": {
            **_GEMMA3, "num_hidden_layers": 3, "rope_scaling": {"rope_type": "linear", "factor": 8.0},
        },
        "vision_config": {
            "hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 2, "num_hidden_layers": 1,
            "image_size": 56, "patch_size": 14, "model_type": "siglip_vision_model",
        },
    },
    "phi3": _PHI3,
    # Tied, grouped queries, a part of each head rotated, factors for long contexts: as Phi-4-mini.
    "phi4": _PHI3 | {
        "num_key_value_heads": 2, "partial_rotary_factor": 0.75, "sliding_window": 262144, "tie_word_embeddings": True,
        "max_position_embeddings": 4096, "vocab_size": 200064, "bos_token_id": 199999,
        "eos_token_id": 199999, "pad_token_id": 199999,
        "rope_scaling": {
            "type": "longrope", "short_factor": [1.0, 1.1, 1.25, 1.5, 2.0, 3.0],
            "long_factor": [1.0, 1.5, 2.5, 5.0, 8.0, 14.0],
        },
    },
}  # fmt: skip

GEMMA_PHI_TOKENIZERS: Mapping[str, Callable[[Path], None]] = {
    "gemma2": write_gemma_model,
    "gemma3": write_gemma_model,
    "gemma3-images": write_gemma_model,
    "phi3": write_phi3_model,
    "phi4": TOKENIZERS["phi4"].write,
}


def gemma_phi_shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor of a checkpoint, by name."""
    if config["model_type"] == "gemma3":
        text = config["text_config"] | {name: config[name] for name in ("vocab_size",) if name in config}
        return {
            **{f"language_model.{name}": shape for name, shape in gemma_phi_shapes(text).items()},
            **_vision(config["vision_config"], text["hidden_size"]),
        }
    width, inner, heads = config["hidden_size"], config["intermediate_size"], config["num_attention_heads"]
    size = config.get("head_dim", width // heads)
    query, key = heads * size, config["num_key_value_heads"] * size
    if config["model_type"] == "phi3":
        parts: dict[str, tuple[int, ...]] = {
            "input_layernorm": (width,), "self_attn.qkv_proj": (query + 2 * key, width),
            "self_attn.o_proj": (width, query), "post_attention_layernorm": (width,),
            "mlp.gate_up_proj": (2 * inner, width), "mlp.down_proj": (width, inner),
        }  # fmt: skip
    else:
        parts = {
            "input_layernorm": (width,), "self_attn.q_proj": (query, width), "self_attn.k_proj": (key, width),
            "self_attn.v_proj": (key, width), "self_attn.o_proj": (width, query), "post_attention_layernorm": (width,),
            "pre_feedforward_layernorm": (width,), "mlp.gate_proj": (inner, width), "mlp.up_proj": (inner, width),
            "mlp.down_proj": (width, inner), "post_feedforward_layernorm": (width,),
        }  # fmt: skip
        if config["model_type"] == "gemma3_text":
            parts |= {"self_attn.q_norm": (size,), "self_attn.k_norm": (size,)}
    tensors: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (config["vocab_size"], width)}
    for layer in range(config["num_hidden_layers"]):
        tensors |= {f"model.layers.{layer}.{name}.weight": shape for name, shape in parts.items()}
    tensors["model.norm.weight"] = (width,)
    if not config.get("tie_word_embeddings", True):
        tensors["lm_head.weight"] = (config["vocab_size"], width)
    return tensors


def _vision(config: Mapping[str, Any], width: int) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the image encoder's tensors (SigLIP), and of the projection to `width` values."""
    own, inner = config["hidden_size"], config["intermediate_size"]
    model = "vision_tower.vision_model."
    tensors = {
        f"{model}embeddings.patch_embedding.weight": (own, 3, config["patch_size"], config["patch_size"]),
        f"{model}embeddings.patch_embedding.bias": (own,),
        f"{model}embeddings.position_embedding.weight": ((config["image_size"] // config["patch_size"]) ** 2, own),
        "multi_modal_projector.mm_input_projection_weight": (own, width),
        "multi_modal_projector.mm_soft_emb_norm.weight": (own,),
    }
    layer = f"{model}encoder.layers.0."
    parts: dict[str, tuple[int, ...]] = {
        f"{layer}layer_norm1": (own,), f"{layer}layer_norm2": (own,), f"{layer}mlp.fc1": (inner, own),
        f"{layer}mlp.fc2": (own, inner), f"{model}post_layernorm": (own,),
        **{f"{layer}self_attn.{name}": (own, own) for name in ("q_proj", "k_proj", "v_proj", "out_proj")},
    }  # fmt: skip
    for name, shape in parts.items():
        tensors |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    return tensors
