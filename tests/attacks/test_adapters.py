"""Tests that malicious and damaged adapter files are refused with an error, and cause no crash and no hang."""

from __future__ import annotations

import errno
import json
import math
import os
import random
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ecellm_lite.convert import module_patterns
from ecellm_lite.convert.adapter import read_adapter
from ecellm_lite.convert.gguf_adapter import read_gguf_adapter
from ecellm_lite.convert.imatrix import read_imatrix
from ecellm_lite.convert.module_patterns import ModulePatterns
from ecellm_lite.errors import EcellmError, ModelError
from ecellm_lite.models.gguf_header import read_header
from tests.convert.test_gguf_adapter import written
from tests.support.refusals import refusal
from tests.support.small_checkpoints import factors, write_adapter
from tests.support.tiny_models import finish

MODULE = "model.layers.0.self_attn.q_proj"
KEYS = [
    "peft_type", "r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora", "use_dora", "bias", "fan_in_fan_out",
    "init_lora_weights", "base_model_name_or_path", "target_modules", "modules_to_save", "layer_replication",
]  # fmt: skip
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@settings(deadline=None, max_examples=200)
@given(changes=st.dictionaries(st.sampled_from(KEYS), ANYTHING, min_size=1, max_size=3))
def test_any_settings_are_read_or_refused(changes: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = write_adapter(tmp_path_factory.getbasetemp() / "any-settings", factors(MODULE, 8, 8))
    config = json.loads((folder / "adapter_config.json").read_text()) | changes
    (folder / "adapter_config.json").write_text(json.dumps(config))
    try:
        adapter = read_adapter(folder)
    except ModelError as error:
        assert error.step  # noqa: PT017 - some settings do no harm
    else:
        assert np.isfinite(adapter.factors[MODULE].scale)


@pytest.mark.parametrize("text", ["", "[]", "{", "null", "[" * 100_000, '{"r": ' * 50_000, "\ufeff{}", '{"r": 1e999}'])
def test_invalid_settings_are_refused(text: str, tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a", factors(MODULE, 8, 8))
    (folder / "adapter_config.json").write_text(text)
    with pytest.raises(ModelError):
        read_adapter(folder)


def test_factors_too_large_for_the_memory_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_adapter(tmp_path / "a", factors(MODULE, 300, 256, rank=2), r=2)
    (tmp_path / "b").mkdir()
    _, gguf_adapter = written(tmp_path / "b")
    weights = sum(map(math.prod, (one.shape for one in read_header(gguf_adapter).tensors)))
    for read, path, needed in ((read_adapter, folder, 4 * 2 * 556), (read_gguf_adapter, gguf_adapter, 4 * weights)):
        memory = SimpleNamespace(available=needed)
        monkeypatch.setattr("psutil.virtual_memory", lambda memory=memory: memory)
        read(path)
        memory.available -= 1
        with refusal(ModelError, path):
            read(path)


def test_a_file_deleted_meanwhile_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, path = written(tmp_path)
    header = read_header(path)
    path.unlink()
    monkeypatch.setattr("ecellm_lite.convert.gguf_adapter.read_header", lambda _: header)
    with refusal(ModelError, os.strerror(errno.ENOENT), file=str(path)):
        read_gguf_adapter(path)


@pytest.mark.parametrize(
    "pattern", ["(a+)+$", "(.*)*x", "(" * 200, "a" * 1000, "[", ".*" * 50, "(x|x)*y", "a?" * 60 + "a" * 60]
)
def test_patterns_that_take_forever_are_refused(pattern: str, tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a", factors(MODULE + "a" * 60, 8, 8), rank_pattern={pattern: 4})
    with refusal(ModelError, field="rank_pattern"):
        read_adapter(folder)


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("1" * 400 + "x", r"\d+." * 40 + ".*" + "y"),
        ("1." * 200, r"\d+." * 50 + ".*" + r"\d+.y"),
        ("." * 450, "." * 120 + ".*" + "." * 120 + "y"),
    ],
)
def test_patterns_that_are_accepted_do_not_backtrack(name: str, pattern: str, tmp_path: Path) -> None:
    """A regex engine that backtracks would take almost forever on each of these patterns."""
    folder = write_adapter(tmp_path / "a", factors(name, 8, 8), rank_pattern={pattern: 5})
    assert read_adapter(folder).factors.keys() == {name}


def test_patterns_that_would_take_too_long_together_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensors = factors("." * 450, 8, 8) | factors(MODULE, 8, 8)
    patterns = {"." * 50 + f"{number}": 4 for number in range(1000)}
    folder = write_adapter(tmp_path / "a", tensors, rank_pattern=patterns)
    assert len(read_adapter(folder).factors) == 2
    monkeypatch.setattr(module_patterns, "MAX_WORK", 10_000_000)
    with refusal(ModelError, "rank_pattern"):
        read_adapter(folder)
    monkeypatch.setattr(module_patterns, "MAX_LETTERS", 50_000)
    with refusal(ModelError, "50,000", field="rank_pattern"):
        read_adapter(folder)


@settings(deadline=None, max_examples=500)
@given(
    key=st.lists(st.sampled_from(["a", "b", "1", "_", ".", r"\.", r"\d+", ".*", "|", "^", "$"]), max_size=8).map(
        "".join
    ),
    name=st.text(alphabet="ab.12_", max_size=10),
)
def test_a_pattern_matches_as_in_peft(key: str, name: str) -> None:
    try:
        matched = ModulePatterns({key: True}, "rank_pattern").value(name, False)
    except ValueError:
        return
    if r"\d+." not in key.replace(r"\d+.*", ""):  # behind digits, a dot matches no digit here
        assert matched == bool(re.match(rf".*(^|\.)({key})$", name))


def test_a_missing_rank_and_an_infinite_alpha_are_refused(tmp_path: Path) -> None:
    empty = {
        f"{MODULE}.lora_A.weight": np.ones((0, 8), np.float32),
        f"{MODULE}.lora_B.weight": np.ones((8, 0), np.float32),
    }
    with refusal(ModelError, MODULE):
        read_adapter(write_adapter(tmp_path / "rank", empty, r=0))
    with refusal(ModelError, "alpha"):
        read_adapter(write_adapter(tmp_path / "alpha", factors(MODULE, 8, 8), lora_alpha=-(10**400)))


@pytest.mark.parametrize("read", [read_gguf_adapter, read_imatrix])
def test_no_damage_to_a_gguf_file_crashes(read: Any, tmp_path: Path) -> None:
    _, file = written(tmp_path)
    whole = file.read_bytes()
    chosen = random.Random(4)
    for _ in range(150):
        data = bytearray(whole)
        for _ in range(chosen.randint(1, 4)):
            data[chosen.randrange(min(len(data), 1500))] = chosen.randrange(256)
        file.write_bytes(data[: chosen.randrange(len(data))] if chosen.random() < 0.3 else data)
        try:
            read(file)
        except EcellmError as error:
            assert error.message  # noqa: PT017 - some damage does no harm


def imatrix(path: Path, sums: NDArray[np.float32], counts: NDArray[np.float32]) -> Path:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_type("imatrix")
    writer.add_tensor("x.in_sum2", sums[None])
    writer.add_tensor("x.counts", counts[None])
    finish(writer)
    return path


@pytest.mark.parametrize(("bad", "count"), [(-1, 2), (-1, 0), (-np.inf, 2), (np.inf, 2), (np.nan, 2)])
def test_invalid_sums_of_squares_are_refused(bad: float, count: float, tmp_path: Path) -> None:
    sums = np.array([4, 0, bad], dtype=np.float32)
    counts = np.array([count], dtype=np.float32)
    with refusal(ModelError, file=str(tmp_path / "bad.gguf")):
        read_imatrix(imatrix(tmp_path / "bad.gguf", sums, counts))
    importance = read_imatrix(imatrix(tmp_path / "good.gguf", sums[:2], counts)).importance
    assert importance["x"].tolist() == ([2, 0] if count else [1, 1])


def test_arrays_of_counts_with_absurd_sizes_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = imatrix(tmp_path / "i.gguf", np.ones(4, dtype=np.float32), np.ones(100_000, dtype=np.float32))
    read: list[int] = []
    original = os.preadv

    def noted(file: int, buffers: list[memoryview], place: int) -> int:
        read.extend(map(len, buffers))
        return original(file, buffers, place)

    monkeypatch.setattr(os, "preadv", noted)
    with refusal(ModelError, "100,000", file=str(path)):
        read_imatrix(path)
    assert read == [16]
