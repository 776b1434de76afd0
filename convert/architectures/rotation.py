"""The rotary position embedding (RoPE): the order of the rotated rows, and the scaling for long contexts.

The metadata and the computed factors for the scaling are the same as in llama.cpp's converter (set_gguf_parameters in
conversion/base.py, generate_extra_tensors in conversion/llama.py).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ecellm_lite.convert.architectures.hyperparameters import Hyperparameters, unsupported
from ecellm_lite.convert.blueprint import MetadataValue

# Settings of yarn that change its attention factor in transformers and that llama.cpp's converter does not write.
_YARN_UNWRITTEN = ("mscale", "mscale_all_dim")
# Optional settings of yarn, with their keys in a GGUF file.
_YARN = {"attention_factor": "attn_factor", "beta_fast": "beta_fast", "beta_slow": "beta_slow"}


def rotation_order(heads: int, size: int) -> NDArray[np.uint32]:
    """Return, for each row of a query or key matrix in the GGUF file, the number of that row in the checkpoint.

    The rotary embedding rotates rows in pairs. In Hugging Face's layout, a pair is a row of the head's first half and
    the matching row of its second half. llama.cpp's `llama` and a few other architectures interleave the two halves, so
    a pair is two neighboring rows. `size` is the number of rows of a head.

    >>> rotation_order(1, 6).tolist()
    [0, 3, 1, 4, 2, 5]
    """
    rows = np.arange(heads * size, dtype=np.uint32).reshape(heads, 2, size // 2)
    return np.ascontiguousarray(rows.swapaxes(1, 2)).reshape(-1)


def rotation_metadata(
    architecture: str, rope: Hyperparameters, kinds: tuple[str, ...] = ("default", "linear", "yarn"), base: float = 1e4
) -> dict[str, MetadataValue]:
    """Return the metadata about the rotary embedding.

    `rope`: the RoPE parameters in the checkpoint's configuration.
    `kinds`: the kinds of scaling that the architecture supports.
    `base`: transformers' default for rope_theta.

    Raises ModelError for another kind of scaling, or for invalid parameters.
    """
    kind = rope.one_of("rope_type", kinds, "default")
    if rope.number("partial_rotary_factor", 1.0) != 1.0:
        raise unsupported("has a partial_rotary_factor, which this architecture does not have", "partial_rotary_factor")
    prefix = f"{architecture}.rope."
    metadata: dict[str, MetadataValue] = {}
    if kind in {"linear", "yarn"}:
        metadata[f"{prefix}scaling.type"] = ("STRING", kind)
        metadata[f"{prefix}scaling.factor"] = ("FLOAT32", rope.number("factor"))
    if kind == "yarn":
        for name in _YARN_UNWRITTEN:
            rope.refuse(name, "llama.cpp's converter writes no such setting of yarn")
        if rope.flag("truncate", True) is not True:
            raise unsupported("has truncate = false for yarn, but llama.cpp truncates", "truncate")
        metadata[f"{prefix}scaling.original_context_length"] = (
            "UINT32",
            rope.count("original_max_position_embeddings"),
        )
        for name, key in _YARN.items():
            if rope.values.get(name) is not None:
                metadata[f"{prefix}scaling.yarn_{key}"] = ("FLOAT32", rope.number(name))
    metadata[f"{prefix}freq_base"] = ("FLOAT32", rope.number("rope_theta", base))
    return metadata


def rotation_factors(rope: Hyperparameters, size: int) -> NDArray[np.float32] | None:
    """Return Llama 3's factors for the rotation frequencies, of shape (size / 2,). Return None for other models.

    The frequency of each pair of values in a head is divided by the pair's factor. The factor is 1 for high
    frequencies, the setting `factor` for low frequencies, and in between for medium frequencies. The formula is from
    section 3.2 of https://arxiv.org/abs/2407.21783 and from Llama 3.1's source code.
    """
    if rope.values.get("rope_type") != "llama3":
        return None
    base = rope.number("rope_theta", 10000.0)
    factor = np.float32(rope.number("factor"))
    low, high = np.float32(rope.number("low_freq_factor")), np.float32(rope.number("high_freq_factor"))
    context = np.float32(rope.count("original_max_position_embeddings"))
    if high <= low:
        raise unsupported(f"has high_freq_factor = {high:g}, but it must exceed low_freq_factor", "high_freq_factor")
    one = np.float32(1)
    exponents = np.arange(0, size, 2, dtype=np.float32) / np.float32(size)
    frequencies = one / np.power(np.float64(base), exponents.astype(np.float64)).astype(np.float32)
    # In this order of operations, the float32 results are the bits of llama.cpp's converter, which uses torch.
    waves = one / frequencies * np.float32(2 * np.pi)
    blend = (one / waves * context - low) / (high - low)
    blended = one / ((one - blend) / factor + blend)
    factors = np.where(waves < context / high, one, np.where(waves > context / low, factor, blended))
    return factors.astype(np.float32)
