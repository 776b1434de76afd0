"""Checks that an adapter was made for a given base model.

Each tensor that the adapter names must be in the base, with the same shape. An adapter that fits only partly is
refused, because a partial merge would give a model that nobody trained. The error lists the tensors that do not fit.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

import numpy as np

from ecellm_lite.convert.adapter import PeftAdapter, WholeTensor
from ecellm_lite.convert.blueprint import Blueprint, TensorRecipe
from ecellm_lite.convert.source import TensorSource
from ecellm_lite.errors import ModelError
from ecellm_lite.kernels.floats import FLOATS, widened

_COMPARED = 1 << 22  # weights at a time
_MOST_LISTED = 8  # names in a message


@dataclass(frozen=True, slots=True)
class AdapterFit:
    """The tensors that an adapter changes, by their names in the GGUF file.

    - `factors`: for each tensor, the name of the adapter's module whose factors are added to it.
    - `saved`: for each tensor, the key of the adapter's tensor that replaces it. A replacement that equals the base's
      tensor is left out.
    """

    factors: Mapping[str, str]
    saved: Mapping[str, str]

    def changes(self, names: Set[str]) -> bool:
        """Return whether the adapter changes at least one of the tensors in `names`."""
        return not names.isdisjoint(self.factors) or not names.isdisjoint(self.saved)


def fit(blueprint: Blueprint, source: TensorSource, adapter: PeftAdapter) -> AdapterFit:
    """Return the tensors that an adapter changes.

    Raises ModelError if the adapter was made for another base, or has both factors and a whole tensor for a module.
    """
    recipes = [recipe for recipe in blueprint.recipes if recipe.source]
    recipes += [blueprint.output] if blueprint.output and blueprint.tied else []
    modules = {recipe.module: recipe for recipe in recipes if recipe.module}
    tensors = {recipe.key: recipe for recipe in recipes}
    unknown = [f"{name}.lora_A/B" for name in adapter.factors if name not in modules]
    unknown += [name for name in (*adapter.saved, *adapter.base_layers) if name not in tensors]
    if unknown:
        raise _foreign(adapter, f"changes {_listed(unknown)}, which the base does not have")
    _check_targets(blueprint, adapter, {name for name, recipe in modules.items() if len(recipe.shape) == 2})
    for key, whole in adapter.base_layers.items():
        if not _can_be(source, tensors[key], whole):
            raise _foreign(adapter, f"was saved with a copy of its base's {key}, which differs from that of this base")
    _check_shapes(adapter, modules, tensors)
    # peft also saves embeddings that were never trained: those equal the base's.
    saved = {tensors[key].name: key for key, whole in adapter.saved.items() if not _equals(source, tensors[key], whole)}
    both = sorted(name for name in adapter.factors if modules[name].name in saved)
    if both:
        raise ModelError(
            f"{adapter.path} has both factors and a whole tensor for {_listed(both)}",
            step="save the adapter again with one of them",
            file=str(adapter.path),
        )
    return AdapterFit({modules[name].name: name for name in adapter.factors}, saved)


def _check_targets(blueprint: Blueprint, adapter: PeftAdapter, matrices: Set[str]) -> None:
    """Raise ModelError if the adapter has no weights for a matrix that its `target_modules` name."""
    if not adapter.targets:
        return
    targets = set(adapter.targets)
    targeted = {name for name in matrices if not targets.isdisjoint(_ends(name))}
    # A target that names a layer's number may be trained in that layer only. Phi-2's old targets match no current name.
    if not any(part.isdigit() for target in adapter.targets for part in target.split(".")):
        for layers, inner in set(filter(None, map(_in_layer, adapter.factors))):
            targeted |= {f"{layers}{number}.{inner}" for number in range(blueprint.model.layers)} & matrices
    missing = sorted(name for name in targeted - adapter.factors.keys() if f"{name}.weight" not in adapter.saved)
    if missing:
        raise _foreign(
            adapter,
            f"has nothing for {_listed(missing)}, although its target_modules name them",
            "download the adapter again, or give the base that it was trained on",
        )


def _check_shapes(
    adapter: PeftAdapter, modules: Mapping[str, TensorRecipe], tensors: Mapping[str, TensorRecipe]
) -> None:
    shapes: dict[str, tuple[int, ...]] = {
        name: (len(pair.b), pair.a.shape[1]) for name, pair in adapter.factors.items()
    }
    shapes |= {key: whole.shape for key, whole in adapter.saved.items()}
    recipes = {**modules, **tensors}
    misfits = [
        f"{name} ({_dimensions(shape)}, the base's {_dimensions(recipes[name].shape)})"
        for name, shape in shapes.items()
        if shape != recipes[name].shape
    ]
    if misfits:
        raise _foreign(adapter, f"has other shapes than the base: {_listed(misfits)}")


def _ends(module: str) -> list[str]:
    """Return all endings of a module's name. For a.b.c these are "a.b.c", "b.c" and "c"."""
    parts = module.split(".")
    return [".".join(parts[first:]) for first in range(len(parts))]


def _in_layer(module: str) -> tuple[str, str] | None:
    """Return the text before and after the layer number in a module's name, or None if it has no layer number."""
    match = re.fullmatch(r"(model\.layers\.)\d+\.(.+)", module)
    return (match[1], match[2]) if match else None


def _can_be(source: TensorSource, recipe: TensorRecipe, whole: WholeTensor) -> bool:
    """Return whether a tensor that an adapter stores whole (not as factors) may be a copy of the base's tensor.

    The two tensors' values are compared or, if the base is quantized, only their shapes.
    """
    tensor = source.tensor(recipe.source)
    return whole.shape == tensor.shape if tensor.type not in FLOATS else _equals(source, recipe, whole)


def _equals(source: TensorSource, recipe: TensorRecipe, whole: WholeTensor) -> bool:
    """Return whether an adapter's tensor has the same values as the base's tensor.

    If the base is quantized, return False.
    """
    tensor = source.tensor(recipe.source)
    if whole.shape != tensor.shape or tensor.type not in FLOATS:
        return False
    order = recipe.adapter_order
    # Only queries and keys have permuted rows, and those matrices are small enough to be read whole.
    blocks = whole.blocks(_COMPARED) if order is None else iter([(0, whole.values()[order])])
    added = np.float32(recipe.adapter_added)
    return all(
        bool((widened(source.rows(recipe.source, first, len(block)), tensor.type) == block + added).all())
        for first, block in blocks
    )


def _foreign(adapter: PeftAdapter, problem: str, step: str = "give the base that it was trained on") -> ModelError:
    base = f" ({adapter.base_model[:120]!r} by its configuration)" if adapter.base_model else ""
    return ModelError(f"{adapter.path} {problem}", step=f"{step}{base}", file=str(adapter.path))


def _dimensions(shape: tuple[int, ...]) -> str:
    return " x ".join(f"{length:,}" for length in shape)


def _listed(names: Sequence[str]) -> str:
    text = ", ".join(name[:160] for name in names[:_MOST_LISTED])
    return text if len(names) <= _MOST_LISTED else f"{text} and {len(names) - _MOST_LISTED:,} more"
