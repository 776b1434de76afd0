"""Safetensors files that must be refused with a sentence: never a crash, a hang or memory without bound."""

from __future__ import annotations

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

GOOD = {
    "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
    "b": {"dtype": "BF16", "shape": [4], "data_offsets": [24, 32]},
}


def written(path: Path, header: object, data: bytes = bytes(32), length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


def changed(name: str, **said: Any) -> dict[str, Any]:
    return {**GOOD, name: {**GOOD[name], **said}}


def test_a_good_file_is_read(tmp_path: Path) -> None:
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
    ("header", "said"),
    [
        (b"[]", "JSON object"),
        (b"{ ", "valid JSON"),
        (b"{" * 200_000, "valid JSON"),
        (b'{"a":' * 100_000, "valid JSON"),
        (b"{\xff}", "valid JSON"),
        (b'{"a": NaN}', "valid JSON"),
        (b'{"a": {}, "a": {}}', "twice"),
        (b'{"a": {"dtype": "F32", "dtype": "F32"}}', "twice"),
        ({"a": 1}, "not described"),
        ({"a": {"dtype": "F32", "shape": [8]}}, "not described"),
        ({"__metadata__": {"a": 1}}, "metadata"),
        ({"__metadata__": []}, "metadata"),
        (changed("a", dtype="F99"), "unknown type"),
        (changed("a", dtype=4), "unknown type"),
        (changed("a", shape=[2, -3]), "shape"),
        (changed("a", shape=[2.0, 3]), "shape"),
        (changed("a", shape=[True, 6]), "shape"),
        (changed("a", shape="23"), "shape"),
        (changed("a", shape=[1] * 9), "shape"),
        (changed("a", shape=[2, 4]), "cannot lie"),
        (changed("a", shape=[1 << 62, 1 << 62]), "shape"),
        (changed("a", shape=[1 << 40, 1 << 40]), "shape"),
        (changed("a", shape=[1 << 39]), "cannot lie"),
        (changed("a", shape=[1 << 62, 0], data_offsets=[0, 0]), "shape"),
        (changed("a", shape=[0, 1 << 62], data_offsets=[0, 0]), "shape"),
        (changed("a", shape=[1 << 70, 0], data_offsets=[0, 0]), "shape"),
        (changed("a", shape=[*[1 << 31] * 7, 0], data_offsets=[0, 0]), "shape"),
        (changed("a", data_offsets=[0]), "data_offsets"),
        (changed("a", data_offsets=[-8, 16]), "data_offsets"),
        (changed("a", data_offsets=[24, 0]), "cannot lie"),
        (changed("a", data_offsets=[1 << 70, (1 << 70) + 24]), "cannot lie"),
        (changed("b", data_offsets=[20, 28]), "overlaps"),
        (changed("b", shape=[2], data_offsets=[28, 32]), "hole"),
        (changed("b", shape=[2], data_offsets=[24, 28]), "end at byte"),
        ({"x" * 600: GOOD["a"], "b": GOOD["b"]}, "letters"),
        ({"": GOOD["a"], "b": GOOD["b"]}, "letters"),
        ({}, "end at byte"),
    ],
)
def test_a_header_that_lies_is_refused(tmp_path: Path, header: object, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        SafetensorsFile(written(tmp_path / "f", header))


@pytest.mark.parametrize("length", [0, 1, 1 << 20, 100_000_001, 1 << 63, (1 << 64) - 1])
def test_a_length_that_lies_is_refused(tmp_path: Path, length: int) -> None:
    with pytest.raises(ModelError, match="header claims"):
        SafetensorsFile(written(tmp_path / "f", GOOD, length=length))


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "short").write_bytes(b"1234567")
    for name, said in (("pipe", "regular"), (".", "regular"), ("short", "7 bytes"), ("none", "cannot be read")):
        with pytest.raises(ModelError, match=said):
            SafetensorsFile(tmp_path / name)


def test_a_file_that_shrinks_or_changes_is_noticed(tmp_path: Path) -> None:
    path = written(tmp_path / "f", GOOD)
    with SafetensorsFile(path) as file:
        with path.open("r+b") as shorter:
            shorter.truncate(path.stat().st_size - 4)
        assert file.rows("a").shape == (2, 3)
        with pytest.raises(ModelError, match="shorter"):
            file.rows("b")
        with pytest.raises(ModelError, match="changed"):
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


OTHER = {name + "2": said for name, said in GOOD.items()}
MAP = {"a": "1.safetensors", "b": "1.safetensors", "a2": "2.safetensors", "b2": "2.safetensors"}
SHARDS = {"1.safetensors": GOOD, "2.safetensors": OTHER}


def test_shards_are_one_checkpoint(tmp_path: Path) -> None:
    with Checkpoint(checkpoint(tmp_path / "c", SHARDS, {"weight_map": MAP})) as found:
        assert sorted(found) == ["a", "a2", "b", "b2"]
        assert found.tensor("a2").shape == (2, 3)


@pytest.mark.parametrize(
    ("shards", "index", "said"),
    [
        (SHARDS, {"weight_map": {**MAP, "c": "1.safetensors"}}, "'c' in its index"),
        (SHARDS, {"weight_map": {k: v for k, v in MAP.items() if k != "b"}}, "'b' that its index"),
        (SHARDS, {"weight_map": {**MAP, "a": "2.safetensors", "a2": "1.safetensors"}}, "although its index names"),
        ({**SHARDS, "2.safetensors": GOOD}, {"weight_map": MAP}, "also in 1.safetensors"),
        (SHARDS, {"weight_map": {**MAP, "a": "../1.safetensors"}}, "not in the folder"),
        (SHARDS, {"weight_map": {**MAP, "a": "/etc/passwd"}}, "not in the folder"),
        (SHARDS, {"weight_map": {**MAP, "a": "3.safetensors"}}, "cannot be read"),
        (SHARDS, {"weight_map": []}, "no weight_map"),
        (SHARDS, [], "JSON object"),
        (SHARDS, {"weight_map": {f"t{i}": f"{i}.safetensors" for i in range(1100)}}, "1,100 files"),
        ({}, None, "neither model.safetensors"),
    ],
)
def test_shards_that_do_not_fit_are_refused(
    tmp_path: Path, shards: dict[str, dict[str, Any]], index: object, said: str
) -> None:
    with pytest.raises(ModelError, match=said):
        Checkpoint(checkpoint(tmp_path / "c", shards, index))


def test_pickles_are_refused_with_the_way_out(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "c", {})
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(ModelError, match="safe_serialization=True"):
        Checkpoint(folder)


def test_links_out_of_the_folder_are_refused(tmp_path: Path) -> None:
    outside = written(tmp_path / "outside", GOOD)
    folder = checkpoint(tmp_path / "c", {})
    (folder / "model.safetensors").symlink_to(outside)
    with pytest.raises(ModelError, match="link out of its folder"):
        Checkpoint(folder)
    cache = tmp_path / "models--x--y"
    (cache / "blobs").mkdir(parents=True)
    (cache / "snapshots").mkdir()
    snapshot = checkpoint(cache / "snapshots" / "0", {})
    written(cache / "blobs" / "sha", GOOD)
    (snapshot / "model.safetensors").symlink_to("../../blobs/sha")
    with Checkpoint(snapshot) as found:
        assert sorted(found) == ["a", "b"]


@pytest.mark.parametrize(
    ("place", "held"),
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
def test_blobs_that_repositories_share_are_read(tmp_path: Path, place: str, held: bool) -> None:
    cache = tmp_path / "hub"
    (cache / "models--x--y" / "blobs").mkdir(parents=True)
    (cache / place).parent.mkdir(parents=True, exist_ok=True)
    written(cache / place, GOOD)
    (cache / "models--x--y" / "blobs" / "sha").symlink_to(f"../../{place}")
    (cache / "models--x--y" / "snapshots").mkdir()
    snapshot = checkpoint(cache / "models--x--y" / "snapshots" / "0", {})
    (snapshot / "model.safetensors").symlink_to("../../blobs/sha")
    if held:
        with Checkpoint(snapshot) as found:
            assert sorted(found) == ["a", "b"]
    else:
        with pytest.raises(ModelError, match="link out of its folder"):
            Checkpoint(snapshot)


def test_files_that_cannot_be_reached_are_refused(tmp_path: Path) -> None:
    named = checkpoint(tmp_path / "named", {}, {"weight_map": {"a": "\ud800"}})
    looped = checkpoint(tmp_path / "looped", SHARDS)
    (looped / "config.json").unlink()
    (looped / "config.json").symlink_to("config.json")
    for folder in (named, looped):
        with pytest.raises(ModelError, match=r"can(not)? be (reached|read)"):
            Checkpoint(folder)


def test_empty_tensors_are_read(tmp_path: Path) -> None:
    empty = {name: {**said, "shape": [1 << 20, 0], "data_offsets": [0, 0]} for name, said in GOOD.items()}
    with SafetensorsFile(written(tmp_path / "f", empty, b"")) as file:
        assert file.rows("a").shape == (1 << 20, 0)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "..\\a", "a\0b"])
def test_names_that_lead_elsewhere_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelError, match="not in the folder"):
        inside(tmp_path, name)


def test_many_names_with_the_last_one_twice_take_no_time(tmp_path: Path) -> None:
    pairs = ", ".join(f'"{number}": 1' for number in range(200_000))
    started = time.monotonic()
    with pytest.raises(ModelError, match="'199999' occurs twice"):
        SafetensorsFile(written(tmp_path / "f", f'{{{pairs}, "199999": 1}}'.encode()))
    assert time.monotonic() - started < 20
