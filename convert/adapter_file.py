"""Writes a PEFT adapter as a LoRA GGUF file. llama.cpp applies such a file to the base model at run time.

For each changed tensor, the file has two factors A and B. The file also has one alpha. llama.cpp multiplies B by A and
by alpha / rank, and adds the product to the base's tensor. B's rows are in the order of the base model's GGUF file, as
in llama.cpp's convert_lora_to_gguf.py.

If an adapter has several alphas (rsLoRA with several ranks, or alpha_pattern), the most frequent one becomes the file's
alpha. Each B is multiplied by its tensor's alpha divided by the file's alpha.

Only the base's architecture and shapes are read, not its weights.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ecellm_lite.convert.adapter_settings import is_scale
from ecellm_lite.convert.blueprint import Blueprint, MetadataValue, TensorRecipe
from ecellm_lite.convert.conversion import open_base, read_any_adapter, with_current_module_names
from ecellm_lite.convert.gguf_bytes import aligned, header_bytes
from ecellm_lite.convert.merging import WeightedAdapter, attach_adapters
from ecellm_lite.convert.planned_tensor import PlannedTensor
from ecellm_lite.convert.request import name_of_base
from ecellm_lite.errors import ModelError, UsageError
from ecellm_lite.kernels.floats import FLOATS
from ecellm_lite.models.adapter_check import check_adapter, check_finite
from ecellm_lite.models.files import replacing
from ecellm_lite.models.gguf_header import read_header
from ecellm_lite.tensor_types import CONVERTED, FILE_TYPES

FILE_TYPE = "F16"
_FILE_TYPES = ("F16", "F32")


@dataclass(frozen=True, slots=True)
class AdapterFileFacts:
    """Facts about an adapter file that was written.

    `size`: the file's size in bytes.
    `base`: the base model.
    `tensors`: the number of changed tensors.
    `rank`: the largest rank of a changed tensor.
    """

    path: Path
    sha256: str
    size: int
    base: str
    tensors: int
    rank: int


def write_adapter_file(
    base: str, folder: Path, target: Path, *, weight: float = 1.0, file_type: str = FILE_TYPE
) -> AdapterFileFacts:
    """Write the adapter in a PEFT folder to the GGUF file `target`. After an error, no file is left.

    `base`: the base model, as in ConversionRequest.
    `weight`: a number by which the adapter's changes are multiplied.
    `file_type`: the type of the factors, F16 or F32.

    Raises UsageError for an unknown file type, or a target that is also an input. Raises ModelError for an adapter that
    does not fit the base, or that llama.cpp cannot apply at run time. At run time, llama.cpp can only add a product of
    two factors. So DoRA is refused, because it scales rows by norms of the merged weights. `modules_to_save` is refused
    too, because it replaces whole tensors.
    """
    if file_type not in _FILE_TYPES:
        raise UsageError(
            f"An adapter cannot be written as {file_type}", step="give F16 or F32", settings=("file_type",)
        )
    adapter = read_any_adapter(folder)
    with open_base(base) as (source, blueprint):
        inputs = [file.path for file in (*adapter.inputs, *source.inputs(), *source.configuration())]
        if any(target.exists() and target.samefile(path) for path in (folder, *inputs)):
            raise UsageError(f"{target} is one of the inputs", step="give another output file", settings=("target",))
        adapter = with_current_module_names(adapter, blueprint)
        attached = attach_adapters(blueprint, source, [WeightedAdapter(adapter, weight)])
        recipes = _applicable(attached, blueprint, folder)
    alpha = _common_alpha(recipes)
    factors: dict[str, NDArray[np.generic]] = {}
    for recipe in recipes:
        a, b = _factors(recipe, alpha, file_type, folder)
        factors |= {f"{recipe.name}.lora_a": a, f"{recipe.name}.lora_b": b}
    metadata: dict[str, MetadataValue] = {
        "general.architecture": ("STRING", blueprint.architecture),
        "general.type": ("STRING", "adapter"),
        "general.name": ("STRING", target.stem.encode("utf-8", "replace").decode()),
        "general.base_model.count": ("UINT32", 1),
        "general.base_model.0.name": ("STRING", name_of_base(base).encode("utf-8", "replace").decode()),
        "general.file_type": ("UINT32", FILE_TYPES[file_type]),
        "adapter.type": ("STRING", "lora"),
        "adapter.lora.alpha": ("FLOAT32", alpha),
    }
    content = _content(metadata, factors, file_type)
    shapes = {recipe.name: tuple(reversed(recipe.shape)) for recipe in blueprint.recipes}
    _write(target, content, blueprint.architecture, shapes)
    return AdapterFileFacts(
        target,
        hashlib.sha256(content).hexdigest(),
        len(content),
        name_of_base(base),
        len(recipes),
        max(_rank(recipe) for recipe in recipes),
    )


def _applicable(attached: Blueprint, blueprint: Blueprint, folder: Path) -> list[TensorRecipe]:
    """Return the recipes of the tensors that the adapter changes, which are the recipes with LoRA factors.

    `attached`: the blueprint with the adapter's changes. `blueprint`: the same blueprint without them.

    Raises ModelError if the adapter makes a change that llama.cpp cannot apply while it runs.
    """
    names = {recipe.name for recipe in blueprint.recipes}
    for recipe in attached.recipes:
        problem = None
        if recipe.magnitudes is not None:
            problem = f"is a DoRA adapter, which scales whole rows of {recipe.name}"
        elif recipe.saved is not None and recipe.source:
            problem = f"replaces {recipe.name} as a whole (modules_to_save)"
        elif recipe.factors and recipe.name == "token_embd.weight":
            problem = "changes the embedding, which llama.cpp cannot do while it runs"
        elif recipe.factors and recipe.name not in names:
            problem = f"changes {recipe.name}, which the base shares with its embedding"
        if problem:
            raise ModelError(f"{folder} {problem}", step="merge it into its base when converting", file=str(folder))
    return [recipe for recipe in attached.recipes if recipe.factors]


def _rank(recipe: TensorRecipe) -> int:
    return sum(len(each.a) for each in recipe.factors)


def _alpha(recipe: TensorRecipe) -> float:
    """Return the alpha of a tensor, which is its scale times its rank."""
    return recipe.factors[0].scale * _rank(recipe)


def _common_alpha(recipes: list[TensorRecipe]) -> float:
    [(alpha, _)] = Counter(map(_alpha, recipes)).most_common(1)
    return alpha


def _factors(
    recipe: TensorRecipe, alpha: float, file_type: str, folder: Path
) -> tuple[NDArray[np.generic], NDArray[np.generic]]:
    """Return the factors A (rank, columns) and B (rows, rank) of a tensor.

    B's rows are in the order of the base's GGUF file.
    """
    a = np.concatenate([each.a for each in recipe.factors])
    b = np.concatenate([each.b for each in recipe.factors], axis=1)
    b = b if recipe.order is None else b[recipe.order]
    with np.errstate(over="ignore"):
        if (ratio := _alpha(recipe) / alpha) != 1:
            b = b * np.float32(ratio)
        narrow = [np.ascontiguousarray(each.astype(FLOATS[file_type])) for each in (a, b)]
    if not is_scale(alpha) or not all(np.isfinite(each).all() for each in narrow):
        raise ModelError(
            f"{folder} has factors of {recipe.name} that are too large for {file_type}",
            step="write it as F32, or merge it into its base",
            settings=("file_type",),
            file=str(folder),
        )
    return narrow[0], narrow[1]


def _content(
    metadata: Mapping[str, MetadataValue], factors: Mapping[str, NDArray[np.generic]], file_type: str
) -> bytes:
    tensors, end = [], 0
    for name, values in factors.items():
        tensors.append(PlannedTensor(TensorRecipe(name, name, values.shape), "F32", CONVERTED[file_type], end))
        end = aligned(end + values.nbytes)
    content = bytearray(header_bytes(metadata, tensors))
    for values in factors.values():
        content += values.tobytes()
        content += bytes(aligned(len(content)) - len(content))
    return bytes(content)


def _write(target: Path, content: bytes, architecture: str, shapes: Mapping[str, tuple[int, ...]]) -> None:
    try:
        with replacing(target.resolve()) as temporary:  # a link stays a link
            temporary.write_bytes(content)
            header = read_header(temporary)
            check_adapter(header, architecture, shapes)
            check_finite(header)
    except OSError as error:
        raise ModelError(
            f"{target} cannot be written ({error.strerror})",
            step="check the folder's rights, or give another output file",
            settings=("target",),
            file=str(target),
        ) from None
