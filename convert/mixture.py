"""Chooses the quantization type of each tensor in a GGUF file, as llama.cpp's llama-quantize does.

The rules are those of llama_tensor_get_type in src/llama-quant.cpp of llama.cpp, for models without a mixture of
experts. Some tensors get more bits than others, depending on their role in the model and on their layer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ecellm_lite.errors import UsageError
from ecellm_lite.tensor_types import CONVERTED

# The default type of a file's matrices, by file type.
DEFAULTS = {
    "F32": "F32", "F16": "F16", "BF16": "BF16", "Q8_0": "Q8_0", "Q4_0": "Q4_0", "Q4_1": "Q4_1", "Q5_0": "Q5_0",
    "Q5_1": "Q5_1", "Q2_K": "Q2_K", "Q3_K_S": "Q3_K", "Q3_K_M": "Q3_K", "Q3_K_L": "Q3_K", "Q4_K_S": "Q4_K",
    "Q4_K_M": "Q4_K", "Q5_K_S": "Q5_K", "Q5_K_M": "Q5_K", "Q6_K": "Q6_K",
}  # fmt: skip

# The type used instead if a tensor's rows are not a multiple of the chosen type's block.
_FALLBACKS = {"Q2_K": "Q4_0", "Q3_K": "Q4_0", "Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ModelShape:
    """How many layers, query heads, and key and value heads a model has."""

    layers: int
    heads: int
    kv_heads: int

    @property
    def shared(self) -> int:
        """The number of query heads that use the same key head and value head."""
        return self.heads // self.kv_heads


def tensor_types(
    shapes: Mapping[str, Shape],
    file_type: str,
    model: ModelShape,
    *,
    imatrix: bool = False,
    overrides: Sequence[tuple[str, str]] = (),
) -> dict[str, str]:
    """Return the type of each tensor by name, in the file's order.

    - `shapes`: the tensors' shapes by name, with the contiguous dimension last.
    - `overrides`: pairs of a regular expression and a type. A matrix gets the type of the first expression that is
      found anywhere in its name.

    Raises UsageError for an unknown type, an invalid expression, or an expression that matches no matrix.
    """
    if file_type not in DEFAULTS:
        raise unknown_file_type(file_type)
    patterns = [(_compiled(pattern), _tensor_type(kind)) for pattern, kind in overrides]
    matrices = [name for name, shape in shapes.items() if _is_quantized(name, shape)]
    for pattern, kind in patterns:
        if not any(pattern.search(name) for name in matrices):
            raise UsageError(
                f"No matrix has a name that matches {pattern.pattern!r}, so none becomes {kind}",
                step="list the file's tensors without writing it (a dry run)",
                settings=("overrides",),
            )
    rules = _Rules(file_type, model, imatrix, shapes)
    return {name: rules.type_of(name, shapes[name], patterns) for name in sorted(shapes, key=_place)}


def unknown_file_type(file_type: str) -> UsageError:
    """Return the error for a file type that does not exist."""
    return UsageError(
        f"There is no file type {file_type!r}", step=f"choose one of {', '.join(DEFAULTS)}", settings=("file_type",)
    )


def summary(types: Iterable[str]) -> dict[str, int]:
    """Return how many tensors have each type, with the most frequent type first."""
    counts: dict[str, int] = {}
    for kind in types:
        counts[kind] = counts.get(kind, 0) + 1
    return dict(sorted(counts.items(), key=lambda pair: -pair[1]))


class _Rules:
    """Chooses the type of each tensor in one GGUF file.

    Tensors must be passed in the file's order, because some rules depend on the number of earlier tensors.
    """

    def __init__(self, file_type: str, model: ModelShape, imatrix: bool, names: Iterable[str]) -> None:
        self._file_type, self._model, self._imatrix = file_type, model, imatrix
        self._tied = "output.weight" not in names
        self._values = sum(_part(name) in {"attn_v", "attn_qkv"} for name in names)
        self._counts = {"attn_v": 0, "ffn_down": 0}

    def type_of(self, name: str, shape: Shape, patterns: Sequence[tuple[re.Pattern[str], str]]) -> str:
        if not _is_quantized(name, shape):
            return "F32"
        default = DEFAULTS[self._file_type]
        chosen = next((kind for pattern, kind in patterns if pattern.search(name)), None)
        if chosen is None:
            chosen = default if default in {"F32", "F16", "BF16"} else self._quantized(_part(name), shape, default)
        return _fitting(chosen, shape[-1])

    def _quantized(self, part: str, shape: Shape, default: str) -> str:
        if part == "output" or (self._tied and part == "token_embd"):
            # Every token's logits pass through this matrix.
            if shape[-1] % CONVERTED[default].block:
                return "Q8_0"
            return default if default == "Q8_0" else "Q6_K"
        if part in {"attn_v", "attn_qkv"}:
            return self._attention_value(self._count("attn_v"), default)
        if part == "ffn_down":
            return self._ffn_down(self._count("ffn_down"), default)
        if part == "attn_output":
            return {"Q2_K": "Q3_K", "Q3_K_M": "Q4_K", "Q3_K_L": "Q5_K"}.get(self._file_type, default)
        return default

    def _count(self, part: str) -> int:
        """Return the number of earlier calls with this `part` (attn_v or ffn_down)."""
        place = self._counts[part]
        self._counts[part] += 1
        return place

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
        # Llama-2-70B: eight heads share a value matrix, so it is small.
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


def _place(name: str) -> tuple[int, str]:
    """Return a key for sorting tensors in the file's order.

    Tensors outside the layers come first, then one layer after the other. Within a layer, tensors are sorted by name.
    """
    match = re.match(r"blk\.(\d+)\.", name)
    return int(match[1]) if match else -1, name


def _is_quantized(name: str, shape: Shape) -> bool:
    """Return whether a tensor is quantized. Only weight matrices are. Vectors, biases and norms stay float32."""
    return len(shape) > 1 and name.endswith("weight") and "_norm.weight" not in name


def _more_bits(place: int, count: int) -> bool:
    return place < count // 8 or place >= 7 * count // 8 or (place - count // 8) % 3 == 2


def _part(name: str) -> str:
    """Return a tensor's name without `blk.N.` and `.weight`, such as attn_v, ffn_down or output."""
    return re.sub(r"^blk\.\d+\.", "", name).removesuffix(".weight")


def _fitting(kind: str, columns: int) -> str:
    for candidate in (kind, _FALLBACKS.get(kind, kind)):
        if columns % CONVERTED[candidate].block == 0:
            return candidate
    return "F16"


def _tensor_type(kind: str) -> str:
    if kind.upper() not in CONVERTED:
        raise UsageError(
            f"There is no tensor type {kind!r}",
            step=f"choose one of {', '.join(CONVERTED)}",
            settings=("overrides",),
        )
    return kind.upper()


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise UsageError(
            f"The pattern {pattern!r} is not a valid regular expression ({error})",
            step="correct it",
            settings=("overrides",),
        ) from None
