"""The published models, each with the envelope that its prompts need.

The facts are from the model cards of NingLab/eCeLLM-S, -M and -L (CC-BY-4.0; Peng et al., arXiv 2402.08831).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CatalogueModel:
    """A published model: its hub id, the model it was tuned from, its envelope, its size, and its context in tokens."""

    name: str
    hub_id: str
    base: str
    envelope: str
    parameters: str
    checkpoint_bytes: int
    context: int
    licence: str


CATALOGUE = {
    model.name: model
    for model in (
        CatalogueModel(
            "eCeLLM-S", "NingLab/eCeLLM-S", "microsoft/phi-2", "alpaca", "2.8 B", 5_560_000_000, 2048, "CC-BY-4.0"
        ),
        CatalogueModel(
            "eCeLLM-M",
            "NingLab/eCeLLM-M",
            "mistralai/Mistral-7B-Instruct-v0.2",
            "mistral",
            "7.2 B",
            14_480_000_000,
            32768,
            "CC-BY-4.0",
        ),
        CatalogueModel(
            "eCeLLM-L",
            "NingLab/eCeLLM-L",
            "meta-llama/Llama-2-13b-chat-hf",
            "alpaca",
            "13 B",
            26_030_000_000,
            4096,
            "CC-BY-4.0",
        ),
    )
}

# The demo model, which comes with the package: see ecellm_lite/demo.
DEMO = "demo"


def catalogue_entry(name: str) -> CatalogueModel | None:
    """Return the published model that a name belongs to, or None.

    Such names are `eCeLLM-M`, `ecellm-m:Q4_K_M`, `eCeLLM-M.Q4_K_M.gguf`, and the hub's `NingLab/eCeLLM-M`.
    """
    lowered = name.lower()
    for entry in CATALOGUE.values():
        key = entry.name.lower()
        if lowered == entry.hub_id.lower():
            return entry
        if lowered.startswith(key) and not lowered[len(key) : len(key) + 1].isalnum():
            return entry
    return None


def how_to_get(name: str) -> str:
    """Return in words how to get a model that is not in the store: the `step` of an error."""
    if entry := catalogue_entry(name):
        return (
            f"`ecellm-lite models pull {name}` fetches {entry.hub_id} and converts it, "
            f"or `ecellm-lite models add` adds a file that you have under that name"
        )
    return "`ecellm-lite models add` adds one"
