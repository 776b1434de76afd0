"""The published models that are known by name, each with its envelope (the text around a prompt).

The facts about eCeLLM come from the model cards of NingLab/eCeLLM-S, -M and -L (CC-BY-4.0; Peng et al., arXiv
2402.08831). The facts about CASLIE come from its code (ninglab/CASLIE; arXiv 2410.17337). CASLIE's code names
neither the base models nor a licence; see docs/models.md. The facts about the other models come from their publishers'
cards. Sizes are rounded.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class CatalogueModel:
    """A published model: its name, hub id, base model, envelope, size, and context in tokens.

    `envelope`, `base`, `licence`, `parameters`: empty if not known.
    `checkpoint_bytes`, `context`: 0 if not known.
    `trained_on`: the e-commerce data set that the model was tuned on. Empty for a general model.
    `gated`: whether a download needs an account on the hub and the acceptance of terms.
    """

    name: str
    hub_id: str
    base: str
    envelope: str
    parameters: str
    checkpoint_bytes: int
    context: int
    licence: str
    trained_on: Literal["ECInstruct", "MMECInstruct", ""] = ""
    gated: bool = False


def _shop(name: str, base: str, envelope: str, parameters: str, size: int, context: int) -> CatalogueModel:
    return CatalogueModel(
        name, f"NingLab/{name}", base, envelope, parameters, size, context, "CC-BY-4.0", trained_on="ECInstruct"
    )


def _caslie(name: str, envelope: str) -> CatalogueModel:
    return CatalogueModel(name, f"NingLab/{name}", "", envelope, "", 0, 0, "", trained_on="MMECInstruct")


def _open(
    hub_id: str, envelope: str, parameters: str, gigabytes: float, context: int, licence: str, *, gated: bool = False
) -> CatalogueModel:
    size = round(gigabytes * 1e9)
    return CatalogueModel(
        hub_id.partition("/")[2], hub_id, "", envelope, parameters, size, context, licence, gated=gated
    )


_APACHE, _LLAMA32, _GEMMA = "Apache-2.0", "Llama 3.2 Community", "Gemma terms of use"

CATALOGUE = {
    model.name: model
    for model in (
        _shop("eCeLLM-S", "microsoft/phi-2", "alpaca", "2.8 B", 5_560_000_000, 2048),
        _shop("eCeLLM-M", "mistralai/Mistral-7B-Instruct-v0.2", "mistral", "7.2 B", 14_480_000_000, 32768),
        _shop("eCeLLM-L", "meta-llama/Llama-2-13b-chat-hf", "alpaca", "13 B", 26_030_000_000, 4096),
        _caslie("CASLIE-S", ""),
        _caslie("CASLIE-M", "mistral"),  # the default of its inference script
        _caslie("CASLIE-L", ""),
        _open("Qwen/Qwen2.5-0.5B-Instruct", "qwen2.5", "0.49 B", 1.0, 32768, _APACHE),
        _open("Qwen/Qwen2.5-1.5B-Instruct", "qwen2.5", "1.5 B", 3.1, 32768, _APACHE),
        _open("Qwen/Qwen2.5-7B-Instruct", "qwen2.5", "7.6 B", 15.2, 32768, _APACHE),
        _open("Qwen/Qwen2.5-Coder-0.5B-Instruct", "qwen2.5", "0.49 B", 1.0, 32768, _APACHE),
        _open("Qwen/Qwen3-0.6B", "qwen3", "0.6 B", 1.5, 40960, _APACHE),
        _open("Qwen/Qwen3-1.7B", "qwen3", "1.7 B", 4.1, 40960, _APACHE),
        _open("Qwen/Qwen3-4B", "qwen3", "4.0 B", 8.1, 40960, _APACHE),
        _open("Qwen/Qwen3-8B", "qwen3", "8.2 B", 16.4, 40960, _APACHE),
        _open("HuggingFaceTB/SmolLM2-135M-Instruct", "smollm2", "0.13 B", 0.3, 8192, _APACHE),
        _open("HuggingFaceTB/SmolLM2-360M-Instruct", "smollm2", "0.36 B", 0.7, 8192, _APACHE),
        _open("HuggingFaceTB/SmolLM2-1.7B-Instruct", "smollm2", "1.7 B", 3.4, 8192, _APACHE),
        _open("HuggingFaceTB/SmolLM3-3B", "smollm3", "3.1 B", 6.2, 65536, _APACHE),
        _open("meta-llama/Llama-3.2-1B-Instruct", "llama3.1", "1.2 B", 2.5, 131072, _LLAMA32, gated=True),
        _open("meta-llama/Llama-3.2-3B-Instruct", "llama3.1", "3.2 B", 6.4, 131072, _LLAMA32, gated=True),
        _open("google/gemma-2-2b-it", "gemma", "2.6 B", 5.2, 8192, _GEMMA, gated=True),
        _open("google/gemma-3-1b-it", "gemma", "1.0 B", 2.0, 32768, _GEMMA, gated=True),
        _open("microsoft/Phi-3.5-mini-instruct", "phi3", "3.8 B", 7.6, 131072, "MIT"),
        _open("microsoft/Phi-4-mini-instruct", "phi4-mini", "3.8 B", 7.7, 131072, "MIT"),
        _open("mistralai/Mistral-7B-Instruct-v0.3", "mistral-v3", "7.2 B", 14.5, 32768, _APACHE),
        _open("mistralai/Mistral-Nemo-Instruct-2407", "mistral-nemo", "12 B", 24.5, 131072, _APACHE),
        _open("TinyLlama/TinyLlama-1.1B-Chat-v1.0", "zephyr", "1.1 B", 2.2, 2048, _APACHE),
        _open("allenai/OLMo-2-0425-1B-Instruct", "olmo2", "1.5 B", 3.0, 4096, _APACHE),
        _open("ibm-granite/granite-3.3-2b-instruct", "granite3.3", "2.5 B", 5.1, 131072, _APACHE),
    )
}

# The demo model, which comes with the package: see ecellm_lite/demo.
DEMO = "demo"

# What may follow a model's name: its file's type, and the ending of a GGUF file.
_TYPE = re.compile(r"([:._-](i?q\d\w*|b?f16|f32))?(\.gguf)?", re.IGNORECASE)


def catalogue_entry(name: str) -> CatalogueModel | None:
    """Return the catalogue's model for a name, or None.

    Accepted names are, for example, `eCeLLM-M`, `ecellm-m:Q4_K_M`, `eCeLLM-M.Q4_K_M.gguf`, and the hub's
    `NingLab/eCeLLM-M`. The result is None for a name such as `Qwen3-0.6B-of-our-shop`: this is another model, and may
    have another envelope.
    """
    lowered = name.lower()
    for entry in CATALOGUE.values():
        key = entry.name.lower()
        if lowered == entry.hub_id.lower():
            return entry
        rest = lowered[len(key) :]
        if not lowered.startswith(key):
            continue
        if _TYPE.fullmatch(rest) or (entry.trained_on and not rest[:1].isalnum()):
            return entry
    return None


def how_to_get(name: str) -> str:
    """Return advice (an error's `step`) on how to get a model that is not in the store."""
    if entry := catalogue_entry(name):
        return (
            f"`ecellm-lite models pull {name}` fetches {entry.hub_id} and converts it, "
            f"or `ecellm-lite models add` adds a file that you have under that name"
        )
    return "`ecellm-lite models add` adds one"
