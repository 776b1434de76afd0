"""Computes from a GGUF header how much memory the model takes: weights, KV memory, and compute buffers.

Sizes are in bytes. Headers are not trusted: a key that is missing or not a number raises a ModelError.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from ecellm_lite.errors import ModelError
from ecellm_lite.models.gguf_header import Header
from ecellm_lite.tensor_types import TENSOR_TYPES

# llama.cpp rounds a context up to a multiple of this (src/llama-context.cpp, n_ctx).
CELLS = 256

_TYPES = {type_.name.lower(): type_ for type_ in TENSOR_TYPES.values()}
_LAYER = re.compile(r"blk\.(\d+)\.")
_INPUT = ("token_embd", "position_embd", "token_types")  # LLM_TENSOR_LAYER_INPUT of src/llama-arch.cpp


def weight_bytes(header: Header) -> int:
    """Return the total size of a file's tensors."""
    return sum(tensor.size for tensor in header.tensors)


def weights_by_place(header: Header) -> list[int]:
    """Return the size in bytes of each layer's tensors, followed by the size of the output's tensors.

    The token embedding stays on the CPU and is not counted. If a model uses its embedding as the output matrix too,
    llama.cpp makes a copy of the embedding. This copy counts as an output tensor.
    """
    sizes = [0] * (_layers(header) + 1)
    tied = all(tensor.name != "output.weight" for tensor in header.tensors)
    for tensor in header.tensors:
        layer = _LAYER.match(tensor.name)
        if layer and int(layer[1]) < len(sizes) - 1:
            sizes[int(layer[1])] += tensor.size
        elif not tensor.name.startswith(_INPUT) or (tied and tensor.name == "token_embd.weight"):
            sizes[-1] += tensor.size
    return sizes


def largest_weight(header: Header) -> int:
    """Return the size in bytes of the largest tensor in any layer."""
    return max((tensor.size for tensor in header.tensors if _LAYER.match(tensor.name)), default=0)


def kv_bytes_by_layer(header: Header, kv_type: str) -> list[int]:
    """Return how many bytes of KV memory one token takes in each layer. `kv_type` is f16, q8_0 or f32."""
    type_ = _TYPES[kv_type]
    keys, values = _head_lengths(header)
    return [
        sum(-(-heads * length // type_.block) * type_.block_bytes for length in (keys, values))
        for heads in _key_value_heads(header)
    ]


def kv_bytes_per_cell(header: Header, kv_type: str) -> int:
    """Return how many bytes of KV memory one token takes in all layers together. `kv_type` is f16, q8_0 or f32."""
    return sum(kv_bytes_by_layer(header, kv_type))


def cells_that_fit(header: Header, kv_type: str, room: int) -> int:
    """Return how many tokens of KV memory fit into `room` bytes, rounded down to a multiple of CELLS."""
    return max(room, 0) // max(kv_bytes_per_cell(header, kv_type), 1) // CELLS * CELLS


def affordable_cells(header: Header, kv_type: str, available: int) -> int:
    """Return the largest context, in tokens, that a machine with `available` bytes of memory should hold.

    The weights take as many bytes as in the file. KV memory may take half of the rest. The result is at least CELLS.
    """
    return max(CELLS, cells_that_fit(header, kv_type, (available - weight_bytes(header)) // 2))


def padded(cells: int) -> int:
    """Return `cells` rounded up to a multiple of CELLS, as llama.cpp does for its contexts."""
    return -(-cells // CELLS) * CELLS


def compute_bytes(
    header: Header,
    *,
    cells: int,
    tokens: int,
    flash_attention: bool,
    output: bool = True,
    pipelined: bool = False,
) -> int:
    """Return an estimate of the memory that llama.cpp reserves on a device to compute a micro-batch of `tokens`.

    `output`: whether the device computes logits.
    `pipelined`: whether all layers are on GPUs, and more than one GPU is used. llama.cpp then keeps four copies of the
      inputs.

    The estimate is the attention mask plus the largest of three float32 buffers: for attention, feed-forward and
    logits. It was fitted to the buffers that llama.cpp reports for the shapes of the three eCeLLM models and the demo
    (see tests/engine/test_offload_memory.py). For these shapes, it is from 8% too low to 33% too high. The scratch
    memory of a back end, such as CUDA's, is not included.
    """
    embedding = _integers(header, "embedding_length")[0]
    heads = max(_by_layer(header, "attention.head_count"))
    key_value = max(_key_value_heads(header)) * max(_head_lengths(header))
    mask = padded(cells) * (2 if flash_attention else 4)
    scores = 0 if flash_attention else 4 * heads * padded(cells)
    attention = 4 * (4 * embedding + 2 * key_value) + scores
    feed_forward = 4 * 3 * (_feed_forward(header, embedding) + embedding)
    logits = 4 * (_vocabulary(header) + embedding) if output else 0
    copies = 3 * mask + 4 * 14 * embedding if pipelined else 0
    return min(tokens, padded(cells)) * (max(attention, feed_forward, logits) + mask + copies)


def _vocabulary(header: Header) -> int:
    shapes = (tensor.shape for tensor in header.tensors if tensor.name == "token_embd.weight")
    return next((shape[-1] for shape in shapes), 0)


def _feed_forward(header: Header, embedding: int) -> int:
    """Return how many feed-forward values a layer computes for one token, in all experts that the token uses."""
    width = max(_integers(header, "feed_forward_length", 4 * embedding))
    expert = max(_integers(header, "expert_feed_forward_length", width))
    return max(width, expert * max(_integers(header, "expert_used_count", 0)))


def _layers(header: Header) -> int:
    return _integers(header, "block_count")[0]


def _key_value_heads(header: Header) -> Sequence[int]:
    return _by_layer(header, "attention.head_count_kv", _by_layer(header, "attention.head_count"))


def _head_lengths(header: Header) -> tuple[int, int]:
    """Return the lengths of an attention head's key and value."""
    default = _integers(header, "embedding_length")[0] // max(_by_layer(header, "attention.head_count")[0], 1)
    keys = _integers(header, "attention.key_length", default)[0]
    return keys, _integers(header, "attention.value_length", default)[0]


def _by_layer(header: Header, key: str, default: Sequence[int] | None = None) -> Sequence[int]:
    """Return the header's number under `key` for each layer, or `default` if the header lacks the key.

    The header has one number for all layers, or an array.
    """
    layers = _layers(header)
    if default is not None and _name(header, key) not in header.metadata:
        return default
    numbers = _integers(header, key)
    if len(numbers) not in (1, layers):
        problem = f"{_name(header, key)} has {len(numbers)} numbers for {layers} layers"
        raise ModelError(
            f"The model {header.path} cannot be run: {problem}",
            step="convert it again or use another model",
        )
    return numbers if len(numbers) == layers else numbers * layers


def _integers(header: Header, key: str, default: int | None = None) -> list[int]:
    """Return the whole numbers under a key of the header, as a list.

    The header may have an array or a single number under this key.
    """
    numbers = np.atleast_1d(np.asarray(header.metadata.get(_name(header, key), default)))
    if numbers.dtype.kind not in "iu" or not numbers.size or numbers.min() < 0:
        raise ModelError(
            f"The model {header.path} cannot be run: {_name(header, key)} is missing or not a whole number",
            step="convert it again or use another model",
        )
    return [int(number) for number in numbers]


def _name(header: Header, key: str) -> str:
    return f"{header.metadata.get('general.architecture')}.{key}"
