"""Checks that llama.cpp can run a model safely: its architecture, hyperparameters, vocabulary and tensor types.

A file is refused if it would make llama.cpp abort the process, read other files, or silently use values that are not in
the file. Only the architectures in ARCHITECTURES are accepted. For each of them, llama.cpp was tested with forged files
that pass the checks in this module, and no file crashed it. Many other architectures are not accepted, because forged
files of them crash llama.cpp.
"""

from __future__ import annotations

import math

import numpy as np

from ecellm_lite.errors import ModelError
from ecellm_lite.models.gguf_header import Header
from ecellm_lite.models.gguf_reader import printable

ARCHITECTURES = frozenset((
    "gemma", "gemma2", "gemma3", "granite", "llama", "mistral3", "olmo2", "phi2", "phi3", "qwen2", "qwen3", "smollm3",
    "stablelm", "starcoder2",
))  # fmt: skip
_PARTLY_ROTATED = ("phi2", "phi3", "stablelm")
_WINDOWED = ("gemma2.", "gemma3.")  # prefixes of the architectures whose layers may attend to a window
_MAX_LAYERS = 512
_MAX_EXPERTS = 1024
_MAPPED_ALIGNMENT = 32
_DEFAULT_TOKENS = {"llama": {"bos": 1, "eos": 2}, "gpt2": {"bos": 11, "eos": 11}}  # by tokenizer.ggml.model
_SCALINGS = ("none", "linear", "yarn", "longrope")
_STEP = "convert it again or use another model"
_NO_WEIGHTS = frozenset(("Q8_1", "Q8_K", "I8", "I16", "I32", "I64", "F64"))  # types without arithmetic in llama.cpp


def check_model(header: Header) -> None:
    """Raise ModelError if llama.cpp could crash when it loads or runs this language model.

    Missing tensors and wrong shapes are not checked here, because llama.cpp refuses them itself without a crash.
    """
    keys = _Keys(header)
    if (kind := keys.text("general.type", "model")) != "model":
        step = "give its base as the model, and this file as an adapter" if kind == "adapter" else _STEP
        raise keys.unfit(f"general.type is {printable(kind)}, not 'model'", step)
    if keys.integer("split.count", 0, 1 << 16, 0) > 1:
        raise keys.unfit("it is one part of several: join them with llama-gguf-split")
    if header.alignment % _MAPPED_ALIGNMENT:
        raise keys.unfit(f"general.alignment is {header.alignment}, not a multiple of {_MAPPED_ALIGNMENT}")
    architecture = keys.text("general.architecture")
    if architecture not in ARCHITECTURES:
        raise keys.unfit(
            f"its architecture is {printable(architecture)}, not one of {', '.join(sorted(ARCHITECTURES))}"
        )
    embedding = _check_hyperparameters(keys, f"{architecture}.", architecture in _PARTLY_ROTATED)
    vocabulary = _check_vocabulary(keys)
    _check_weights(keys, (embedding, vocabulary))


class _Keys:
    """A header's metadata by key. Every method that reads a value checks its type and range."""

    def __init__(self, header: Header) -> None:
        self.header = header
        self.metadata = header.metadata

    def unfit(self, problem: str, step: str = _STEP) -> ModelError:
        message = f"The model {self.header.path} cannot be run: {problem}"
        return ModelError(message, step=step)

    def text(self, key: str, default: str | None = None) -> str:
        value = self.metadata.get(key, default)
        if not isinstance(value, str):
            raise self.unfit(f"{key} is missing or not text")
        return value

    def integer(self, key: str, low: int, high: int, default: int | None = None) -> int:
        value = self.metadata.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.unfit(f"{key} is missing or not a whole number")
        if not low <= value <= high:
            raise self.unfit(f"{key} is {value}, not from {low} to {high}")
        return value

    def layers(self, key: str, layers: int, low: int, high: int, default: list[int] | None = None) -> list[int]:
        """Return a key's value for each layer, or `default` if the key is missing.

        The file has either one whole number for all layers or an array with a number for each layer. Raises ModelError
        for a number that is not from `low` to `high`. `layers` is the number of layers.
        """
        value = self.metadata.get(key, default)
        if value is default and default is not None:
            return default
        if not isinstance(value, np.ndarray):
            return [self.integer(key, low, high)] * layers
        if value.dtype.kind not in "iu" or value.size != layers:
            raise self.unfit(f"{key} is an array of {value.size} {value.dtype}, not of {layers} whole numbers")
        if value.min() < low or value.max() > high:
            raise self.unfit(f"{key} goes from {value.min()} to {value.max()}, not from {low} to {high}")
        return [int(item) for item in value]


def _check_hyperparameters(keys: _Keys, prefix: str, partly_rotated: bool) -> int:
    """Check the hyperparameters and return the length of the embedding.

    `partly_rotated`: whether the architecture may rotate (with RoPE) only some of the values in an attention head.
    """
    for key, value in keys.metadata.items():
        if key.startswith(prefix) and not isinstance(value, (str, tuple)):
            numbers = np.asarray(value)
            within = np.isfinite(numbers) if numbers.dtype.kind == "f" else numbers < 1 << 31
            if not within.all():
                raise keys.unfit(f"{printable(key)} is or holds {numbers[~within].flat[0]}, which is out of bounds")
    layers = keys.integer(prefix + "block_count", 1, _MAX_LAYERS)
    keys.integer(prefix + "context_length", 1, 2**31 - 1)
    keys.integer(prefix + "nextn_predict_layers", 0, layers, 0)
    embedding = keys.integer(prefix + "embedding_length", 1, 1 << 20)
    heads = keys.layers(prefix + "attention.head_count", layers, 1, embedding)
    if prefix + "attention.key_length" not in keys.metadata and embedding % heads[0]:
        raise keys.unfit(f"{prefix}embedding_length is {embedding}, not a multiple of {heads[0]} attention heads")
    heads_kv = keys.layers(prefix + "attention.head_count_kv", layers, 1, embedding, heads)
    if len(set(zip(heads, heads_kv, strict=True))) > 1 or heads[0] % heads_kv[0]:
        raise keys.unfit(f"{heads[0]} attention heads do not share {heads_kv[0]} key-value heads evenly in all layers")
    _check_heads(keys, prefix, embedding // heads[0], partly_rotated)
    _check_experts(keys, prefix, layers)
    if prefix in _WINDOWED:
        _check_windows(keys, prefix, layers)
    for key in ("attention.layer_norm_rms_epsilon", "attention.layer_norm_epsilon"):
        epsilon = keys.metadata.get(prefix + key, 0.0)
        if not isinstance(epsilon, float) or epsilon < 0:
            raise keys.unfit(f"{prefix}{key} is {printable(str(epsilon))}, not a number of at least 0")
    if (scaling := keys.text(prefix + "rope.scaling.type", "none")) not in _SCALINGS:
        raise keys.unfit(f"{prefix}rope.scaling.type is {printable(scaling)}, not one of {', '.join(_SCALINGS)}")
    if keys.metadata.get(prefix + "attention.causal", True) is not True:
        raise keys.unfit(f"{prefix}attention.causal is not true: the model does not generate text")
    return embedding


def _check_heads(keys: _Keys, prefix: str, default: int, partly_rotated: bool) -> None:
    """Check how many values an attention head has, and how many of them RoPE rotates. RoPE needs an even number."""
    length = keys.integer(prefix + "attention.key_length", 2, 1 << 16, default)
    if keys.integer(prefix + "attention.value_length", 2, 1 << 16, default) != length:
        raise keys.unfit(f"its attention keys have {length} values, but its attention values have another number")
    rotated = keys.integer(prefix + "rope.dimension_count", 2, length, length)
    if rotated % 2 or (rotated != length and not partly_rotated):
        raise keys.unfit(f"{rotated} of the {length} values in an attention head are rotated by position")
    # The same for layers that attend to a window.
    for key, value in (("attention.key_length", length), ("attention.value_length", length)):
        keys.integer(f"{prefix}{key}_swa", value, value, value)
    keys.integer(prefix + "rope.dimension_count_swa", rotated, rotated, rotated)


def _check_windows(keys: _Keys, prefix: str, layers: int) -> None:
    """Check the metadata about sliding windows and logit soft caps. llama.cpp divides by some of these values."""
    keys.integer(prefix + "attention.sliding_window", 1, 2**31 - 1, 1)
    pattern = prefix + "attention.sliding_window_pattern"
    if not isinstance(value := keys.metadata.get(pattern), np.ndarray):
        keys.integer(pattern, 2, 2**31 - 1, 2)  # with 1, no layer has a window, and llama.cpp aborts
    elif value.dtype.kind not in "iub" or value.size != layers or not value.any():
        raise keys.unfit(f"{pattern} does not say for each of {layers} layers whether it has a window")
    for key in ("attn_logit_softcapping", "final_logit_softcapping"):
        cap = keys.metadata.get(prefix + key, 1.0)
        if not isinstance(cap, float) or cap <= 0:
            raise keys.unfit(f"{prefix}{key} is {printable(str(cap))}, not a number above 0")


def _check_experts(keys: _Keys, prefix: str, layers: int) -> None:
    count = keys.integer(prefix + "expert_count", 0, _MAX_EXPERTS, 0)
    used = max(keys.layers(prefix + "expert_used_count", layers, 0, count, [0] * layers))
    groups = keys.integer(prefix + "expert_group_count", 0, max(count - 1, 0), 0)
    if (used > 0) != (count > 0) or (groups and count % groups):
        raise keys.unfit(f"{used} of {count} experts in {groups} groups is impossible")
    if groups > 1:
        keys.integer(prefix + "expert_group_used_count", 1, groups - 1)


def _check_vocabulary(keys: _Keys) -> int:
    """Check the vocabulary and return the number of tokens."""
    prefix = "tokenizer.ggml."
    model = keys.text(prefix + "model")
    if model not in _DEFAULT_TOKENS:
        raise keys.unfit(f"its tokenizer is {printable(model)}, not one of {', '.join(_DEFAULT_TOKENS)}")
    if keys.text(prefix + "pre", "default") == "whitespace":
        raise keys.unfit("its tokenizer splits text at white space, on which llama.cpp aborts")
    tokens = keys.metadata.get(prefix + "tokens")
    if not isinstance(tokens, tuple) or not tokens:
        raise keys.unfit(f"{prefix}tokens is missing or holds no tokens")
    texts: set[str] = set()
    for index, token in enumerate(tokens):
        text = token.partition("\0")[0] or f"[EMPTY_{index}]"  # as llama.cpp reads it
        if text in texts:
            raise keys.unfit(f"its vocabulary has the token {printable(text)} twice")
        texts.add(text)
    if model == "llama":
        for byte in range(256):
            if f"<0x{byte:02X}>" not in texts and bytes((byte,)).decode(errors="surrogateescape") not in texts:
                raise keys.unfit(f"its vocabulary has no token for the byte {byte:#04x}")
    for key in ("scores", "token_type"):
        array = keys.metadata.get(prefix + key)
        if array is not None and not (isinstance(array, np.ndarray) and array.size == len(tokens)):
            raise keys.unfit(f"{prefix}{key} is not an array of {len(tokens)} numbers, one for each token")
    for key, default in _DEFAULT_TOKENS[model].items():
        keys.integer(f"{prefix}{key}_token_id", 0, len(tokens) - 1, default)
    for key in keys.metadata:
        # Llama-2's own configuration has -1 for padding; llama.cpp ignores that key.
        if key.startswith(prefix) and key.endswith("_token_id") and key != prefix + "padding_token_id":
            keys.integer(key, 0, len(tokens) - 1)
    return len(tokens)


def _check_weights(keys: _Keys, embedding_shape: tuple[int, int]) -> None:
    for tensor in keys.header.tensors:
        if tensor.name == "token_embd.weight" and tensor.shape != embedding_shape:
            raise keys.unfit(f"token_embd.weight has the shape {tensor.shape}, not {embedding_shape}")
        if tensor.type.name in _NO_WEIGHTS:
            raise keys.unfit(
                f"the tensor {printable(tensor.name)} is of type {tensor.type.name}, which holds no weights"
            )
        if math.prod(tensor.shape) == tensor.shape[0] and tensor.type.name != "F32":
            raise keys.unfit(f"the vector {printable(tensor.name)} is of type {tensor.type.name}, not F32")
    if all(tensor.name != "token_embd.weight" for tensor in keys.header.tensors):
        raise keys.unfit("it has no tensor token_embd.weight")
