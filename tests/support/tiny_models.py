"""Tiny LLaMA models with random weights, for tests that need a real engine but no real model.

The same arguments always give the same bytes. A model has at most a few hundred kilobytes, and is written in
milliseconds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import gguf
import numpy as np
from numpy.typing import NDArray

WORDS = ("yes", "no", "A", "B", "C", "D", "E", "the", "good", "bad", "product", "Response", "Instruction")
_NORMAL, _UNKNOWN, _CONTROL, _BYTE = 1, 2, 3, 6  # of llama.cpp's token types


def write_tiny_model(
    path: Path,
    *,
    tokenizer: Literal["gpt2", "llama"] = "gpt2",
    words: Sequence[str] = WORDS,
    layers: int = 1,
    embedding: int = 32,
    heads: int = 4,
    heads_kv: int = 2,
    feed_forward: int = 64,
    context: int = 256,
    tied: bool = True,
    quantization: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.F32,
    seed: int = 0,
    metadata: Mapping[str, Any] | None = None,
    tensors: Mapping[str, NDArray[Any] | None] | None = None,
) -> Path:
    """Write a model of architecture llama to `path`, and return `path`.

    Any text can be tokenized, because the vocabulary has all 256 bytes.

    `tokenizer`: `gpt2` for byte-level BPE, or `llama` for SentencePiece.
    `words`: words that are a single token, with or without a space before them.
    `quantization`: the type of the matrices, one that gguf-py can write.
    `metadata`: keys to replace or add. None removes a key. To set a value's type, pass (value, GGUFValueType) or
      (list, ARRAY, element type).
    `tensors`: tensors to replace or add, as NumPy arrays of shape (rows, columns). None removes a tensor.
    """
    vocabulary = _bpe(words) if tokenizer == "gpt2" else _sentencepiece(words)
    keys: dict[str, Any] = {
        "general.type": "model",
        "general.name": "tiny",
        "llama.block_count": layers,
        "llama.context_length": context,
        "llama.embedding_length": embedding,
        "llama.feed_forward_length": feed_forward,
        "llama.attention.head_count": heads,
        "llama.attention.head_count_kv": heads_kv,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.rope.dimension_count": embedding // heads,
        "llama.rope.freq_base": 10000.0,
        **vocabulary,
        **(metadata or {}),
    }
    weights: dict[str, NDArray[Any] | None] = {
        **_weights(len(vocabulary["tokenizer.ggml.tokens"]), layers, embedding, heads, heads_kv, feed_forward, seed),
        **(tensors or {}),
    }
    if tied:
        weights["output.weight"] = (tensors or {}).get("output.weight")
    writer = gguf.GGUFWriter(path, str(keys.pop("general.architecture", "llama")))
    for key, value in keys.items():
        if value is not None:
            _add(writer, key, value)
    for name, weight in weights.items():
        if weight is not None and weight.ndim > 1 and weight.dtype == np.float32:
            writer.add_tensor(name, gguf.quants.quantize(weight, quantization), raw_dtype=quantization)
        elif weight is not None:
            writer.add_tensor(name, weight)
    finish(writer)
    return path


def finish(writer: gguf.GGUFWriter) -> None:
    """Write the file with all keys and tensors that were added to the writer."""
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    if isinstance(value, tuple):
        writer.add_key_value(key, *value)
    elif isinstance(value, int) and not isinstance(value, bool):
        writer.add_key_value(key, value, gguf.GGUFValueType.UINT32)
    else:
        writer.add_key_value(key, value, gguf.GGUFValueType.get_type(value))


def _weights(
    vocabulary: int, layers: int, embedding: int, heads: int, heads_kv: int, feed_forward: int, seed: int
) -> dict[str, NDArray[np.float32]]:
    random = np.random.default_rng(seed)

    def matrix(rows: int, columns: int) -> NDArray[np.float32]:
        return (random.standard_normal((rows, columns)) / math.sqrt(columns)).astype(np.float32)

    ones = np.ones(embedding, dtype=np.float32)
    key_value = embedding // heads * heads_kv
    weights = {"token_embd.weight": matrix(vocabulary, embedding), "output_norm.weight": ones}
    for layer in range(layers):
        weights |= {
            f"blk.{layer}.attn_norm.weight": ones,
            f"blk.{layer}.attn_q.weight": matrix(embedding, embedding),
            f"blk.{layer}.attn_k.weight": matrix(key_value, embedding),
            f"blk.{layer}.attn_v.weight": matrix(key_value, embedding),
            f"blk.{layer}.attn_output.weight": matrix(embedding, embedding),
            f"blk.{layer}.ffn_norm.weight": ones,
            f"blk.{layer}.ffn_gate.weight": matrix(feed_forward, embedding),
            f"blk.{layer}.ffn_up.weight": matrix(feed_forward, embedding),
            f"blk.{layer}.ffn_down.weight": matrix(embedding, feed_forward),
        }
    return weights | {"output.weight": matrix(vocabulary, embedding)}


def _byte_letters() -> list[str]:
    """Return the character with which GPT-2's vocabulary writes each byte.

    This is the byte's Latin-1 character if that is visible, or else a character from U+0100 on.
    """
    visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = iter(range(0x100, 0x200))
    return [chr(byte if byte in visible else next(hidden)) for byte in range(256)]


def _bpe(words: Sequence[str]) -> dict[str, Any]:
    letters = _byte_letters()
    tokens = [*letters, "<|endoftext|>"]
    merges: list[str] = []
    for word in words:
        spelled = [letters[byte] for byte in word.encode()]
        # From the left to the whole word, and then the space in front of it.
        pairs = [("".join(spelled[:end]), spelled[end]) for end in range(1, len(spelled))]
        for left, right in (*pairs, (letters[ord(" ")], "".join(spelled))):
            if left + right not in tokens:
                tokens.append(left + right)
                merges.append(f"{left} {right}")
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [_CONTROL if token == "<|endoftext|>" else _NORMAL for token in tokens],
        "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.bos_token_id": tokens.index("<|endoftext|>"),
        "tokenizer.ggml.eos_token_id": tokens.index("<|endoftext|>"),
        "tokenizer.ggml.add_bos_token": False,
    }


def _sentencepiece(words: Sequence[str]) -> dict[str, Any]:
    special = {"<unk>": _UNKNOWN, "<s>": _CONTROL, "</s>": _CONTROL}
    kinds = {**special, **{f"<0x{byte:02X}>": _BYTE for byte in range(256)}, "\u2581": _NORMAL}
    for text in (start + word for word in words for start in ("", "\u2581")):
        # Every beginning and every letter, so that merging from the left arrives at the word.
        for piece in (*text, *(text[:end] for end in range(1, len(text) + 1))):
            kinds.setdefault(piece, _NORMAL)
    tokens = list(kinds)
    scores = [-float(index) if kinds[token] == _NORMAL else 0.0 for index, token in enumerate(tokens)]
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": scores,
        "tokenizer.ggml.token_type": list(kinds.values()),
        "tokenizer.ggml.bos_token_id": tokens.index("<s>"),
        "tokenizer.ggml.eos_token_id": tokens.index("</s>"),
        "tokenizer.ggml.unknown_token_id": tokens.index("<unk>"),
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.add_space_prefix": True,
    }
