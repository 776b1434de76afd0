"""The folder of a trained adapter, in PEFT's format with 16-bit weights."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from peft import get_peft_model_state_dict
from safetensors import SafetensorError

from ecellm_lite.errors import ModelError, UsageError


def half_weights(model: Any) -> dict[str, Any]:
    """Return the adapter's weights as 16-bit numbers. Raises UsageError if some of them are infinite or NaN."""
    halves = {
        name: tensor.to(torch.float16)
        for name, tensor in get_peft_model_state_dict(model, save_embedding_layers=False).items()
    }
    if not all(bool(tensor.isfinite().all()) for tensor in halves.values()):
        raise UsageError(
            "The adapter has weights that are not finite 16-bit numbers",
            step="train at a lower rate",
            settings=("rate",),
        )
    return halves


def write_adapter(model: Any, folder: Path) -> None:
    """Write the model's adapter in place of an older one. Raises ModelError or OSError if the disk is full."""
    part = folder.with_name(f"{folder.name}.part")
    try:
        model.save_pretrained(part, state_dict=half_weights(model), save_embedding_layers=False)
    except SafetensorError as error:
        raise ModelError(
            f"{part} cannot be written ({error})", step="free some space or check its permissions", file=str(part)
        ) from None
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)
