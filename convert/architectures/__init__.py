"""The architectures that can be converted. Each has its own file. To add one, add a file and a line here."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ecellm_lite.convert.architectures import (
    gemma2,
    gemma3,
    granite,
    llama,
    olmo2,
    phi2,
    phi3,
    qwen2,
    qwen3,
    smollm3,
)
from ecellm_lite.convert.blueprint import Blueprint
from ecellm_lite.convert.checkpoint import Checkpoint
from ecellm_lite.errors import ModelError


@dataclass(frozen=True, slots=True)
class Architecture:
    """An architecture: its name in llama.cpp, and the function that makes the blueprint of a checkpoint's GGUF file."""

    name: str
    blueprint: Callable[[Checkpoint], Blueprint]


# By the class that a config.json names in `architectures`.
_BY_CLASS = {
    "Gemma2ForCausalLM": Architecture("gemma2", gemma2.blueprint),
    "Gemma3ForCausalLM": Architecture("gemma3", gemma3.blueprint),
    "Gemma3ForConditionalGeneration": Architecture("gemma3", gemma3.blueprint),
    "GraniteForCausalLM": Architecture("granite", granite.blueprint),
    "LlamaForCausalLM": Architecture("llama", llama.blueprint),
    "MistralForCausalLM": Architecture("llama", llama.blueprint),
    "Olmo2ForCausalLM": Architecture("olmo2", olmo2.blueprint),
    "PhiForCausalLM": Architecture("phi2", phi2.blueprint),
    "Phi3ForCausalLM": Architecture("phi3", phi3.blueprint),
    "Qwen2ForCausalLM": Architecture("qwen2", qwen2.blueprint),
    "Qwen3ForCausalLM": Architecture("qwen3", qwen3.blueprint),
    "SmolLM3ForCausalLM": Architecture("smollm3", smollm3.blueprint),
}
# By `model_type`, for a config.json without `architectures`.
_CLASSES = {
    "gemma2": "Gemma2ForCausalLM",
    "gemma3": "Gemma3ForConditionalGeneration",
    "gemma3_text": "Gemma3ForCausalLM",
    "granite": "GraniteForCausalLM",
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "olmo2": "Olmo2ForCausalLM",
    "phi": "PhiForCausalLM",
    "phi3": "Phi3ForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "smollm3": "SmolLM3ForCausalLM",
}
# The settings by which the configurations of mixtures of experts count their experts, and the names of their classes.
_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
_MIXTURE = re.compile(r"moe|mixtral|deepseekv[23]", re.IGNORECASE)


def architecture_of(config: Mapping[str, Any]) -> Architecture:
    """Return the architecture that a config.json names. Raises ModelError if it is not supported."""
    classes, model_type = config.get("architectures"), config.get("model_type")
    if classes is None and isinstance(model_type, str):
        classes = [_CLASSES.get(model_type, model_type)]
    if not isinstance(classes, list) or len(classes) != 1 or not isinstance(classes[0], str):
        raise ModelError(
            f"The config.json has architectures = {str(classes)[:80]} and model_type = {str(model_type)[:40]!r}",
            step=f"give a checkpoint that names one of {', '.join(_BY_CLASS)}",
            field="architectures",
        )
    if _MIXTURE.search(classes[0]) or any(config.get(name) for name in _EXPERTS):
        raise ModelError(
            f"The model is a mixture of experts ({classes[0][:80]!r}), which cannot be converted here",
            step="convert it with llama.cpp's convert_hf_to_gguf.py, and give the GGUF file",
            field="architectures",
        )
    if classes[0] not in _BY_CLASS:
        raise ModelError(
            f"The architecture {classes[0][:80]!r} cannot be converted here, only {', '.join(_BY_CLASS)}",
            step="convert it with llama.cpp's convert_hf_to_gguf.py, and give the GGUF file",
            field="architectures",
        )
    return _BY_CLASS[classes[0]]
