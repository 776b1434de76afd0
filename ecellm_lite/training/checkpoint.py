"""A checkpoint: the file from which an interrupted training run continues.

It holds the run's adapter, the state of its optimizer, and its learning curves. Beside the losses, the entry `curves`
records the run's settings, its base model and a hash of its lessons (the training examples).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from ecellm_lite.errors import ModelError, UsageError
from ecellm_lite.models.files import replacing

_SAME = ("recipe", "steps", "first_pass", "passes", "lessons")  # must not change when a training is resumed


def write_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write a checkpoint atomically. Raises OSError if the disk is full."""
    # torch has no error of its own for a full disk, so Python writes the file.
    buffer = BytesIO()
    torch.save(dict(state), buffer)
    with replacing(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Raise ModelError if the `with` block finds that the checkpoint is damaged, or is another kind of file."""
    try:
        yield
    except (AttributeError, EOFError, LookupError, RuntimeError, TypeError, ValueError, UnpicklingError):
        raise ModelError(
            f"{path} is not a checkpoint of this program, or is damaged",
            step="start again in another folder",
            settings=("output",),
            file=str(path),
        ) from None


def read_checkpoint(path: Path, curves: Mapping[str, Any], device: str) -> dict[str, Any]:
    """Return the state in a checkpoint of this training run.

    `curves`: this run's learning curves. They also name the run's base, starting adapter, lessons and settings.

    Raises UsageError if another run wrote the checkpoint: one with another base, other lessons or other settings, or
    one that did not start from the same adapter. If `curves` names no adapter to start from, the adapter is not
    compared. Older checkpoints record neither the base nor the adapter, so neither is compared.
    """
    state: dict[str, Any] = torch.load(BytesIO(path.read_bytes()), map_location=device, weights_only=True)
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
