"""Adds the changes of adapters to the recipes of a blueprint.

In a tied model, one tensor is both the embedding and the output matrix. If an adapter changes only one of the two, the
file gets two tensors: a changed one, and one with the base's values. So the merged model gives the same results as the
base with the adapter in peft.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ecellm_lite.convert.adapter import PeftAdapter
from ecellm_lite.convert.adapter_fit import fit
from ecellm_lite.convert.adapter_settings import is_scale
from ecellm_lite.convert.blueprint import Blueprint, TensorRecipe
from ecellm_lite.convert.reading import damaged
from ecellm_lite.convert.source import TensorSource
from ecellm_lite.errors import UsageError
from ecellm_lite.kernels import Factors
from ecellm_lite.kernels.block import MOST_ADAPTERS, MOST_RANK


@dataclass(frozen=True, slots=True)
class WeightedAdapter:
    """An adapter, and the weight that its changes are multiplied by."""

    adapter: PeftAdapter
    weight: float = 1.0


def attach_adapters(blueprint: Blueprint, source: TensorSource, adapters: Sequence[WeightedAdapter] = ()) -> Blueprint:
    """Return the blueprint with the adapters' changes added to its recipes (how to make each tensor of the file).

    Raises ModelError for an adapter of another base, and UsageError for adapters or weights that cannot be combined.
    """
    _check_combination(adapters)
    for weighted in adapters:
        changed = fit(blueprint, source, weighted.adapter)
        if blueprint.tied and blueprint.output:
            tied = {recipe.name for recipe in blueprint.recipes if recipe.source == blueprint.output.source}
            if changed.changes({*tied, blueprint.output.name}):
                if blueprint.inseparable:
                    raise _unusable(
                        f"{weighted.adapter.path} changes the embedding without the output matrix or the reverse, "
                        f"but llama.cpp's {blueprint.architecture} uses one matrix for both",
                        "train the adapter without changing these matrices",
                    )
                recipes = (*blueprint.recipes, blueprint.output)
                blueprint = replace(blueprint, recipes=recipes, tied=False, output=None)
        recipes_by_name = {recipe.name: recipe for recipe in blueprint.recipes}
        for name, module in changed.factors.items():
            recipes_by_name[name] = _with_factors(recipes_by_name[name], module, weighted)
        for name, key in changed.saved.items():
            recipes_by_name[name] = _replaced(recipes_by_name[name], key, weighted)
        blueprint = replace(blueprint, recipes=tuple(recipes_by_name.values()))
    return blueprint


def _check_combination(adapters: Sequence[WeightedAdapter]) -> None:
    for weighted in adapters:
        if not math.isfinite(weighted.weight) or weighted.weight == 0:
            raise _unusable(
                f"The weight of {weighted.adapter.path} is {weighted.weight}", "give a finite number other than 0"
            )
        if weighted.adapter.magnitudes and (len(adapters) > 1 or weighted.weight != 1):
            raise _unusable(
                f"{weighted.adapter.path} is a DoRA adapter, which scales whole rows", "merge it alone, with weight 1"
            )


def _with_factors(recipe: TensorRecipe, module: str, weighted: WeightedAdapter) -> TensorRecipe:
    factors, magnitudes = weighted.adapter.factors[module], weighted.adapter.magnitudes.get(module)
    if not all(np.isfinite(values).all() for values in (factors.a, factors.b)):
        raise damaged(weighted.adapter.path, f"has a factor of {module!r} that is infinite or NaN")
    scale = factors.scale * weighted.weight
    if not is_scale(scale):
        raise _unusable(
            f"With the weight {weighted.weight}, {weighted.adapter.path} would be added at a scale of {scale:g}",
            "give a weight nearer to 1",
        )
    b, order = factors.b, recipe.adapter_order
    if order is not None:
        b, magnitudes = b[order], None if magnitudes is None else magnitudes[order]
    # Factors of a rank above the kernels' limit are split into several pairs with the same sum.
    parts = tuple(
        Factors(factors.a[first : first + MOST_RANK], b[:, first : first + MOST_RANK], scale)
        for first in range(0, len(factors.a), MOST_RANK)
    )
    if (count := len(recipe.factors) + len(parts)) > MOST_ADAPTERS:
        raise _unusable(
            f"With {weighted.adapter.path}, {count} pairs of factors of rank {MOST_RANK} would be added to "
            f"{recipe.name}, more than {MOST_ADAPTERS}",
            "merge the adapters in two runs",
        )
    return replace(recipe, factors=recipe.factors + parts, magnitudes=magnitudes)


def _replaced(recipe: TensorRecipe, key: str, weighted: WeightedAdapter) -> TensorRecipe:
    path = weighted.adapter.path
    if weighted.weight != 1:
        raise _unusable(f"{path} replaces the whole tensor {key!r}, so it cannot have a weight", "use it at weight 1")
    if recipe.saved is not None:
        raise _unusable(f"{path} and another adapter both replace the whole tensor {key!r}", "use only one of them")
    saved, order = weighted.adapter.saved[key].values(), recipe.adapter_order
    saved = saved if order is None else saved[order]
    return replace(recipe, saved=saved + np.float32(recipe.adapter_added) if recipe.adapter_added else saved)


def _unusable(problem: str, step: str) -> UsageError:
    return UsageError(problem, step=step, settings=("adapters",))
