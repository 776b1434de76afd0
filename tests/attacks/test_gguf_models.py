"""Tests that GGUF files with a valid header but unusable contents are refused before llama.cpp reads them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ecellm_lite.errors import ModelError
from ecellm_lite.models.gguf_header import Header, read_header
from ecellm_lite.models.model_check import check_model
from tests.attacks.gguf_files import (
    STRING,
    TENSORS,
    UINT32,
    gguf_file,
    key,
    string,
    u32,
    u64,
)
from tests.support.gguf_refusals import check_outcome, unfit, written
from tests.support.tiny_models import WORDS, write_tiny_model


def forged(tmp_path: Path, **overrides: Any) -> Header:
    return read_header(write_tiny_model(tmp_path / "model.gguf", **overrides))


@pytest.mark.parametrize("tokenizer", ["gpt2", "llama"])
@pytest.mark.parametrize("tied", [True, False])
def test_tiny_models_are_accepted_and_run(tmp_path: Path, tokenizer: str, tied: bool) -> None:
    check_model(forged(tmp_path, tokenizer=tokenizer, tied=tied))
    program = """
import ctypes, sys
import llama_cpp.llama_cpp as llama
quiet = llama.llama_log_callback(lambda level, text, data: None)
llama.llama_log_set(quiet, None)
model = llama.llama_model_load_from_file(sys.argv[1].encode(), llama.llama_model_default_params())
params = llama.llama_context_default_params()
params.n_ctx = 64
context = llama.llama_init_from_model(model, params)
vocabulary = llama.llama_model_get_vocab(model)
tokens = (llama.llama_token * 32)()
text = "the product is good: \\u00fc \\U0001f642".encode()
count = llama.llama_tokenize(vocabulary, text, len(text), tokens, 32, True, False)
assert count > 0
assert llama.llama_decode(context, llama.llama_batch_get_one(tokens, count)) == 0
print(llama.llama_get_logits_ith(context, -1)[0])
"""
    ran = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "model.gguf")], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert np.isfinite(float(ran.stdout))


def test_tiny_models_are_the_same_every_time(tmp_path: Path) -> None:
    first = write_tiny_model(tmp_path / "first.gguf").read_bytes()
    assert write_tiny_model(tmp_path / "second.gguf").read_bytes() == first
    assert write_tiny_model(tmp_path / "third.gguf", seed=1).read_bytes() != first


T = gguf.GGUFValueType
nan, infinity = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("metadata", "value"),
    [
        # Files that are not a language model, or only part of one.
        ({"general.type": "adapter"}, "'adapter'"),
        ({"general.type": 1}, "general.type"),
        ({"general.type": [1, 2]}, "general.type"),
        ({"split.count": (2, T.UINT16)}, ""),
        ({"general.architecture": "clip"}, "'clip'"),
        ({"general.architecture": "../llama"}, "architecture"),
        ({"general.architecture": "gemma3n"}, "'gemma3n'"),
        # llama-model.cpp asserts these.
        ({"llama.block_count": 0}, "block_count"),
        ({"llama.block_count": 513}, "513"),
        ({"llama.block_count": 2**32 - 1}, "block_count"),
        ({"llama.block_count": True}, "block_count"),
        ({"llama.block_count": "1"}, "block_count"),
        ({"llama.block_count": None}, "block_count"),
        ({"llama.nextn_predict_layers": 2}, "nextn_predict_layers"),
        ({"llama.expert_count": 4}, "0 of 4"),
        ({"llama.expert_count": 2000}, "2000"),
        ({"llama.expert_used_count": 1}, "expert_used_count"),
        ({"llama.expert_used_count": [-1]}, "-1"),
        ({"llama.expert_group_count": 1}, "expert_group_count"),
        ({"llama.expert_count": 4, "llama.expert_used_count": 5}, "expert_used_count"),
        ({"llama.expert_count": 8, "llama.expert_used_count": 2, "llama.expert_group_count": 3}, " 3 "),
        ({"llama.expert_count": 8, "llama.expert_used_count": 2, "llama.expert_group_count": 8}, "group_count"),
        ({"llama.expert_count": 8, "llama.expert_used_count": 2, "llama.expert_group_count": 2}, "group_used_count"),
        ({"llama.rope.scaling.type": "other"}, "'other'"),
        ({"llama.rope.scaling.type": ["yarn", "yarn"]}, "scaling.type"),
        # The graph or its operations assert these.
        ({"llama.attention.head_count": 0}, "head_count"),
        ({"llama.attention.head_count": 3}, " 3 "),
        ({"llama.attention.head_count": [4, 4]}, " 2 "),
        ({"llama.attention.head_count": [0]}, " 0 "),
        ({"llama.attention.head_count": [0.5]}, " 1 "),
        ({"llama.attention.head_count_kv": 0}, "head_count_kv"),
        ({"llama.attention.head_count_kv": 3}, " 3 "),
        ({"llama.attention.head_count_kv": 8}, " 8 "),
        ({"llama.block_count": 2, "llama.attention.head_count_kv": [2, 4]}, " 2 "),
        ({"llama.attention.key_length": 0}, "key_length"),
        ({"llama.attention.key_length": 16}, " 16 "),
        ({"llama.attention.value_length": 4}, " 8 "),
        ({"llama.attention.key_length": 7, "llama.attention.value_length": 7, "llama.rope.dimension_count": 7}, "7 of"),
        ({"llama.rope.dimension_count": 4}, "4 of the 8"),
        ({"llama.rope.dimension_count": 64}, "64"),
        ({"llama.attention.layer_norm_rms_epsilon": -1.0}, "'-1.0'"),
        ({"llama.attention.layer_norm_rms_epsilon": nan}, "nan"),
        ({"llama.attention.layer_norm_rms_epsilon": "\x1b[2J"}, "epsilon"),
        ({"llama.attention.causal": False}, "causal"),
        # Numbers that would make every logit NaN, or overflow 32 bits.
        ({"llama.rope.freq_base": infinity}, "inf"),
        ({"llama.rope.scaling.factor": nan}, "nan"),
        ({"llama.context_length": 0}, "context_length"),
        ({"llama.context_length": 2**32 - 1}, "4294967295"),
        ({"llama.vocab_size": (2**63, T.UINT64)}, "9223372036854775808"),
        ({"llama.embedding_length": 0}, "embedding_length"),
        ({"llama.embedding_length": 64, "llama.rope.dimension_count": 16}, "token_embd.weight"),
    ],
)
def test_forged_hyperparameters_are_refused(tmp_path: Path, metadata: dict[str, Any], value: str) -> None:
    unfit(forged(tmp_path, metadata=metadata), value)


@pytest.mark.parametrize("tokenizer", ["gpt2", "llama"])
def test_forged_vocabularies_are_refused(tmp_path: Path, tokenizer: str) -> None:
    path = write_tiny_model(tmp_path / "valid.gguf", tokenizer=tokenizer)  # type: ignore[arg-type]
    tokens = read_header(path).metadata["tokenizer.ggml.tokens"]
    assert isinstance(tokens, tuple)
    words, last = list(tokens), len(tokens) - 1
    attacks: list[tuple[dict[str, Any], str]] = [
        ({"model": "no_vocab"}, "'no_vocab'"),
        ({"model": "none"}, "'none'"),
        ({"model": "bert"}, "'bert'"),
        ({"model": "rwkv"}, "'rwkv'"),
        ({"model": None}, "tokenizer.ggml.model"),
        ({"model": ["llama", "gpt2"]}, "tokenizer.ggml.model"),
        ({"pre": "whitespace"}, ""),
        ({"pre": ["whitespace", "x"]}, "ggml.pre"),
        ({"tokens": None}, "ggml.tokens"),
        ({"tokens": [1, 2, 3]}, "ggml.tokens"),
        ({"tokens": "abc"}, "ggml.tokens"),
        # llama-vocab.cpp asserts that the tokens are distinct, as strings that end at a zero byte.
        ({"tokens": [*words[:last], words[40]]}, ""),
        ({"tokens": [*words[:last], words[40] + "\0x"]}, ""),
        ({"tokens": [*words[: last - 1], "", f"[EMPTY_{last - 1}]"]}, ""),
        ({"token_type": [1, 1]}, "token_type"),
        ({"token_type": 1}, "token_type"),
        ({"scores": [0.5, 0.5]}, "scores"),
        ({"scores": "x"}, "scores"),
        ({"tokens": words[:100]}, "0x" if tokenizer == "llama" else "token_type"),
    ]
    for name in ("bos", "eos", "eot", "unknown", "seperator", "fim_pre", "mask"):
        attacks += [
            ({f"{name}_token_id": value}, f"{name}_token_id") for value in (last + 1, 2**31 - 1, 2**31, 2**32 - 1)
        ]
        attacks += [({f"{name}_token_id": (-1, T.INT32)}, "-1"), ({f"{name}_token_id": "1"}, f"{name}_token_id")]
    for metadata, value in attacks:
        forgery = {f"tokenizer.ggml.{name}": content for name, content in metadata.items()}
        unfit(forged(tmp_path, tokenizer=tokenizer, metadata=forgery), value)
    check_model(forged(tmp_path, tokenizer=tokenizer, metadata={"tokenizer.ggml.padding_token_id": 2**32 - 1}))


def test_a_vocabulary_without_default_tokens(tmp_path: Path) -> None:
    metadata: dict[str, Any] = {"tokenizer.ggml.tokens": list("abcdefgh"), "tokenizer.ggml.token_type": [1] * 8}
    for name in ("bos", "eos"):
        metadata[f"tokenizer.ggml.{name}_token_id"] = None
    unfit(forged(tmp_path, metadata=metadata), "bos_token_id")


@pytest.mark.parametrize("missing", ["<0x00>", "<0x0A>", "<0xFF>"])
def test_a_sentencepiece_vocabulary_without_a_byte(tmp_path: Path, missing: str) -> None:
    path = write_tiny_model(tmp_path / "valid.gguf", tokenizer="llama")
    tokens = read_header(path).metadata["tokenizer.ggml.tokens"]
    assert isinstance(tokens, tuple)
    metadata = {"tokenizer.ggml.tokens": [token.replace(missing, "other") for token in tokens]}
    unfit(forged(tmp_path, tokenizer="llama", metadata=metadata), f"0x{missing[3:5].lower()}")


@pytest.mark.parametrize(
    ("tensors", "value"),
    [
        ({"token_embd.weight": None}, "token_embd.weight"),
        ({"token_embd.weight": np.ones((3, 32), np.float32)}, "(32, 3)"),
        ({"token_embd.weight": np.ones(32, np.float32)}, "(32,)"),
        # Operations that ggml does not implement: it aborts or calls a null pointer.
        ({"output_norm.weight": np.ones(32, np.float16)}, "'output_norm.weight'"),
        ({"blk.0.attn_norm.weight": np.ones((1, 32), np.float16)}, "'blk.0.attn_norm.weight'"),
        ({"blk.0.attn_q.bias": np.ones(32, np.float16)}, "'blk.0.attn_q.bias'"),
        ({"rope_freqs.weight": np.ones(4, np.float16)}, "'rope_freqs.weight'"),
        ({"blk.0.attn_q.weight": np.ones((32, 32), np.int8)}, "I8"),
        ({"blk.0.attn_q.weight": np.ones((32, 32), np.int32)}, "I32"),
        ({"blk.0.attn_q.weight": np.ones((32, 32), np.float64)}, "F64"),
    ],
)
def test_forged_weights_are_refused(tmp_path: Path, tensors: dict[str, Any], value: str) -> None:
    unfit(forged(tmp_path, tensors=tensors), value)


def test_tensor_types_that_hold_no_weights_are_refused(tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "model.gguf", embedding=256, heads=4, heads_kv=2, feed_forward=256)
    content = path.read_bytes()
    name = string(b"blk.0.ffn_down.weight") + u32(2) + u64(256) + u64(256)
    for kind in (9, 15, 24, 25, 26, 27, 28):
        forgery = written(tmp_path, content.replace(name + u32(0), name + u32(kind)))
        with pytest.raises(ModelError):
            check_model(read_header(forgery))


def test_a_file_that_cannot_be_mapped_into_memory_is_refused(tmp_path: Path) -> None:
    # llama.cpp aborts where the data of a mapped file does not begin at a multiple of 32.
    keys = [key(b"general.alignment", UINT32, u32(8)), key(b"general.architecture", STRING, string(b"llama"))]
    unfit(read_header(written(tmp_path, gguf_file(keys, TENSORS[:1], alignment=8))), "alignment")


VALUES = st.one_of(
    st.integers(0, 2**32 - 1),
    st.sampled_from([0, 1, 2, 3, 2**31 - 1, 2**31, 2**32 - 1]),
    st.floats(width=32),
    st.booleans(),
    st.text(max_size=9).map(lambda text: text.encode("utf-8", "replace").decode()),
    st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=3),
    st.lists(st.floats(width=32), min_size=1, max_size=3),
    st.lists(st.booleans(), min_size=1, max_size=3),
    st.lists(st.sampled_from(["a", "b", *WORDS]), min_size=1, max_size=3),
    st.none(),
)

NAMES = (
    "general.type", "general.architecture", "general.alignment", "split.count", "llama.block_count",
    "llama.context_length", "llama.embedding_length", "llama.attention.head_count", "llama.attention.head_count_kv",
    "llama.attention.key_length", "llama.attention.value_length", "llama.attention.causal", "llama.expert_count",
    "llama.attention.layer_norm_rms_epsilon", "llama.rope.dimension_count", "llama.rope.scaling.type",
    "llama.expert_used_count", "llama.expert_group_count", "llama.anything", "tokenizer.ggml.model",
    "tokenizer.ggml.pre", "tokenizer.ggml.tokens", "tokenizer.ggml.scores", "tokenizer.ggml.token_type",
    "tokenizer.ggml.bos_token_id", "tokenizer.ggml.any_token_id",
)  # fmt: skip


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from(NAMES), VALUES, min_size=1, max_size=4))
def test_any_metadata_is_accepted_or_refused(tmp_path: Path, metadata: dict[str, Any]) -> None:
    check_outcome(write_tiny_model(tmp_path / "model.gguf", metadata=metadata))
