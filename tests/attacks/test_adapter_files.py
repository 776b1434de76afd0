"""Tests that invalid adapters in GGUF files are refused before llama.cpp reads them. Some would abort the process."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ecellm_lite import Runtime
from ecellm_lite.engine.interface import Chunk
from ecellm_lite.engine.llama import LlamaBackend
from ecellm_lite.engine.settings import Settings
from ecellm_lite.errors import ModelError, UsageError
from ecellm_lite.models.adapter_check import check_adapter, check_finite
from ecellm_lite.models.gguf_header import read_header
from tests.attacks.gguf_files import STRING, gguf_file, key, string, tensor
from tests.support.gguf_refusals import check_error
from tests.support.shop_adapters import INNER, WIDTH, write_base, write_shops
from tests.support.tiny_models import finish

F32, U32, F64, ARRAY = (
    gguf.GGUFValueType.FLOAT32,
    gguf.GGUFValueType.UINT32,
    gguf.GGUFValueType.FLOAT64,
    gguf.GGUFValueType.ARRAY,
)
UP = "blk.0.ffn_up.weight"
GOOD: Mapping[str, NDArray[Any] | None] = {
    f"{UP}.lora_a": np.full((4, WIDTH), 0.1, np.float32),
    f"{UP}.lora_b": np.full((INNER, 4), 0.1, np.float32),
}


def zeros(*shape: int, kind: type[np.generic] = np.float32) -> NDArray[Any]:
    return np.zeros(shape, kind)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("base") / "base.gguf")


def forged(
    path: Path,
    keys: Mapping[str, Any] | None = None,
    tensors: Mapping[str, NDArray[Any] | None] | None = None,
    architecture: str = "llama",
) -> Path:
    """Write an adapter for the base model, with changed keys and tensors. A value of None removes the key or tensor."""
    writer = gguf.GGUFWriter(path, architecture)
    values: dict[str, Any] = {
        "general.type": "adapter",
        "adapter.type": "lora",
        "adapter.lora.alpha": (8.0, F32),
        **(keys or {}),
    }
    for name, value in values.items():
        if isinstance(value, tuple):
            writer.add_key_value(name, *value)
        elif value is not None:
            writer.add_string(name, value)
    for name, weight in {**GOOD, **(tensors or {})}.items():
        if weight is not None:
            writer.add_tensor(name, weight)
    finish(writer)
    return path


def refused(path: Path, base: Path, *values: object) -> None:
    """Check that the adapter is refused before llama.cpp is called, and that the error names its path and `values`."""
    with pytest.raises(ModelError) as caught:
        Runtime(base, envelope="alpaca", context=256, adapters={"shop": path})
    check_error(caught.value, path, *values)


def test_a_valid_adapter_is_loaded(base: Path, tmp_path: Path) -> None:
    with Runtime(base, envelope="alpaca", adapters={"shop": forged(tmp_path / "a.gguf")}) as runtime:
        assert set(runtime.adapters) == {"shop"}


nan, infinity = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        ({"general.type": "model"}, "'model'"),
        ({"general.type": None}, "general.type"),
        ({"general.type": (1, U32)}, "general.type"),
        ({"adapter.type": "ia3"}, "'ia3'"),
        ({"adapter.type": None}, "adapter.type"),
        ({"adapter.lora.alpha": None}, "adapter.lora.alpha"),
        ({"adapter.lora.alpha": (nan, F32)}, "nan"),
        ({"adapter.lora.alpha": (infinity, F32)}, "inf"),
        ({"adapter.lora.alpha": (0.0, F32)}, "0.0"),
        # llama.cpp asserts that the value is a 32-bit float.
        ({"adapter.lora.alpha": (8.0, F64)}, "adapter.lora.alpha"),
        ({"adapter.lora.alpha": (8, U32)}, "adapter.lora.alpha"),
        ({"adapter.lora.alpha": "8"}, "adapter.lora.alpha"),
        ({"adapter.alora.invocation_tokens": ([1, 2], ARRAY, U32)}, "adapter.alora.invocation_tokens"),
    ],
)
def test_wrong_metadata_is_refused(keys: dict[str, Any], value: str, base: Path, tmp_path: Path) -> None:
    refused(forged(tmp_path / "a.gguf", keys), base, value)


def test_an_adapter_for_another_architecture_is_refused(base: Path, tmp_path: Path) -> None:
    refused(forged(tmp_path / "a.gguf", architecture="phi2"), base, "'phi2'", "'llama'")


@pytest.mark.parametrize(
    ("tensors", "value"),
    [
        ({f"{UP}.lora_b": None}, UP),
        ({f"{UP}.lora_a": None}, UP),
        ({f"{UP}.lora_a": None, f"{UP}.lora_b": None}, "no factors"),
        ({f"{UP}.lora_a": zeros(4, WIDTH + 1)}, str(WIDTH + 1)),
        ({f"{UP}.lora_b": zeros(INNER - 1, 4)}, str(INNER - 1)),
        ({f"{UP}.lora_b": zeros(INNER, 5)}, "5"),
        ({f"{UP}.lora_a": zeros(WIDTH), f"{UP}.lora_b": zeros(INNER, 1)}, "shapes"),
        ({f"{UP}.lora_a": zeros(2, 4, WIDTH)}, "shapes"),
        ({f"{UP}.lora_a": zeros(40, WIDTH), f"{UP}.lora_b": zeros(INNER, 40)}, "40"),
        ({f"{UP}.lora_a": zeros(4, WIDTH, kind=np.int32)}, "I32"),
        ({f"{UP}.lora_a": zeros(4, WIDTH, kind=np.float64)}, "F64"),
        ({"blk.9.ffn_up.weight.lora_a": zeros(4, 32), "blk.9.ffn_up.weight.lora_b": zeros(64, 4)}, "blk.9.ffn_up"),
        ({"output.weight.lora_a": zeros(4, 32), "output.weight.lora_b": zeros(270, 4)}, "output.weight"),
        ({"token_embd.weight.lora_a": zeros(270, 4), "token_embd.weight.lora_b": zeros(32, 4)}, "embedding"),
        ({"blk.0.attn_norm.weight.lora_a": zeros(1, 32), "blk.0.attn_norm.weight.lora_b": zeros(1, 1)}, "not a matrix"),
        ({"blk.0.attn_norm.weight": zeros(32)}, "blk.0.attn_norm.weight"),
        ({"lora_a": zeros(4, 32)}, "lora_a"),
        ({f"{UP}.lora_a.lora_a": zeros(4, 32), f"{UP}.lora_a.lora_b": zeros(64, 4)}, "lora_a"),
        ({f"{UP}.lora_a": np.full((4, WIDTH), nan, np.float32)}, "NaN"),
        ({f"{UP}.lora_b": np.full((INNER, 4), infinity, np.float16)}, "infinity"),
    ],
)
def test_tensors_of_the_wrong_shape_are_refused(
    tensors: dict[str, Any], value: str, base: Path, tmp_path: Path
) -> None:
    refused(forged(tmp_path / "a.gguf", tensors=tensors), base, value)


def test_cut_files_and_wrong_counts_are_refused(base: Path, tmp_path: Path) -> None:
    content = forged(tmp_path / "a.gguf").read_bytes()
    cut = tmp_path / "cut.gguf"
    for length in (0, 3, 20, 100, len(content) // 2, len(content) - 1):
        cut.write_bytes(content[:length])
        refused(cut, base)
    keys = [key(b"general.architecture", STRING, string(b"llama"))]
    for count in (60_000, 1 << 60):
        cut.write_bytes(gguf_file(keys, [tensor(b"blk.0.ffn_up.weight.lora_a", (32, 4))], tensor_count=count))
        refused(cut, base)
        cut.write_bytes(gguf_file(keys, [tensor(b"blk.0.ffn_up.weight.lora_a", (32, 4))], key_count=count))
        refused(cut, base)
    cut.write_bytes(gguf_file(keys, [tensor(b"blk.0.ffn_up.weight.lora_a", (1 << 40, 1 << 20))]))
    refused(cut, base)
    refused(tmp_path, base)
    refused(tmp_path / "missing.gguf", base)


@pytest.mark.parametrize("name", ["", "a b", "a+b", "../a", "x" * 65, "ü", "a\n"])
def test_invalid_names_and_too_many_adapters_are_refused(name: str, base: Path, tmp_path: Path) -> None:
    path = forged(tmp_path / "a.gguf")
    with pytest.raises(UsageError):
        Runtime(base, envelope="alpaca", adapters={name: path})
    with pytest.raises(UsageError):
        Runtime(base, envelope="alpaca", adapters={f"shop-{number}": path for number in range(65)})


@settings(max_examples=60)
@given(places=st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), min_size=1, max_size=4))
def test_damage_is_refused_or_harmless(
    places: list[tuple[int, int]], base: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp() / "damaged-adapters"
    folder.mkdir(exist_ok=True)
    file = folder / "good.gguf"
    if not file.exists():
        write_shops(folder, base)
        (folder / "shop-a.gguf").rename(file)
    content = bytearray(file.read_bytes())
    for place, value in places:
        content[place] = value
    damaged = folder / "damaged.gguf"
    damaged.write_bytes(content)
    header = read_header(base)
    try:
        own = read_header(damaged)
        check_adapter(own, "llama", {one.name: one.shape for one in header.tensors})
        check_finite(own)
    except ModelError as error:
        assert error.step  # noqa: PT017 - most damage to the data does no harm
        return
    backend = LlamaBackend(base, Settings(context=256, gpu_layers=0), {"shop": damaged})
    try:
        backend.adapt("shop")
        backend.decode([Chunk(0, 0, [1, 2, 3], 1)])
    finally:
        backend.close()
