"""Tests that harmful safetensors files are refused with an error, without a crash, a hang or much memory."""

from __future__ import annotations

import errno
import json
import os
import random
import struct
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecellm_lite.convert.checkpoint import Checkpoint
from ecellm_lite.convert.reading import inside
from ecellm_lite.convert.safetensors_file import SafetensorsFile
from ecellm_lite.errors import ModelError
from tests.support.refusals import refusal

GOOD = {
    "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
    "b": {"dtype": "BF16", "shape": [4], "data_offsets": [24, 32]},
}


def written(path: Path, header: object, data: bytes = bytes(32), length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


def changed(name: str, **fields: Any) -> dict[str, Any]:
    return {**GOOD, name: {**GOOD[name], **fields}}


def test_a_valid_file_is_read(tmp_path: Path) -> None:
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    path = written(tmp_path / "f", {"__metadata__": {"format": "pt"}, **GOOD}, values.tobytes() + bytes(range(8)))
    with SafetensorsFile(path) as file:
        assert list(file.tensors) == ["a", "b"]
        assert file.metadata == {"format": "pt"}
        assert (file.rows("a") == values).all()
        assert (file.rows("a", 1, 1) == values[1:]).all()
        assert file.rows("b").tobytes() == bytes(range(8))
        file.check_unchanged()


@pytest.mark.parametrize(
    ("header", "value"),
    [
        (b"[]", ""),
        (b"{ ", ""),
        (b"{" * 200_000, ""),
        (b'{"a":' * 100_000, ""),
        (b"{\xff}", ""),
        (b'{"a": NaN}', ""),
        (b'{"a": {}, "a": {}}', "'a'"),
        (b'{"a": {"dtype": "F32", "dtype": "F32"}}', "'dtype'"),
        ({"a": 1}, "'a'"),
        ({"a": {"dtype": "F32", "shape": [8]}}, "'a'"),
        ({"__metadata__": {"a": 1}}, "metadata"),
        ({"__metadata__": []}, "metadata"),
        (changed("a", dtype="F99"), "'F99'"),
        (changed("a", dtype=4), "'4'"),
        (changed("a", shape=[2, -3]), "shape"),
        (changed("a", shape=[2.0, 3]), "shape"),
        (changed("a", shape=[True, 6]), "shape"),
        (changed("a", shape="23"), "shape"),
        (changed("a", shape=[1] * 9), "shape"),
        (changed("a", shape=[2, 4]), "'a'"),
        (changed("a", shape=[1 << 62, 1 << 62]), "shape"),
        (changed("a", shape=[1 << 40, 1 << 40]), "shape"),
        (changed("a", shape=[1 << 39]), "'a'"),
        (changed("a", shape=[1 << 62, 0], data_offsets=[0, 0]), "shape"),
        (changed("a", shape=[0, 1 << 62], data_offsets=[0, 0]), "shape"),
        (changed("a", shape=[1 << 70, 0], data_offsets=[0, 0]), "shape"),
        (changed("a", shape=[*[1 << 31] * 7, 0], data_offsets=[0, 0]), "shape"),
        (changed("a", data_offsets=[0]), "data_offsets"),
        (changed("a", data_offsets=[-8, 16]), "data_offsets"),
        (changed("a", data_offsets=[24, 0]), "'a'"),
        (changed("a", data_offsets=[1 << 70, (1 << 70) + 24]), "'a'"),
        (changed("b", data_offsets=[20, 28]), "'b'"),
        (changed("b", shape=[2], data_offsets=[28, 32]), "'b'"),
        (changed("b", shape=[2], data_offsets=[24, 28]), ""),
        ({"x" * 600: GOOD["a"], "b": GOOD["b"]}, "600"),
        ({"": GOOD["a"], "b": GOOD["b"]}, " 0 "),
        ({}, ""),
    ],
)
def test_a_wrong_header_is_refused(tmp_path: Path, header: object, value: str) -> None:
    with refusal(ModelError, value, file=str(tmp_path / "f")):
        SafetensorsFile(written(tmp_path / "f", header))


@pytest.mark.parametrize("length", [0, 1, 1 << 20, 100_000_001, 1 << 63, (1 << 64) - 1])
def test_a_wrong_header_length_is_refused(tmp_path: Path, length: int) -> None:
    with refusal(ModelError, f"{length:,}"):
        SafetensorsFile(written(tmp_path / "f", GOOD, length=length))


def test_a_missing_or_irregular_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "short").write_bytes(b"1234567")
    for name, value in (("pipe", ""), (".", ""), ("short", "7"), ("none", os.strerror(errno.ENOENT))):
        with refusal(ModelError, value, file=str(tmp_path / name)):
            SafetensorsFile(tmp_path / name)


def test_a_file_that_shrinks_or_changes_is_noticed(tmp_path: Path) -> None:
    path = written(tmp_path / "f", GOOD)
    with SafetensorsFile(path) as file:
        with path.open("r+b") as shorter:
            shorter.truncate(path.stat().st_size - 4)
        assert file.rows("a").shape == (2, 3)
        with refusal(ModelError, file=str(path)):
            file.rows("b")
        with refusal(ModelError, file=str(path)):
            file.check_unchanged()


@given(seed=st.integers(0, 2**32 - 1))
def test_no_damage_crashes(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    chosen = random.Random(seed)
    path = written(tmp_path_factory.getbasetemp() / "fuzzed.safetensors", GOOD)
    whole = bytearray(path.read_bytes())
    for _ in range(chosen.randint(1, 4)):
        whole[chosen.randrange(len(whole))] = chosen.randrange(256)
    path.write_bytes(whole[: chosen.randint(0, len(whole))] if chosen.random() < 0.3 else whole)
    try:
        with SafetensorsFile(path) as file:
            for name, tensor in file.tensors.items():
                if tensor.type in ("F32", "F16", "BF16"):
                    assert file.rows(name).nbytes == tensor.size
    except ModelError:
        pass


def checkpoint(folder: Path, shards: dict[str, dict[str, Any]], index: object = None) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    for name, header in shards.items():
        written(folder / name, header)
    if index is not None:
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


OTHER = {name + "2": entry for name, entry in GOOD.items()}
MAP = {"a": "1.safetensors", "b": "1.safetensors", "a2": "2.safetensors", "b2": "2.safetensors"}
SHARDS = {"1.safetensors": GOOD, "2.safetensors": OTHER}


def test_several_shards_are_read_as_one_checkpoint(tmp_path: Path) -> None:
    with Checkpoint(checkpoint(tmp_path / "c", SHARDS, {"weight_map": MAP})) as shards:
        assert sorted(shards) == ["a", "a2", "b", "b2"]
        assert shards.tensor("a2").shape == (2, 3)


@pytest.mark.parametrize(
    ("shards", "index", "value"),
    [
        (SHARDS, {"weight_map": {**MAP, "c": "1.safetensors"}}, "'c'"),
        (SHARDS, {"weight_map": {k: v for k, v in MAP.items() if k != "b"}}, "'b'"),
        (SHARDS, {"weight_map": {**MAP, "a": "2.safetensors", "a2": "1.safetensors"}}, "2.safetensors"),
        ({**SHARDS, "2.safetensors": GOOD}, {"weight_map": MAP}, "1.safetensors"),
        (SHARDS, {"weight_map": {**MAP, "a": "../1.safetensors"}}, "'../1.safetensors'"),
        (SHARDS, {"weight_map": {**MAP, "a": "/etc/passwd"}}, "'/etc/passwd'"),
        (SHARDS, {"weight_map": {**MAP, "a": "3.safetensors"}}, "3.safetensors"),
        (SHARDS, {"weight_map": []}, "weight_map"),
        (SHARDS, [], ""),
        (SHARDS, {"weight_map": {f"t{i}": f"{i}.safetensors" for i in range(1100)}}, "1,100"),
        ({}, None, "model.safetensors"),
    ],
)
def test_shards_that_contradict_their_index_are_refused(
    tmp_path: Path, shards: dict[str, dict[str, Any]], index: object, value: str
) -> None:
    with refusal(ModelError, value):
        Checkpoint(checkpoint(tmp_path / "c", shards, index))


def test_pickles_are_refused_with_the_next_step(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "c", {})
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with refusal(ModelError, "safe_serialization=True", file=str(folder / "pytorch_model.bin")):
        Checkpoint(folder)


def test_links_out_of_the_folder_are_refused(tmp_path: Path) -> None:
    outside = written(tmp_path / "outside", GOOD)
    folder = checkpoint(tmp_path / "c", {})
    (folder / "model.safetensors").symlink_to(outside)
    with refusal(ModelError, outside, file=str(folder / "model.safetensors")):
        Checkpoint(folder)
    cache = tmp_path / "models--x--y"
    (cache / "blobs").mkdir(parents=True)
    (cache / "snapshots").mkdir()
    snapshot = checkpoint(cache / "snapshots" / "0", {})
    written(cache / "blobs" / "sha", GOOD)
    (snapshot / "model.safetensors").symlink_to("../../blobs/sha")
    with Checkpoint(snapshot) as tensors:
        assert sorted(tensors) == ["a", "b"]


@pytest.mark.parametrize(
    ("place", "readable"),
    [
        (f"blobs/ab/ab{'0' * 62}", True),
        (f"blobs/ac/ab{'0' * 62}", False),
        (f"blobs/ab/ab{'0' * 61}", False),
        (f"blobs/ab/ab{'0' * 61}g", False),
        (f"blobs/ab{'0' * 62}", False),
        (f"other/ab/ab{'0' * 62}", False),
        ("models--x--z/blobs/sha", False),
    ],
)
def test_links_into_the_hubs_cache_are_read(tmp_path: Path, place: str, readable: bool) -> None:
    cache = tmp_path / "hub"
    (cache / "models--x--y" / "blobs").mkdir(parents=True)
    (cache / place).parent.mkdir(parents=True, exist_ok=True)
    written(cache / place, GOOD)
    (cache / "models--x--y" / "blobs" / "sha").symlink_to(f"../../{place}")
    (cache / "models--x--y" / "snapshots").mkdir()
    snapshot = checkpoint(cache / "models--x--y" / "snapshots" / "0", {})
    (snapshot / "model.safetensors").symlink_to("../../blobs/sha")
    if readable:
        with Checkpoint(snapshot) as tensors:
            assert sorted(tensors) == ["a", "b"]
    else:
        with refusal(ModelError, cache / place, file=str(snapshot / "model.safetensors")):
            Checkpoint(snapshot)


def test_files_that_cannot_be_reached_are_refused(tmp_path: Path) -> None:
    named = checkpoint(tmp_path / "named", {}, {"weight_map": {"a": "\ud800"}})
    looped = checkpoint(tmp_path / "looped", SHARDS)
    (looped / "config.json").unlink()
    (looped / "config.json").symlink_to("config.json")
    for folder in (named, looped):
        with refusal(ModelError, folder):
            Checkpoint(folder)


def test_empty_tensors_are_read(tmp_path: Path) -> None:
    empty = {name: {**entry, "shape": [1 << 20, 0], "data_offsets": [0, 0]} for name, entry in GOOD.items()}
    with SafetensorsFile(written(tmp_path / "f", empty, b"")) as file:
        assert file.rows("a").shape == (1 << 20, 0)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "..\\a", "a\0b"])
def test_shard_names_outside_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    with refusal(ModelError, repr(name), file=str(tmp_path)):
        inside(tmp_path, name)


def test_a_duplicate_among_many_names_is_found_quickly(tmp_path: Path) -> None:
    pairs = ", ".join(f'"{number}": 1' for number in range(200_000))
    started = time.monotonic()
    with refusal(ModelError, "'199999'"):
        SafetensorsFile(written(tmp_path / "f", f'{{{pairs}, "199999": 1}}'.encode()))
    assert time.monotonic() - started < 20
