"""Extracts the language model from a checkpoint of a model that also sees images.

The language model's tensors get the names that a text-only checkpoint uses: `model.language_model.norm` becomes
`model.norm`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from ecellm_lite.convert.blueprint import Blueprint, TensorRecipe
from ecellm_lite.convert.checkpoint import Checkpoint
from ecellm_lite.convert.source import SourceTensor

# What names begin with: in a checkpoint of transformers before 4.52, since then, and in a language model alone.
_BEFORE, _SINCE, _ALONE = "language_model.", "model.language_model.", "model."
_IMAGES = ("vision_tower.", "multi_modal_projector.")


def is_of_images(name: str) -> bool:
    """Return whether a tensor or module belongs to the part of the model that sees images."""
    return name.removeprefix(_ALONE).startswith(_IMAGES)


def name_alone(name: str) -> str:
    """Remove the part of a tensor's or module's name that only multimodal checkpoints have.

    >>> name_alone("language_model.model.norm"), name_alone("model.language_model.norm"), name_alone("model.norm")
    ('model.norm', 'model.norm', 'model.norm')
    """
    if name.startswith(_BEFORE):
        return name.removeprefix(_BEFORE)
    return _ALONE + name.removeprefix(_SINCE) if name.startswith(_SINCE) else name


class LanguagePart(Checkpoint):
    """A view of a checkpoint with only the language model's tensors, under their names in a text-only checkpoint."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.folder, self.config, self.files = checkpoint.folder, checkpoint.config, checkpoint.files
        self._whole = checkpoint
        self._names = {name_alone(name): name for name in checkpoint if not is_of_images(name)}

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def tensor(self, name: str) -> SourceTensor:
        """Return a tensor's type, shape and position in its file."""
        return self._whole.tensor(self._names.get(name, name))

    def rows(self, name: str, first: int = 0, count: int | None = None) -> NDArray[Any]:
        """Return `count` rows of a tensor, or all remaining rows, beginning with row `first`."""
        return self._whole.rows(self._names.get(name, name), first, count)

    def restored(self, blueprint: Blueprint) -> Blueprint:
        """Return `blueprint` with the tensor names of the whole checkpoint, such as `model.language_model.norm`."""
        recipes = tuple(self._restored(recipe) for recipe in blueprint.recipes)
        return replace(blueprint, recipes=recipes, output=blueprint.output and self._restored(blueprint.output))

    def _restored(self, recipe: TensorRecipe) -> TensorRecipe:
        return replace(recipe, source=self._names.get(recipe.source, recipe.source))
