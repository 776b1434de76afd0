"""The expected and the actual results of converting a checkpoint.

tests/golden/convert/make.py made the expected results.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from ecellm_lite.convert.architectures import architecture_of
from ecellm_lite.convert.blueprint import Blueprint
from ecellm_lite.convert.checkpoint import Checkpoint
from ecellm_lite.convert.conversion import blueprint_of, blueprint_without_vocabulary
from tests.golden.convert.make import digest

GOLDEN = Path(__file__).parent.parent / "golden" / "convert"

# Where the files of llama.cpp's converter differ from ours.
MEANT = {
    "general.file_type": "the writer's",
    "general.quantization_version": "the writer's",
    "general.name": "llama.cpp's converter guesses a title from the folder's name; ours is the name itself",
    "general.size_label": "guessed too",
}
_ITEMS = {str: "STRING", float: "FLOAT32", int: "INT32"}


def golden(kind: str) -> dict[str, Any]:
    """Return the metadata and tensors that llama.cpp's converter makes from a checkpoint of this kind."""
    content: dict[str, Any] = json.loads((GOLDEN / f"{kind}.json").read_text("utf-8"))
    return content


def blueprint(folder: Path) -> Blueprint:
    """Return the blueprint (the list of tensors and metadata) that our converter makes for a checkpoint."""
    with Checkpoint(folder) as checkpoint:
        return blueprint_without_vocabulary(checkpoint)


def tensors_of(folder: Path) -> dict[str, list[Any]]:
    """Convert a checkpoint's tensors to F32, and return each tensor's shape and hash."""
    hashes = {}
    with Checkpoint(folder) as checkpoint:
        for recipe in architecture_of(checkpoint.config).blueprint(checkpoint).recipes:
            values = checkpoint.values(recipe.source) if recipe.saved is None else recipe.saved
            values = values + np.float32(recipe.added) if recipe.added else values
            rows = values if recipe.order is None else np.ascontiguousarray(values[recipe.order])
            hashes[recipe.name] = [list(recipe.shape), hashlib.sha256(rows.tobytes()).hexdigest()]
    return dict(sorted(hashes.items()))


def metadata_of(folder: Path) -> dict[str, list[Any]]:
    """Return the GGUF metadata that our converter makes for a checkpoint."""
    with Checkpoint(folder) as checkpoint:
        metadata = blueprint_of(checkpoint).metadata
    return {key: _described(*value) for key, value in metadata.items()}


def _described(kind: str, value: Any) -> list[Any]:
    if kind == "ARRAY":
        return ["ARRAY", [_ITEMS[type(value[0])], len(value), digest(value)]]
    return [kind, float(np.float32(value)) if kind == "FLOAT32" else value]
