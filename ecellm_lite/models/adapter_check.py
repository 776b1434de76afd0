"""Checks a LoRA adapter's metadata and tensor shapes, so that llama.cpp can safely apply it to a base model.

An adapter is refused if llama.cpp would abort the process or compute wrong results with it. The reasons are, for
example:

- A metadata value has the wrong type.
- The shapes of the factors (`lora_a`, `lora_b`) do not fit the base model.
- llama.cpp would skip a tensor.
- There are factors of the embedding. If a model's embedding is also its output matrix, llama.cpp would multiply these
  factors in the wrong order.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from ecellm_lite.errors import ModelError
from ecellm_lite.models.gguf_header import Header, TensorInfo
from ecellm_lite.models.gguf_reader import printable

Shape = tuple[int, ...]

_FLOAT32 = 6  # the format's number for the type of a metadata value
_TYPES = ("F32", "F16", "BF16")
_FACTORS = ("lora_a", "lora_b")
_EMBEDDING = "token_embd.weight"
# Infinities and NaNs have all bits of the exponent set.
_EXPONENTS: Mapping[str, tuple[type[np.generic], int]] = {
    "F32": (np.uint32, 0x7F800000),
    "F16": (np.uint16, 0x7C00),
    "BF16": (np.uint16, 0x7F80),
}
_VALUES = 1 << 20  # read at a time


def check_adapter(header: Header, architecture: str, shapes: Mapping[str, Shape]) -> None:
    """Raise ModelError if llama.cpp cannot safely apply this adapter to a base model.

    `architecture`: the base model's architecture.
    `shapes`: the shape of each tensor of the base model, by the tensor's name. The contiguous dimension comes first.

    Only the adapter's header is checked, not its values.
    """
    metadata = header.metadata
    for key, expected in (
        ("general.type", "adapter"),
        ("adapter.type", "lora"),
        ("general.architecture", architecture),
    ):
        if metadata.get(key) != expected:
            raise _unfit(header, f"its {key} is {printable(str(metadata.get(key)))}, not {expected!r}")
    if activated := sorted(key for key in metadata if key.startswith("adapter.alora.")):
        raise _unfit(header, f"it has {printable(activated[0])}, and an activated LoRA works only after certain tokens")
    alpha = metadata.get("adapter.lora.alpha")
    if header.kinds.get("adapter.lora.alpha") != _FLOAT32 or not isinstance(alpha, float):
        raise _unfit(header, "its adapter.lora.alpha is missing or not a 32-bit float")
    if not math.isfinite(alpha) or alpha == 0:
        raise _unfit(header, f"its adapter.lora.alpha is {alpha}, which gives no usable scale")
    pairs: dict[str, dict[str, TensorInfo]] = {}
    for tensor in header.tensors:
        name, _, factor = tensor.name.rpartition(".")
        if factor not in _FACTORS or not name:
            raise _unfit(header, f"the tensor {printable(tensor.name)} is not a factor")
        if tensor.type.name not in _TYPES:
            raise _unfit(header, f"the tensor {printable(tensor.name)} is of type {tensor.type.name}, not a float")
        pairs.setdefault(name, {})[factor] = tensor
    if not pairs:
        raise _unfit(header, "it holds no factors")
    for name, pair in pairs.items():
        _check_pair(header, name, pair, shapes)


def check_finite(header: Header) -> None:
    """Read an adapter's tensors from its file, and raise ModelError if a value is infinite or not a number."""
    try:
        with header.path.open("rb") as file:
            for tensor in header.tensors:
                dtype, exponent = _EXPONENTS[tensor.type.name]
                file.seek(tensor.offset)
                left = math.prod(tensor.shape)
                while left:
                    bits = np.frombuffer(file.read(min(left, _VALUES) * dtype().itemsize), dtype)
                    if not bits.size:
                        raise ModelError(f"The adapter {header.path} is cut short", step="copy it again")
                    if (bits & exponent == exponent).any():
                        raise _unfit(header, f"the tensor {printable(tensor.name)} holds an infinity or NaN")
                    left -= bits.size
    except OSError as error:
        raise ModelError(
            f"The adapter {header.path} cannot be read ({error.strerror})", step="check the disk or copy it again"
        ) from None


def _check_pair(header: Header, name: str, pair: Mapping[str, TensorInfo], shapes: Mapping[str, Shape]) -> None:
    if pair.keys() != set(_FACTORS):
        raise _unfit(header, f"it has only one factor of {printable(name)}")
    if name not in shapes:
        raise _unfit(header, f"it changes {printable(name)}, which the base does not have", _ANOTHER_BASE)
    base, a, b = shapes[name], pair["lora_a"].shape, pair["lora_b"].shape
    if name == _EMBEDDING:
        raise _unfit(header, "it changes the embedding, which llama.cpp cannot do while it runs", _MERGE)
    if len(base) != 2 or not name.endswith(".weight"):
        raise _unfit(header, f"it changes {printable(name)}, which is not a matrix")
    if len(a) != 2 or len(b) != 2 or a[0] != base[0] or b[1] != base[1] or a[1] != b[0]:
        raise _unfit(
            header,
            f"its factors of {printable(name)} have the shapes {a} and {b}, and the base's is {base}",
            _ANOTHER_BASE,
        )
    if a[1] > min(base):
        raise _unfit(header, f"its factors of {printable(name)} have the rank {a[1]:,}, more than the matrix itself")


_ANOTHER_BASE = "use the base that it was trained on"
_MERGE = "merge it into its base when converting"


def _unfit(header: Header, problem: str, step: str = "convert it again or use another adapter") -> ModelError:
    message = f"The adapter {header.path} cannot be used: {problem}"
    return ModelError(message, step=step, file=str(header.path))
