"""Reads a PEFT adapter (LoRA, rsLoRA or DoRA), which changes or replaces tensors of a base model.

For each changed matrix, the adapter has two small matrices, the factors A and B. Their product B A is added to the
matrix. An adapter that cannot be merged exactly is refused, and the error says why. PEFT's
get_peft_model_state_dict writes this format (https://github.com/huggingface/peft).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import psutil
from numpy.typing import NDArray

from ecellm_lite.convert.adapter_settings import AdapterSettings, read_settings
from ecellm_lite.convert.reading import damaged, inside
from ecellm_lite.convert.safetensors_file import SafetensorsFile, check_weights
from ecellm_lite.convert.source import InputFile
from ecellm_lite.errors import ModelError
from ecellm_lite.kernels import Factors
from ecellm_lite.kernels.floats import widened
from ecellm_lite.models.files import size_text

_PREFIX = "base_model.model."
_FACTORS = {
    ".lora_A.weight": "a",
    ".lora_B.weight": "b",
    ".lora_embedding_A": "embedding_a",
    ".lora_embedding_B": "embedding_b",
    ".lora_magnitude_vector": "magnitude",
    ".lora_magnitude_vector.weight": "magnitude",
}
_BASE_LAYER = (".base_layer.weight", ".base_layer.bias")


@dataclass(frozen=True, slots=True)
class WholeTensor:
    """A tensor, or some of its rows, that an adapter's file stores with all its values instead of as two factors.

    The tensor can be large, so its values are read only when they are needed. Each read opens the file again.
    """

    file: SafetensorsFile
    name: str
    type: str
    first: int
    shape: tuple[int, ...]

    def part(self, rows: slice) -> WholeTensor:
        """Return some rows of the tensor, as another WholeTensor. The rows' values are not read yet."""
        first, end, _ = rows.indices(self.shape[0])
        return replace(self, first=self.first + first, shape=(max(0, end - first), *self.shape[1:]))

    def blocks(self, size: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Yield the tensor in blocks of whole rows, each with about `size` values.

        Each item is a pair: the number of the block's first row, and the block's values in float32.
        """
        with self.file.reopened() as file:
            if not self.shape:
                yield 0, widened(file.rows(self.name), self.type)
                return
            step = max(1, size // max(1, math.prod(self.shape[1:])))
            for first in range(0, self.shape[0], step):
                count = min(step, self.shape[0] - first)
                yield first, widened(file.rows(self.name, self.first + first, count), self.type)

    def values(self) -> NDArray[np.float32]:
        """Return all values of the tensor."""
        blocks = [block for _, block in self.blocks(math.prod(self.shape))]
        return blocks[0] if blocks else np.empty(self.shape, dtype=np.float32)


@dataclass(frozen=True, slots=True)
class PeftAdapter:
    """A PEFT adapter. Its modules and tensors have the names of the base model's checkpoint.

    - `factors`: the LoRA matrices of each module.
    - `magnitudes`: for each module of a DoRA adapter, the norm that each row of the merged matrix gets.
    - `saved`: whole tensors that replace tensors of the base. Their values are read when needed.
    - `base_layers`: tensors of the base that PEFT saved with the adapter, unchanged. Their values are read when needed.
    - `inputs`: the files that were read.
    - `targets`: endings of module names, such as `q_proj`. Modules with these endings have factors. `targets` is empty
      if the configuration chooses modules in another way.
    """

    path: Path
    base_model: str
    factors: Mapping[str, Factors]
    magnitudes: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    saved: Mapping[str, WholeTensor] = field(default_factory=dict)
    base_layers: Mapping[str, WholeTensor] = field(default_factory=dict)
    inputs: tuple[InputFile, ...] = ()
    targets: tuple[str, ...] = ()

    def without_tensors(self) -> PeftAdapter:
        """Return a copy without factors and tensors, so that their memory can be freed.

        The manifest needs only the other fields.
        """
        return replace(self, factors={}, magnitudes={}, saved={}, base_layers={})


def read_adapter(folder: Path) -> PeftAdapter:
    """Read the adapter in a PEFT folder. Raises ModelError if the adapter is damaged or cannot be merged."""
    if not folder.is_dir():
        raise ModelError(
            f"{folder} is not a folder",
            step="give a PEFT adapter's folder, with its adapter_config.json",
            file=str(folder),
        )
    config = inside(folder, "adapter_config.json")
    settings = read_settings(config)
    if not (folder / "adapter_model.safetensors").exists() and (folder / "adapter_model.bin").exists():
        raise ModelError(
            f"{folder} holds its weights as a pickle, which can run code when it is read",
            step="save the adapter again with peft's save_pretrained(FOLDER, safe_serialization=True)",
            file=str(folder / "adapter_model.bin"),
        )
    with SafetensorsFile(inside(folder, "adapter_model.safetensors")) as file:
        inputs = (InputFile.of(config, config.stat()), file.input)
        parts, saved, base_layers = _read_tensors(file)
        file.check_unchanged()
    settings.check_work(parts)
    factors: dict[str, Factors] = {}
    magnitudes: dict[str, NDArray[np.float32]] = {}
    for module, part in parts.items():
        factors[module] = _factors(module, part, settings, folder)
        if "magnitude" in part and not settings.dora:
            raise damaged(folder, f"has magnitudes for {module!r}, although it is not a DoRA adapter")
        if settings.dora:
            magnitudes[module] = _magnitudes(module, part, len(factors[module].b), folder)
    if not factors and not saved:
        raise damaged(folder, "holds an adapter without weights")
    return PeftAdapter(
        folder, settings.base_model, factors, magnitudes, saved, base_layers, inputs, targets=settings.targets
    )


def check_memory(path: Path, shapes: Iterable[Sequence[int]]) -> None:
    """Raise ModelError if there is too little free memory for float32 factors of these shapes.

    `path`: the adapter's file, for the error message.
    """
    needed, free = 4 * sum(map(math.prod, shapes)), psutil.virtual_memory().available
    if needed > free:
        raise ModelError(
            f"{path} needs {size_text(needed)} of memory, and {size_text(free)} are free",
            step="check that it is an adapter, and merge it on a larger machine",
            file=str(path),
        )


def _read_tensors(
    file: SafetensorsFile,
) -> tuple[dict[str, dict[str, NDArray[np.float32]]], dict[str, WholeTensor], dict[str, WholeTensor]]:
    """Return the matrices of each module, and the fields `saved` and `base_layers` of PeftAdapter.

    A module's matrices have the keys "a" and "b" (for an embedding "embedding_a" and "embedding_b"), and with DoRA also
    "magnitude". `saved` has tensors that replace tensors of the base. `base_layers` has unchanged tensors of the base.
    """
    check_memory(file.path, [tensor.shape for key, tensor in file.tensors.items() if key.endswith(tuple(_FACTORS))])
    parts: dict[str, dict[str, NDArray[np.float32]]] = {}
    saved: dict[str, WholeTensor] = {}
    base_layers: dict[str, WholeTensor] = {}
    for key, tensor in file.tensors.items():
        if not key.startswith(_PREFIX):
            raise damaged(file.path, f"has the key {key!r}, which does not begin with {_PREFIX!r} as PEFT's keys do")
        name = key.removeprefix(_PREFIX)
        suffix = next((ending for ending in _FACTORS if name.endswith(ending)), None)
        if suffix:
            part = parts.setdefault(name.removesuffix(suffix), {})
            if _FACTORS[suffix] in part:
                raise damaged(file.path, f"has the magnitudes of {name.removesuffix(suffix)!r} twice")
            part[_FACTORS[suffix]] = widened(file.rows(key), tensor.type)
            continue
        if "lora_" in name:
            raise damaged(file.path, f"has the unknown key {key!r}")
        check_weights(tensor, file.path)
        whole = WholeTensor(file, key, tensor.type, 0, tensor.shape)
        if name.endswith(_BASE_LAYER):
            # If an adapter changes an embedding or output matrix, PEFT also saves the base's own values of that matrix.
            base_layers["".join(name.rsplit(".base_layer", 1))] = whole
            continue
        name = name.replace(".modules_to_save.", ".")
        if name in saved:
            raise damaged(file.path, f"has {name!r} twice, once under modules_to_save")
        saved[name] = whole
    return parts, saved, base_layers


def _factors(module: str, part: Mapping[str, NDArray[np.float32]], settings: AdapterSettings, folder: Path) -> Factors:
    names = part.keys() - {"magnitude"}
    if names == {"a", "b"}:
        a, b = part["a"], part["b"]
    elif names == {"embedding_a", "embedding_b"}:
        # The rows of an embedding are tokens, so the transpose of B A is added.
        a, b = part["embedding_b"].T, part["embedding_a"].T
    else:
        raise damaged(folder, f"has {', '.join(part)} for {module!r}, which is not one pair of factors")
    if a.ndim != 2 or b.ndim != 2 or a.shape[0] != b.shape[1]:
        raise damaged(folder, f"has factors of the shapes {a.shape} and {b.shape} for {module!r}")
    return Factors(np.ascontiguousarray(a), np.ascontiguousarray(b), settings.scale(module, len(a)))


def _magnitudes(module: str, part: Mapping[str, NDArray[np.float32]], rows: int, folder: Path) -> NDArray[np.float32]:
    if "magnitude" not in part:
        raise damaged(folder, f"has no magnitudes for {module!r}, although it is a DoRA adapter")
    if "embedding_a" in part:
        # For an embedding, DoRA's magnitudes are norms of columns, not of rows.
        raise ModelError(
            f"{folder}: {module!r} is an embedding with DoRA", step="merge the adapter with peft", file=str(folder)
        )
    magnitudes = part["magnitude"].reshape(-1)
    if magnitudes.shape != (rows,):
        raise damaged(folder, f"has {magnitudes.size:,} magnitudes for the {rows:,} rows of {module!r}")
    return magnitudes
