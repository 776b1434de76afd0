"""Adapters hung into a blueprint: what is added to each tensor of the file, and what takes a tensor's place.

Every key of an adapter finds its tensor, or the adapter is refused with the keys: one that is merged in part would be
a model that nobody trained. What a model that is tied computes with an adapter on its embedding or its output matrix
alone is what peft's unmerged model computes: the other of the two stays as it was, so the file gets both.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Sequence, Set
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ecellm_lite.convert.adapter import Factors, PeftAdapter, Whole, is_scale
from ecellm_lite.convert.blueprint import Blueprint, Recipe
from ecellm_lite.convert.checkpoint import widened
from ecellm_lite.convert.safetensors_file import WEIGHTS
from ecellm_lite.convert.source import Source
from ecellm_lite.errors import ModelError, UsageError
from ecellm_lite.kernels.conversion import MOST_ADAPTERS, MOST_RANK, Adapter

_COMPARED = 1 << 22  # weights at a time


@dataclass(frozen=True, slots=True)
class Part:
    """A tensor of the file with what is hung into it.

    `adapters` and `magnitudes` are indexed by the source's rows. `saved`, of the recipe's shape, stands for the source.
    """

    recipe: Recipe
    adapters: tuple[Adapter, ...] = ()
    magnitudes: NDArray[np.float32] | None = None
    saved: NDArray[np.float32] | None = None

    def digest(self) -> bytes:
        """Return a hash of everything here that decides the tensor's bytes, but for the source's."""
        recipe = self.recipe
        found = hashlib.sha256(repr((recipe.name, recipe.source, recipe.shape)).encode())
        for values in (recipe.order, self.magnitudes, self.saved):
            found.update(b"none" if values is None else hashlib.sha256(np.ascontiguousarray(values).data).digest())
        for one in self.adapters:
            found.update(repr((one.a.shape, one.b.shape, float(np.float32(one.scale)))).encode())
            found.update(np.ascontiguousarray(one.a).data)
            found.update(np.ascontiguousarray(one.b).data)
        return found.digest()


@dataclass(frozen=True, slots=True)
class Weighted:
    """An adapter and the weight that what it adds is multiplied with."""

    adapter: PeftAdapter
    weight: float = 1.0


def hang(blueprint: Blueprint, source: Source, adapters: Sequence[Weighted] = ()) -> tuple[Part, ...]:
    """Return the file's tensors with the adapters hung into them, in the blueprint's order.

    Raises ModelError with the keys that fit nothing, or for an adapter of another base; UsageError for adapters or
    weights that do not go together.
    """
    _check_together(adapters)
    parts = {recipe.name: Part(recipe) for recipe in blueprint.recipes}
    for weighted in adapters:
        found = _known(blueprint, source, weighted.adapter)
        if blueprint.tied and blueprint.output and blueprint.output.name not in parts and _unties(blueprint, found):
            parts[blueprint.output.name] = Part(blueprint.output)
        for name in found.factors:
            factors = weighted.adapter.factors[found.factors[name]]
            parts[name] = _added(parts[name], factors, weighted)
        for name, key in found.saved.items():
            parts[name] = _replaced(parts[name], key, weighted)
    return tuple(parts.values())


@dataclass(frozen=True, slots=True)
class _Found:
    """By the file's tensor: the module of an adapter's factors, and the key of its whole tensor."""

    factors: dict[str, str]
    saved: dict[str, str]


def _check_together(adapters: Sequence[Weighted]) -> None:
    for one in adapters:
        if not math.isfinite(one.weight) or one.weight == 0:
            raise UsageError(f"The weight of {one.adapter.path} is {one.weight}: give a number that is not 0.")
        dora = any(factors.magnitude is not None for factors in one.adapter.factors.values())
        if dora and (len(adapters) > 1 or one.weight != 1):
            raise UsageError(
                f"{one.adapter.path} is a DoRA adapter, which scales whole rows: it goes alone, and at weight 1."
            )


def _known(blueprint: Blueprint, source: Source, adapter: PeftAdapter) -> _Found:
    recipes = [*blueprint.recipes, *([blueprint.output] if blueprint.output and blueprint.tied else [])]
    modules = {recipe.module: recipe for recipe in recipes if recipe.module}
    tensors = {_key(recipe): recipe for recipe in recipes}
    unknown = [f"{name}.lora_A/B" for name in adapter.factors if name not in modules]
    unknown += [name for name in (*adapter.saved, *adapter.base_layers) if name not in tensors]
    if unknown:
        raise ModelError(
            f"{adapter.path} changes {_listed(unknown)}, which the base does not have: "
            f"it is an adapter of another model{_said(adapter)}."
        )
    _check_targets(blueprint, adapter, {name for name, recipe in modules.items() if len(recipe.shape) == 2})
    for key, values in adapter.base_layers.items():
        if not _is_of(source, tensors[key], values):
            raise ModelError(
                f"{adapter.path} brings its base's {key}, and the base given has another one: "
                f"it is an adapter of another base{_said(adapter)}."
            )
    misfits = [
        f"{name} ({len(one.b):,} x {one.a.shape[1]:,}, the base's {_shown(modules[name].shape)})"
        for name, one in adapter.factors.items()
        if (len(one.b), one.a.shape[1]) != modules[name].shape
    ]
    misfits += [
        f"{key} ({_shown(values.shape)}, the base's {_shown(tensors[key].shape)})"
        for key, values in adapter.saved.items()
        if values.shape != tensors[key].shape
    ]
    if misfits:
        raise ModelError(
            f"{adapter.path} has other shapes than the base: {_listed(misfits)}. "
            f"It is an adapter of another base{_said(adapter)}."
        )
    # peft saves embeddings along that were never trained: what is the base's own changes nothing.
    saved = {tensors[key].name: key for key, values in adapter.saved.items() if not _same(source, tensors[key], values)}
    both = sorted(name for name in adapter.factors if modules[name].name in saved)
    if both:
        raise ModelError(
            f"{adapter.path} has factors and a whole tensor for {_listed(both)}: one of them can be meant."
        )
    return _Found({modules[name].name: name for name in adapter.factors}, saved)


def _check_targets(blueprint: Blueprint, adapter: PeftAdapter, matrices: Set[str]) -> None:
    """Raise ModelError if a matrix that the adapter's settings name has no factors, as in a file that lost some."""
    if not adapter.targets:
        return
    targets = set(adapter.targets)
    wanted = {name for name in matrices if not targets.isdisjoint(_ends(name))}
    # A target that names a layer can be one that is trained in that layer only; Phi-2's old targets name nothing today.
    if not any(part.isdigit() for target in adapter.targets for part in target.split(".")):
        for layer, inner in set(filter(None, map(_in_layer, adapter.factors))):
            wanted |= {f"{layer}{number}.{inner}" for number in range(blueprint.model.layers)} & matrices
    missing = sorted(name for name in wanted - adapter.factors.keys() if f"{name}.weight" not in adapter.saved)
    if missing:
        raise ModelError(
            f"{adapter.path} has nothing for {_listed(missing)}, which its target_modules in adapter_config.json name: "
            f"get it again, if it is an adapter of this base{_said(adapter)}."
        )


def _ends(module: str) -> list[str]:
    """Return a module's name, and what stands behind each of its dots."""
    parts = module.split(".")
    return [".".join(parts[first:]) for first in range(len(parts))]


def _in_layer(module: str) -> tuple[str, str] | None:
    """Return what stands before and behind the number of a module's layer."""
    found = re.fullmatch(r"(model\.layers\.)\d+\.(.+)", module)
    return (found[1], found[2]) if found else None


def _unties(blueprint: Blueprint, found: _Found) -> bool:
    """Whether an adapter changes the embedding or the output matrix of a tied model."""
    assert blueprint.output is not None
    tied = {recipe.name for recipe in blueprint.recipes if recipe.source == blueprint.output.source}
    return bool((tied | {blueprint.output.name}) & (found.factors.keys() | found.saved.keys()))


def _added(part: Part, factors: Factors, weighted: Weighted) -> Part:
    if not all(np.isfinite(values).all() for values in (factors.a, factors.b)):
        raise ModelError(
            f"{weighted.adapter.path}: a factor of {part.recipe.module!r} is infinite or not a number: get it again."
        )
    scale = factors.scale * weighted.weight
    if not is_scale(scale):
        raise UsageError(
            f"The weight of {weighted.adapter.path} is {weighted.weight}, with which its factors are multiplied with "
            f"{scale:g}: give a number nearer to 1."
        )
    b, magnitude, order = factors.b, factors.magnitude, part.recipe.adapter_order
    if order is not None:
        b, magnitude = b[order], None if magnitude is None else magnitude[order]
    # A rank beyond what the kernels take is the same sum in several parts.
    more = tuple(
        Adapter(factors.a[first : first + MOST_RANK], b[:, first : first + MOST_RANK], scale)
        for first in range(0, len(factors.a), MOST_RANK)
    )
    if (count := len(part.adapters) + len(more)) > MOST_ADAPTERS:
        raise UsageError(
            f"{count} factors of a rank up to {MOST_RANK} are added to {part.recipe.name}, with those of "
            f"{weighted.adapter.path}: {MOST_ADAPTERS} is the most at once, so merge in two runs."
        )
    return replace(part, adapters=part.adapters + more, magnitudes=magnitude)


def _replaced(part: Part, key: str, weighted: Weighted) -> Part:
    path = weighted.adapter.path
    if weighted.weight != 1:
        raise UsageError(
            f"{path} brings the whole tensor {key!r}, which cannot be weighted: use it at weight 1, not "
            f"{weighted.weight:g}."
        )
    if part.saved is not None:
        raise UsageError(f"{path} and another adapter bring the whole tensor {key!r}: use one of them.")
    saved, order = weighted.adapter.saved[key].values(), part.recipe.adapter_order
    return replace(part, saved=saved if order is None else saved[order])


def _key(recipe: Recipe) -> str:
    """Return what an adapter calls the recipe's tensor: a tied model's output matrix has no name in its checkpoint."""
    if recipe.module and recipe.source.endswith(".weight"):
        return f"{recipe.module}.weight"
    return str(recipe.module or recipe.source)


def _is_of(source: Source, recipe: Recipe, whole: Whole) -> bool:
    """Whether a tensor of an adapter's base can be the source's: of a quantized one, what it was before is lost."""
    placed = source.tensor(recipe.source)
    if placed.dtype not in WEIGHTS:
        return bool(whole.shape == placed.shape)
    return _same(source, recipe, whole)


def _same(source: Source, recipe: Recipe, whole: Whole) -> bool:
    """Whether the source holds these values."""
    placed = source.tensor(recipe.source)
    if whole.shape != placed.shape or placed.dtype not in WEIGHTS:
        return False
    order = recipe.adapter_order
    # Rows that were permuted are those of queries and keys, which are no large matrices.
    blocks = whole.blocks(_COMPARED) if order is None else iter([(0, whole.values()[order])])
    return all(
        bool((widened(source.rows(recipe.source, first, len(block)), placed.dtype) == block).all())
        for first, block in blocks
    )


def _said(adapter: PeftAdapter) -> str:
    return f" (it says of {adapter.base_model[:120]!r})" if adapter.base_model else ""


def _shown(shape: tuple[int, ...]) -> str:
    return " x ".join(f"{length:,}" for length in shape)


def _listed(names: Sequence[str], most: int = 8) -> str:
    shown = ", ".join(name[:160] for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most:,} more"
