"""Collects the recipes for a GGUF file's tensors (see blueprint.py), and checks the shapes of the checkpoint's tensors.

A tensor must have the shape that the configuration implies. Each tensor of the checkpoint must be used by a recipe, so
that no weights are left out silently.
"""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from ecellm_lite.convert.blueprint import MetadataValue, TensorRecipe
from ecellm_lite.convert.checkpoint import Checkpoint
from ecellm_lite.convert.reading import damaged
from ecellm_lite.convert.safetensors_file import check_weights
from ecellm_lite.errors import ModelError

# Constants that old versions of transformers saved with the weights; they follow from the configuration.
_CONSTANTS = re.compile(r".*\.(rotary_emb\.inv_freq|self_attn\.(bias|masked_bias))")


class Recipes:
    """Collects the recipes of a GGUF file's tensors.

    A recipe says how a tensor is made (see blueprint.py).
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self._recipes: dict[str, TensorRecipe] = {}  # by source
        self._computed: list[TensorRecipe] = []

    def take(
        self,
        name: str,
        source: str,
        shape: tuple[int, ...],
        order: NDArray[np.uint32] | None = None,
        *,
        added: float = 0.0,
    ) -> None:
        """Add the recipe of the file's tensor `name`, made from the checkpoint's tensor `source`.

        `shape`: the shape that the source must have.
        `order`: for each row of the file's tensor, the number of the source row that it comes from. None if the order
          is the same.
        `added`: a number that is added to each value of the source.

        Raises ModelError if the source tensor is missing, has another shape, or does not hold weights.
        """
        tensor = self._checkpoint.tensor(source)
        if tensor.shape != shape:
            raise damaged(
                self._checkpoint.folder,
                f"has {source!r} in the shape {list(tensor.shape)}, but its config.json implies {list(shape)}",
            )
        check_weights(tensor, self._checkpoint.folder)
        module = source.removesuffix(".weight")
        self._recipes[source] = TensorRecipe(name, source, shape, module, order, added=added)

    def compute(self, name: str, values: NDArray[np.float32]) -> None:
        """Add the recipe of a tensor that is computed from the configuration. `values` are its values."""
        self._computed.append(TensorRecipe(name, "", values.shape, saved=values))

    def take_if_present(
        self, name: str, source: str, shape: tuple[int, ...], order: NDArray[np.uint32] | None = None
    ) -> None:
        """Call `take` if the checkpoint has the tensor. Otherwise do nothing."""
        if source in self._checkpoint:
            self.take(name, source, shape, order)

    def finish(self, ignored: frozenset[str] = frozenset()) -> tuple[TensorRecipe, ...]:
        """Return all recipes: first those that `compute` added, then the rest in the order of the checkpoint's tensors.

        Raises ModelError if a tensor of the checkpoint has no recipe and is not among `ignored`. Constants that old
        versions of transformers saved with the weights need no recipe.
        """
        for source in self._checkpoint:
            if source not in self._recipes and source not in ignored and not _CONSTANTS.fullmatch(source):
                raise ModelError(
                    f"{self._checkpoint.folder} has the tensor {source[:120]!r}, which its architecture does not know",
                    step="give a checkpoint without such parts",
                    file=str(self._checkpoint.folder),
                    field=source[:120],
                )
        return (*self._computed, *(self._recipes[source] for source in self._checkpoint if source in self._recipes))


def general_metadata(architecture: str, checkpoint: Checkpoint) -> dict[str, MetadataValue]:
    """Return the metadata that every model gets: its architecture, and the name of its repository or folder."""
    folder = checkpoint.folder.resolve()
    name = folder.name
    if folder.parent.name == "snapshots":  # the hub's cache: models--ORGANIZATION--NAME/snapshots/REVISION
        name = folder.parent.parent.name.rpartition("--")[2]
    return {
        "general.architecture": ("STRING", architecture),
        "general.type": ("STRING", "model"),
        "general.name": ("STRING", name.encode("utf-8", "replace").decode()),
    }
