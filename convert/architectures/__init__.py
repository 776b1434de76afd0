"""The architectures that can be converted, one file each; a new one is a file, and a line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ecellm_lite.convert.architectures import llama, phi2
from ecellm_lite.convert.blueprint import Blueprint
from ecellm_lite.convert.checkpoint import Checkpoint
from ecellm_lite.errors import ModelError


@dataclass(frozen=True, slots=True)
class Architecture:
    """What llama.cpp calls an architecture, and how a checkpoint of it becomes a blueprint."""

    name: str
    blueprint: Callable[[Checkpoint], Blueprint]


# By what a config.json names in `architectures`.
_BY_CLASS = {
    "LlamaForCausalLM": Architecture("llama", llama.blueprint),
    "MistralForCausalLM": Architecture("llama", llama.blueprint),
    "PhiForCausalLM": Architecture("phi2", phi2.blueprint),
}
# By `model_type`, for a config.json without `architectures`.
_CLASSES = {"llama": "LlamaForCausalLM", "mistral": "MistralForCausalLM", "phi": "PhiForCausalLM"}


def architecture_of(config: Mapping[str, Any]) -> Architecture:
    """Return the architecture that a checkpoint's configuration names, or raise ModelError for one not known here."""
    named, kind = config.get("architectures"), config.get("model_type")
    if named is None and isinstance(kind, str):
        named = [_CLASSES.get(kind, kind)]
    if not isinstance(named, list) or len(named) != 1 or not isinstance(named[0], str):
        raise ModelError(
            f"The config.json names the architecture {str(named)[:80]!r} and the model type {str(kind)[:40]!r}: "
            f"it must name one of {', '.join(_BY_CLASS)}."
        )
    if named[0] not in _BY_CLASS:
        raise ModelError(
            f"The architecture {named[0][:80]!r} cannot be converted here, only {', '.join(_BY_CLASS)}: "
            "convert it with llama.cpp's convert_hf_to_gguf.py, and give the GGUF file."
        )
    return _BY_CLASS[named[0]]
