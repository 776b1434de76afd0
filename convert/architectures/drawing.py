"""A blueprint while it is drawn: each tensor of the checkpoint is taken by name, at the shape it must have.

What is left over at the end is refused, so that no weight of a checkpoint is ever dropped in silence.
"""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from ecellm_lite.convert.blueprint import Recipe, Value
from ecellm_lite.convert.checkpoint import Checkpoint
from ecellm_lite.convert.safetensors_file import WEIGHTS
from ecellm_lite.errors import ModelError

# What old versions of transformers kept beside the weights: constants that follow from the configuration.
_CONSTANTS = re.compile(r".*\.(rotary_emb\.inv_freq|self_attn\.(bias|masked_bias))")


class Drawing:
    """The recipes that have been drawn for a checkpoint so far."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self._recipes: dict[str, Recipe] = {}  # by source

    def take(self, name: str, source: str, shape: tuple[int, ...], order: NDArray[np.uint32] | None = None) -> None:
        """Make the file's tensor `name` of the checkpoint's `source`, or raise ModelError if it is not as it must be.

        `shape` has the contiguous dimension last; `order` is that of Recipe.
        """
        tensor = self._checkpoint.tensor(source)
        if tensor.shape != shape:
            raise ModelError(
                f"{self._checkpoint.folder}: the tensor {source!r} has the shape {list(tensor.shape)}, and its "
                f"config.json asks for {list(shape)}: get the checkpoint again."
            )
        if tensor.dtype not in WEIGHTS:
            raise ModelError(
                f"{self._checkpoint.folder}: the tensor {source!r} is of type {tensor.dtype}, and weights come as "
                f"{', '.join(WEIGHTS)}: give the checkpoint that this one was made from."
            )
        self._recipes[source] = Recipe(name, source, shape, source.removesuffix(".weight"), order)

    def take_if_there(
        self, name: str, source: str, shape: tuple[int, ...], order: NDArray[np.uint32] | None = None
    ) -> None:
        """Do as `take` for a tensor that a checkpoint may have or not."""
        if source in self._checkpoint:
            self.take(name, source, shape, order)

    def recipes(self, ignored: frozenset[str] = frozenset()) -> tuple[Recipe, ...]:
        """Return the recipes in the checkpoint's order, or raise ModelError with a tensor that has none."""
        for source in self._checkpoint:
            if source not in self._recipes and source not in ignored and not _CONSTANTS.fullmatch(source):
                raise ModelError(
                    f"{self._checkpoint.folder}: the tensor {source[:120]!r} has no place in its architecture: "
                    "a model with such a part cannot be converted here."
                )
        return tuple(self._recipes[source] for source in self._checkpoint if source in self._recipes)


def general(architecture: str, checkpoint: Checkpoint) -> dict[str, Value]:
    """Return the metadata that every model has: its architecture, and the name of its folder or of its repository."""
    folder = checkpoint.folder.resolve()
    name = folder.name
    if folder.parent.name == "snapshots":  # the hub's cache: models--ORGANIZATION--NAME/snapshots/REVISION
        name = folder.parent.parent.name.rpartition("--")[2]
    return {
        "general.architecture": ("STRING", architecture),
        "general.type": ("STRING", "model"),
        "general.name": ("STRING", name.encode("utf-8", "replace").decode()),
    }
