"""Which type each tensor of a file gets: what llama.cpp's llama-quantize gives it, so that people know what they get.

The rules are those of llama_tensor_get_type in src/llama-quant.cpp of llama.cpp, for models without experts. Some
tensors get more bits than the rest; which, depends on their part in the model and on how far into it they stand.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ecellm_lite.errors import UsageError
from ecellm_lite.tensor_types import CONVERTED

# The type that a file's matrices have by default, by the file's type.
DEFAULTS = {
    "F32": "F32", "F16": "F16", "BF16": "BF16", "Q8_0": "Q8_0", "Q4_0": "Q4_0", "Q4_1": "Q4_1", "Q5_0": "Q5_0",
    "Q5_1": "Q5_1", "Q2_K": "Q2_K", "Q3_K_S": "Q3_K", "Q3_K_M": "Q3_K", "Q3_K_L": "Q3_K", "Q4_K_S": "Q4_K",
    "Q4_K_M": "Q4_K", "Q5_K_S": "Q5_K", "Q5_K_M": "Q5_K", "Q6_K": "Q6_K",
}  # fmt: skip

# What a tensor gets whose rows are no multiple of its type's block.
_FALLBACKS = {"Q2_K": "Q4_0", "Q3_K": "Q4_0", "Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}


@dataclass(frozen=True, slots=True)
class Matrix:
    """A tensor's name in the file, and its shape with the dimension that is contiguous last."""

    name: str
    shape: tuple[int, ...]

    @property
    def layer(self) -> int:
        """The layer it belongs to; -1 outside of them."""
        found = re.match(r"blk\.(\d+)\.", self.name)
        return int(found[1]) if found else -1


@dataclass(frozen=True, slots=True)
class Model:
    """What the rules ask of a model: its layers, and its heads for each of its key and value heads."""

    layers: int
    heads: int
    kv_heads: int

    @property
    def shared(self) -> int:
        """How many heads share a key and value head."""
        return self.heads // self.kv_heads


def tensor_types(
    tensors: Sequence[Matrix],
    file_type: str,
    model: Model,
    *,
    imatrix: bool = False,
    overrides: Sequence[tuple[str, str]] = (),
) -> dict[str, str]:
    """Return the type of each tensor by its name, in the order in which they stand in the file.

    `overrides`: pairs of a pattern, found anywhere in a name, and a type; the first that fits decides. Raises
    UsageError for a type or a pattern that there is not, and for a pattern that fits nothing.
    """
    if file_type not in DEFAULTS:
        raise UsageError(f"There is no file type {file_type!r}: take one of {', '.join(DEFAULTS)}.")
    patterns = [(_pattern(pattern), _known(kind)) for pattern, kind in overrides]
    matrices = [one.name for one in tensors if _is_quantized(one)]
    for pattern, kind in patterns:
        if not any(pattern.search(name) for name in matrices):
            raise UsageError(
                f"No matrix has a name with {pattern.pattern!r} in it, so none becomes {kind}: see --dry-run for names."
            )
    ordered = sorted(tensors, key=lambda one: (one.layer, one.name))
    rules = _Rules(file_type, model, imatrix, {one.name for one in ordered})
    return {one.name: rules.type_of(one, patterns) for one in ordered}


class _Rules:
    def __init__(self, file_type: str, model: Model, imatrix: bool, names: set[str]) -> None:
        self._file_type, self._model, self._imatrix = file_type, model, imatrix
        self._tied = "output.weight" not in names
        self._values = sum(_part(name) in {"attn_v", "attn_qkv"} for name in names)
        self._seen = {"attn_v": 0, "ffn_down": 0}

    def type_of(self, tensor: Matrix, patterns: Sequence[tuple[re.Pattern[str], str]]) -> str:
        if not _is_quantized(tensor):
            return "F32"
        default = DEFAULTS[self._file_type]
        chosen = next((kind for pattern, kind in patterns if pattern.search(tensor.name)), None)
        if chosen is None:
            chosen = default if default in {"F32", "F16", "BF16"} else self._chosen(tensor, default)
        return _fitting(chosen, tensor.shape[-1])

    def _chosen(self, tensor: Matrix, default: str) -> str:
        part = _part(tensor.name)
        if part == "output" or (self._tied and part == "token_embd"):
            # The one matrix that every token's answer goes through.
            if tensor.shape[-1] % CONVERTED[default].block:
                return "Q8_0"
            return default if default == "Q8_0" else "Q6_K"
        if part in {"attn_v", "attn_qkv"}:
            place = self._seen["attn_v"]
            self._seen["attn_v"] += 1
            return self._attention_value(place, default)
        if part == "ffn_down":
            place = self._seen["ffn_down"]
            self._seen["ffn_down"] += 1
            return self._ffn_down(place, default)
        if part == "attn_output":
            return {"Q2_K": "Q3_K", "Q3_K_M": "Q4_K", "Q3_K_L": "Q5_K"}.get(self._file_type, default)
        return default

    def _attention_value(self, place: int, default: str) -> str:
        chosen = default
        match self._file_type:
            case "Q2_K":
                chosen = "Q4_K" if self._model.shared >= 4 else "Q3_K"
            case "Q3_K_M":
                chosen = "Q5_K" if place < 2 else "Q4_K"
            case "Q3_K_L":
                chosen = "Q5_K"
            case "Q4_K_M" | "Q5_K_M" if _more_bits(place, self._values):
                chosen = "Q6_K"
            case "Q4_K_S" if place < 4:
                chosen = "Q5_K"
        # Llama-2-70B, whose values are small for being shared by eight heads.
        seventy = self._model.layers == 80 and self._model.shared > 1
        return "Q5_K" if seventy and chosen in {"Q3_K", "Q4_K"} else chosen

    def _ffn_down(self, place: int, default: str) -> str:
        layers = self._model.layers
        match self._file_type:
            case "Q2_K":
                return "Q3_K"
            case "Q3_K_M":
                return "Q5_K" if place < layers // 16 else "Q4_K"
            case "Q3_K_L":
                return "Q5_K"
            case "Q4_K_M" | "Q5_K_M" if _more_bits(place, layers):
                return "Q6_K"
            case "Q4_K_S" if place < layers // 8:
                return "Q5_K"
            case "Q4_0" | "Q5_0" if self._imatrix and place < layers // 8:
                return {"Q4_0": "Q4_1", "Q5_0": "Q5_1"}[self._file_type]
        return default


def _is_quantized(tensor: Matrix) -> bool:
    """Whether a tensor is a matrix of weights that the file's type is for: vectors, biases and norms stay float32."""
    return len(tensor.shape) > 1 and tensor.name.endswith("weight") and "_norm.weight" not in tensor.name


def _more_bits(place: int, count: int) -> bool:
    return place < count // 8 or place >= 7 * count // 8 or (place - count // 8) % 3 == 2


def _part(name: str) -> str:
    """Return what a tensor is in its layer, or in the model: attn_v, ffn_down, output."""
    return re.sub(r"^blk\.\d+\.", "", name).removesuffix(".weight")


def _fitting(kind: str, columns: int) -> str:
    for wanted in (kind, _FALLBACKS.get(kind, kind)):
        if columns % CONVERTED[wanted].block == 0:
            return wanted
    return "F16"


def _known(kind: str) -> str:
    if kind.upper() not in CONVERTED:
        raise UsageError(f"There is no tensor type {kind!r}: take one of {', '.join(CONVERTED)}.")
    return kind.upper()


def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise UsageError(f"The pattern {text!r} of a tensor type is none ({error}).") from None


def summary(types: Mapping[str, str]) -> dict[str, int]:
    """Return how many tensors there are of each type, the most first."""
    counts: dict[str, int] = {}
    for kind in types.values():
        counts[kind] = counts.get(kind, 0) + 1
    return dict(sorted(counts.items(), key=lambda pair: -pair[1]))
