"""A checkpoint: the file from which an interrupted training run continues.

It holds the run's adapter, its optimizer and its curves. The curves also say what was trained, and on what.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ecellm_lite.errors import UsageError

_SAME = ("recipe", "steps", "first_pass", "passes", "lessons")  # must not change when a training is resumed


def read_checkpoint(path: Path, curves: Mapping[str, Any], device: str) -> dict[str, Any]:
    """Return the state in a checkpoint of the training run that has these curves.

    Raises UsageError if another run wrote the checkpoint: one with another base, other lessons or other settings, or
    one that did not start from the same adapter. A run that names no adapter to start from continues any start. An
    older checkpoint does not name its base and its start, so they are not compared.
    """
    state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    recorded = state["curves"]
    if recorded.get("base", curves["base"]) != curves["base"]:
        raise UsageError(
            f"{path} is from a training on another base model", step="resume it with its own base", settings=("model",)
        )
    if curves["start"] and recorded.get("start", curves["start"]) != curves["start"]:
        raise UsageError(
            f"{path} is from a training that did not start from this adapter",
            step="resume it without an adapter to start from",
            settings=("start",),
        )
    if any(recorded.get(key) != curves[key] for key in _SAME):
        raise UsageError(f"{path} is from another training run", step="resume it with the same lessons and settings")
    return state
