"""A PEFT adapter: what it adds to which matrix of its base, and which tensors it brings whole.

LoRA, rsLoRA and DoRA, with patterns of ranks and alphas. What cannot be merged exactly is refused, with what it is: an
adapter that is left out in part would be a model that nobody trained. The format: PEFT's LoraConfig and
get_peft_model_state_dict (https://github.com/huggingface/peft).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ecellm_lite.convert.checkpoint import inside, read_json, widened
from ecellm_lite.convert.safetensors_file import SafetensorsFile
from ecellm_lite.convert.source import Input
from numpy.typing import NDArray

from ecellm_lite.errors import ModelError

MAX_PATTERN_LENGTH = 256

_PREFIX = "base_model.model."
_FACTORS = {
    ".lora_A.weight": "a",
    ".lora_B.weight": "b",
    ".lora_embedding_A": "embedding_a",
    ".lora_embedding_B": "embedding_b",
    ".lora_magnitude_vector": "magnitude",
    ".lora_magnitude_vector.weight": "magnitude",
}

# Settings that change what is computed in a way that no merge here knows, with the values that are harmless.
_REFUSED: Mapping[str, tuple[Any, ...]] = {
    "fan_in_fan_out": (False, None),
    "lora_bias": (False, None),
    "use_qalora": (False, None),
    "use_bdlora": (False, None),
    "layer_replication": (None,),
    "target_parameters": (None, [], ()),
    "trainable_token_indices": (None, [], {}),
    "alora_invocation_tokens": (None, []),
    "ensure_weight_tying": (False, None),
    "bias": ("none", None),
}

# Ways to begin that move a part of the base into the adapter: it fits no base but one that was changed as well.
_MOVED = ("pissa", "olora", "corda", "loftq", "lora_ga")


@dataclass(frozen=True, slots=True)
class Factors:
    """What is added to one matrix: scale * b @ a, with `a` (rank, columns) and `b` (rows, rank), both float32.

    `magnitude`, (rows,), is DoRA's: the norm of each row of the sum.
    """

    a: NDArray[np.float32]
    b: NDArray[np.float32]
    scale: float
    magnitude: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class PeftAdapter:
    """An adapter in memory: factors by module, whole tensors by name, and the base tensors that came along.

    Names are those of the base's modules and tensors, as in its checkpoint.
    """

    path: Path
    factors: Mapping[str, Factors]
    saved: Mapping[str, NDArray[np.float32]]
    base_layers: Mapping[str, NDArray[np.float32]]
    base_model: str
    inputs: tuple[Input, ...] = ()


def read_adapter(folder: Path) -> PeftAdapter:
    """Return the adapter in a PEFT folder, or raise ModelError with what is wrong or cannot be merged."""
    if not folder.is_dir():
        raise ModelError(f"{folder} is no folder: give that of a PEFT adapter, with its adapter_config.json.")
    config = read_json(inside(folder, "adapter_config.json"))
    _check(config, folder)
    weights = folder / "adapter_model.safetensors"
    if not weights.exists() and (folder / "adapter_model.bin").exists():
        raise ModelError(
            f"{folder} holds its weights as a pickle, which can run code when it is read: save the adapter again with "
            "peft's save_pretrained(FOLDER, safe_serialization=True)."
        )
    described = inside(folder, "adapter_config.json")
    parts: dict[str, dict[str, NDArray[np.float32]]] = {}
    saved: dict[str, NDArray[np.float32]] = {}
    base_layers: dict[str, NDArray[np.float32]] = {}
    with SafetensorsFile(inside(folder, "adapter_model.safetensors")) as file:
        status = described.stat()
        inputs = (
            Input(described, status.st_size, status.st_mtime_ns),
            Input(file.path, file.size, file.changed),
        )
        for key, tensor in file.tensors.items():
            if not key.startswith(_PREFIX):
                raise ModelError(f"{file.path}: the key {key!r} does not begin with {_PREFIX!r}, as PEFT's do.")
            name = key.removeprefix(_PREFIX)
            values = widened(file.rows(key), tensor.dtype)
            suffix = next((ending for ending in _FACTORS if name.endswith(ending)), None)
            if suffix:
                parts.setdefault(name.removesuffix(suffix), {})[_FACTORS[suffix]] = values
            elif name.endswith(".base_layer.weight"):
                base_layers[name.replace(".base_layer.weight", ".weight")] = values
            elif "lora_" in name:
                raise ModelError(f"{file.path}: nothing here knows what to do with the key {key!r}.")
            else:
                saved[name.replace(".modules_to_save.", ".")] = values
        file.check_unchanged()
    factors = {module: _factors(module, part, config, folder) for module, part in parts.items()}
    if not factors and not saved:
        raise ModelError(f"{folder} holds no weights: it is an empty adapter.")
    return PeftAdapter(folder, factors, saved, base_layers, str(config.get("base_model_name_or_path") or ""), inputs)


def _check(config: Mapping[str, Any], folder: Path) -> None:
    kind = config.get("peft_type")
    if kind != "LORA":
        raise ModelError(
            f"{folder} is an adapter of the type {kind!r}: only LORA (with rsLoRA and DoRA) can be merged."
        )
    for name, harmless in _REFUSED.items():
        if config.get(name) not in harmless:
            raise ModelError(f"{folder}: {name} is {config[name]!r}, which cannot be merged here: merge it with peft.")
    started = config.get("init_lora_weights", True)
    if isinstance(started, str) and started.lower().startswith(_MOVED):
        raise ModelError(
            f"{folder}: init_lora_weights is {started!r}, which moved a part of the base into the adapter: "
            "save it as plain LoRA with peft's path_initial_model_for_weight_conversion."
        )


def _factors(module: str, part: Mapping[str, NDArray[np.float32]], config: Mapping[str, Any], folder: Path) -> Factors:
    if {"a", "b"} <= part.keys():
        a, b = part["a"], part["b"]
    elif {"embedding_a", "embedding_b"} <= part.keys():
        # An embedding's rows are tokens: what is added is the transpose of B A.
        a, b = part["embedding_b"].T, part["embedding_a"].T
    else:
        raise ModelError(f"{folder}: the module {module!r} has {', '.join(part)} and lacks its other factor.")
    for name in ("rank_pattern", "alpha_pattern"):
        if not isinstance(config.get(name) or {}, dict):
            raise ModelError(f"{folder}: {name} is {str(config[name])[:80]}, which names no modules.")
    rank = _setting(module, config, "rank_pattern", "r")
    alpha = _setting(module, config, "alpha_pattern", "lora_alpha")
    if a.ndim != 2 or b.ndim != 2 or a.shape[0] != b.shape[1]:
        raise ModelError(f"{folder}: the factors of {module!r} have the shapes {a.shape} and {b.shape}.")
    if len(a) != rank:
        raise ModelError(f"{folder}: {module!r} has the rank {len(a)}, and its configuration says {rank!r}.")
    if not isinstance(alpha, (int, float)) or not math.isfinite(alpha):
        raise ModelError(f"{folder}: the alpha of {module!r} is {alpha!r}.")
    scale = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
    magnitude = part.get("magnitude")
    if magnitude is not None and "embedding_a" in part:
        # There they are the norms of columns.
        raise ModelError(f"{folder}: {module!r} is an embedding with DoRA: merge it with peft.")
    if bool(config.get("use_dora")) != (magnitude is not None):
        lacks = "lacks its magnitudes" if magnitude is None else "has magnitudes, and its configuration says no DoRA"
        raise ModelError(f"{folder}: the module {module!r} {lacks}.")
    if magnitude is not None:
        magnitude = magnitude.reshape(-1)
        if magnitude.shape != (len(b),):
            raise ModelError(f"{folder}: {module!r} has {magnitude.size:,} magnitudes for {len(b):,} rows.")
    return Factors(np.ascontiguousarray(a), np.ascontiguousarray(b), scale, magnitude)


def _setting(module: str, config: Mapping[str, Any], pattern: str, default: str) -> Any:
    """Return a module's rank or alpha: that of the first pattern that its name ends with, as PEFT matches them."""
    for key, value in (config.get(pattern) or {}).items():
        # A repetition of a group, or many repetitions, can take a hostile pattern's time without end.
        if len(key) > MAX_PATTERN_LENGTH or re.search(r"\)[*+?{]", key) or sum(key.count(c) for c in "*+{") > 4:
            raise ModelError(
                f"The {pattern} of an adapter has the key {key[:80]!r}: name the modules in simpler words."
            )
        try:
            if re.match(rf"(.*\.)?({key})$", module):
                return value
        except (re.error, RecursionError):
            raise ModelError(f"The {pattern} of an adapter has the key {key[:80]!r}, which is no pattern.") from None
    return config.get(default)
