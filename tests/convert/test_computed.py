"""Tests of tensors whose values are computed from the configuration, and tensors to which a constant is added."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ecellm_lite.convert.adapter import read_adapter
from ecellm_lite.convert.blueprint import Blueprint, TensorRecipe
from ecellm_lite.convert.checkpoint import Checkpoint
from ecellm_lite.convert.merging import WeightedAdapter, attach_adapters
from ecellm_lite.convert.plan import draw_plan
from ecellm_lite.kernels.floats import widened
from ecellm_lite.models.gguf_header import read_header
from tests.support.conversions import carry_out, stored_tensors
from tests.support.small_checkpoints import WIDTH, blueprint, weights, write_adapter, write_checkpoint

NORM = "model.norm.weight"
FREQUENCIES = np.array([1, 2.5, 8, 8], dtype=np.float32)


def drawn(**norm: Any) -> Blueprint:
    whole = blueprint()
    recipes = [replace(recipe, **norm) if recipe.source == NORM else recipe for recipe in whole.recipes]
    computed = TensorRecipe("rope_freqs.weight", "", FREQUENCIES.shape, saved=FREQUENCIES)
    return replace(whole, recipes=(computed, *recipes))


def written(folder: Path, target: Path, draw: Blueprint, *adapters: Path) -> dict[str, NDArray[Any]]:
    with Checkpoint(folder) as source:
        weighted = [WeightedAdapter(read_adapter(path)) for path in adapters]
        carry_out(draw_plan(attach_adapters(draw, source, weighted), source, "Q8_0"), source, target)
    tensors = stored_tensors(read_header(target))
    return {name: np.frombuffer(tensors[name], np.float32) for name in ("rope_freqs.weight", "output_norm.weight")}


@pytest.mark.parametrize("kind", ["BF16", "F16", "F32"])
def test_a_computed_tensor_and_a_norm_plus_one_are_written(kind: str, tmp_path: Path) -> None:
    tensors = weights(kind)
    base = write_checkpoint(tmp_path / "base", tensors)
    values = written(base, tmp_path / "out.gguf", drawn(added=1.0))
    assert values["rope_freqs.weight"].tolist() == FREQUENCIES.tolist()
    assert (values["output_norm.weight"] == widened(tensors[NORM], kind) + np.float32(1)).all()


def test_the_constant_is_added_to_an_adapters_norm_too(tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", weights())
    norm = np.linspace(-1, 1, WIDTH, dtype=np.float32)
    adapter = write_adapter(tmp_path / "lora", {NORM: norm})
    for place in ({"added": 1.0}, {"adapter_added": 1.0}):
        values = written(base, tmp_path / "out.gguf", drawn(**place), adapter)
        assert (values["output_norm.weight"] == norm + np.float32(1)).all()


def test_an_untrained_norm_of_an_adapter_changes_nothing(tmp_path: Path) -> None:
    tensors = {**weights("F32"), NORM: np.arange(WIDTH, dtype=np.float32)}
    base = write_checkpoint(tmp_path / "base", tensors)
    for minus, replaced in ((1, False), (0, True)):
        adapter = write_adapter(tmp_path / f"lora-{minus}", {NORM: tensors[NORM] - np.float32(minus)})
        with Checkpoint(base) as source:
            attached = attach_adapters(drawn(adapter_added=1.0), source, [WeightedAdapter(read_adapter(adapter))])
        assert [recipe.saved is not None for recipe in attached.recipes if recipe.source == NORM] == [replaced]


def test_the_plans_identity_changes_with_the_added_constant(tmp_path: Path) -> None:
    with Checkpoint(write_checkpoint(tmp_path / "base", weights())) as source:
        plans = {draw_plan(drawn(added=added), source, "Q8_0").identity for added in (0.0, 1.0, 2.0)}
    assert len(plans) == 3
