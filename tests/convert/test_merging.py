"""Tests that adapters are merged as their settings say, and that an adapter that cannot be merged fully is refused."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ecellm_lite.convert.adapter import read_adapter
from ecellm_lite.convert.checkpoint import Checkpoint
from ecellm_lite.convert.merging import WeightedAdapter, attach_adapters
from ecellm_lite.errors import ModelError, UsageError
from ecellm_lite.kernels.floats import widened
from ecellm_lite.models.gguf_header import Header
from tests.support.conversions import QUERY, close, converted, floats, stored_tensors
from tests.support.refusals import refusal
from tests.support.small_checkpoints import (
    HEADS,
    INNER,
    KV_HEADS,
    WIDTH,
    blueprint,
    factors,
    rotated,
    shapes,
    weights,
    write_adapter,
    write_checkpoint,
)


def test_weighted_adapters_are_added(tmp_path: Path) -> None:
    tensors = weights()
    base = write_checkpoint(tmp_path / "base", tensors)
    down = "model.layers.0.mlp.down_proj"
    first = factors(QUERY, WIDTH, WIDTH, seed=1)
    second = factors(QUERY, WIDTH, WIDTH, seed=2, rank=300) | factors(down, WIDTH, 512)
    adapters = [
        (write_adapter(tmp_path / "one", first), 1.0),
        (write_adapter(tmp_path / "two", second, r=4, rank_pattern={"q_proj": 300}), -0.5),
    ]
    header = converted(base, tmp_path / "out.gguf", "F32", adapters=adapters)
    exact = {name: widened(values, "BF16").astype(np.float64) for name, values in tensors.items()}
    for pair, scale in ((first, 8 / 4), (second, -0.5 * 8 / 300)):
        exact[f"{QUERY}.weight"] += scale * (
            pair[f"{QUERY}.lora_B.weight"].astype(np.float64) @ pair[f"{QUERY}.lora_A.weight"]
        )
    exact[f"{down}.weight"] += (
        -0.5 * 8 / 4 * (second[f"{down}.lora_B.weight"].astype(np.float64) @ second[f"{down}.lora_A.weight"])
    )
    exact[f"{QUERY}.weight"] = exact[f"{QUERY}.weight"][rotated(HEADS, WIDTH)]
    exact["model.layers.0.self_attn.q_proj.weight"] = exact["model.layers.0.self_attn.q_proj.weight"][
        rotated(HEADS, WIDTH)
    ]
    merged = stored_tensors(header)
    for source in (QUERY, down, "model.layers.0.self_attn.q_proj"):
        name, shape = shapes()[f"{source}.weight"]
        values = np.frombuffer(merged[name], dtype=np.float32).reshape(shape)
        close(values, exact[f"{source}.weight"])


# An adapter's settings, with the ranks of its factors for QUERY, KEY and DOWN, and what their products are multiplied
# by: by definition alpha / rank, or alpha / sqrt(rank) with rsLoRA.
SETTINGS: dict[str, tuple[dict[str, Any], tuple[int, int, int], tuple[float, float, float]]] = {
    "rslora": ({"use_rslora": True}, (4, 4, 4), (8 / math.sqrt(4),) * 3),
    "alpha_pattern": (
        {"alpha_pattern": {"q_proj": 3, r".*\.0\.mlp\.down_proj": 50}}, (4, 4, 4), (3 / 4, 8 / 4, 50 / 4),
    ),
    "rank_pattern": ({"rank_pattern": {"k_proj": 7, "down_proj": 40}}, (4, 7, 40), (8 / 4, 8 / 7, 8 / 40)),
    "all together": (
        {
            "use_rslora": True, "lora_alpha": 12, "rank_pattern": {"q_proj": 3, "down_proj": 33},
            "alpha_pattern": {"k_proj": 5, "down_proj": 1},
        },
        (3, 4, 33), (12 / math.sqrt(3), 5 / math.sqrt(4), 1 / math.sqrt(33)),
    ),
}  # fmt: skip
KEY, DOWN = "model.layers.1.self_attn.k_proj", "model.layers.0.mlp.down_proj"
PLACES = {QUERY: (WIDTH, WIDTH, HEADS), KEY: (WIDTH // HEADS * KV_HEADS, WIDTH, KV_HEADS), DOWN: (WIDTH, INNER, 0)}


def of_settings(folder: Path, name: str, seed: int) -> tuple[Path, dict[str, NDArray[np.float64]]]:
    """Write the adapter SETTINGS[name]. Return what the adapter adds to each matrix of the base model."""
    config, ranks, scales = SETTINGS[name]
    tensors: dict[str, NDArray[np.float32]] = {}
    added = {}
    for (module, (rows, columns, _)), rank, scale in zip(PLACES.items(), ranks, scales, strict=True):
        pair = factors(module, rows, columns, rank=rank, seed=seed)
        a, b = (pair[f"{module}.lora_{part}.weight"].astype(np.float64) for part in "AB")
        tensors |= pair
        added[module] = scale * (b @ a)
    return write_adapter(folder, tensors, **config), added


def check_sum(header: Header, tensors: Mapping[str, NDArray[Any]], *added: Mapping[str, NDArray[np.float64]]) -> None:
    """Check each matrix of an F32 file: it is the base's matrix plus the adapters' changes, computed in float64."""
    merged = stored_tensors(header)
    for module, (rows, columns, heads) in PLACES.items():
        exact = tensors[f"{module}.weight"].astype(np.float64)
        for each in added:
            exact = exact + each[module]
        name, _ = shapes()[f"{module}.weight"]
        values = np.frombuffer(merged[name], dtype=np.float32).reshape(rows, columns)
        close(values, exact[rotated(heads, rows)] if heads else exact)
    changed = {shapes()[f"{module}.weight"][0] for module in PLACES}
    for name, wide in floats(tensors).items():
        assert name in changed or merged[name] == wide.tobytes(), name


@pytest.mark.parametrize("name", SETTINGS)
def test_ranks_and_alphas_of_each_module_are_applied(name: str, tmp_path: Path) -> None:
    tensors = weights("F32")
    base = write_checkpoint(tmp_path / "base", tensors)
    adapter, added = of_settings(tmp_path / "lora", name, seed=3)
    check_sum(converted(base, tmp_path / "out.gguf", "F32", adapters=[(adapter, 1.0)]), tensors, added)


def test_a_lora_and_an_rslora_adapter_are_added(tmp_path: Path) -> None:
    tensors = weights("F32")
    base = write_checkpoint(tmp_path / "base", tensors)
    one, first = of_settings(tmp_path / "one", "all together", seed=4)
    two, second = of_settings(tmp_path / "two", "alpha_pattern", seed=5)
    header = converted(base, tmp_path / "out.gguf", "F32", adapters=[(one, 0.75), (two, -0.5)])
    first = {module: 0.75 * each for module, each in first.items()}
    second = {module: -0.5 * each for module, each in second.items()}
    check_sum(header, tensors, first, second)


def test_dora_magnitudes_scale_rows_before_reordering(tmp_path: Path) -> None:
    tensors = weights("F32")
    base = write_checkpoint(tmp_path / "base", tensors)
    factored = factors(QUERY, WIDTH, WIDTH)
    factored[f"{QUERY}.lora_magnitude_vector"] = np.random.default_rng(3).uniform(0.5, 2, WIDTH).astype(np.float32)
    adapter = write_adapter(tmp_path / "dora", factored, use_dora=True)
    header = converted(base, tmp_path / "out.gguf", "F32", adapters=[(adapter, 1.0)], block_weights=WIDTH * 7)
    merged = tensors[f"{QUERY}.weight"].astype(np.float64)
    merged += 2.0 * factored[f"{QUERY}.lora_B.weight"].astype(np.float64) @ factored[f"{QUERY}.lora_A.weight"]
    merged *= (factored[f"{QUERY}.lora_magnitude_vector"] / np.linalg.norm(merged, axis=1))[:, None]
    values = np.frombuffer(stored_tensors(header)["blk.1.attn_q.weight"], dtype=np.float32).reshape(WIDTH, WIDTH)
    close(values, merged[rotated(HEADS, WIDTH)])


@pytest.mark.parametrize("target", ["lm_head", "model.embed_tokens"])
def test_a_tied_model_is_untied_if_an_adapter_changes_one_matrix(target: str, tmp_path: Path) -> None:
    tensors = weights("F32", tied=True)
    base = write_checkpoint(tmp_path / "base", tensors)
    embedding = tensors["model.embed_tokens.weight"]
    factored = factors("x", len(embedding), WIDTH)
    a, b = factored["x.lora_A.weight"], factored["x.lora_B.weight"]
    if target == "lm_head":
        keys = {f"{target}.lora_A.weight": a, f"{target}.lora_B.weight": b}
    else:
        keys = {f"{target}.lora_embedding_A": b.T.copy(), f"{target}.lora_embedding_B": a.T.copy()}
    if target == "lm_head":
        keys["lm_head.base_layer.weight"] = embedding
    adapter = write_adapter(tmp_path / "lora", keys)
    drawn = blueprint(tied=True)
    plain = converted(base, tmp_path / "plain.gguf", "F32", drawn=drawn)
    assert "output.weight" not in stored_tensors(plain)
    merged = stored_tensors(converted(base, tmp_path / "out.gguf", "F32", adapters=[(adapter, 1.0)], drawn=drawn))
    changed = embedding.astype(np.float64) + 2.0 * (b.astype(np.float64) @ a)
    names = ("output.weight", "token_embd.weight")
    new, old = names if target == "lm_head" else reversed(names)
    close(np.frombuffer(merged[new], dtype=np.float32).reshape(embedding.shape), changed)
    assert merged[old] == embedding.tobytes()


def test_whole_tensors_replace_those_of_the_base(tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", weights("F32"))
    other = weights("F32", seed=9)
    saved = {
        "lm_head.modules_to_save.weight": other["lm_head.weight"],
        f"{QUERY}.weight": other[f"{QUERY}.weight"],
        "model.norm.weight": other["model.norm.weight"],
    }
    adapter = write_adapter(tmp_path / "lora", saved)
    merged = stored_tensors(
        converted(base, tmp_path / "out.gguf", "F32", adapters=[(adapter, 1.0)], block_weights=WIDTH * 5)
    )
    assert merged["output.weight"] == other["lm_head.weight"].tobytes()
    assert merged["output_norm.weight"] == other["model.norm.weight"].tobytes()
    assert merged["blk.1.attn_q.weight"] == other[f"{QUERY}.weight"][rotated(HEADS, WIDTH)].tobytes()
    with refusal(UsageError, settings=("adapters",)):
        converted(base, tmp_path / "out.gguf", adapters=[(adapter, 0.5)])
    with refusal(UsageError, settings=("adapters",)):
        converted(base, tmp_path / "out.gguf", adapters=[(adapter, 1.0), (adapter, 1.0)])


@pytest.mark.parametrize(
    ("tensors", "value"),
    [
        (factors("model.layers.7.self_attn.q_proj", WIDTH, WIDTH), "model.layers.7.self_attn.q_proj"),
        (factors(QUERY, WIDTH, WIDTH + 1), "257"),
        (factors(QUERY, WIDTH - 1, WIDTH), "255"),
        ({"model.other.weight": np.ones((2, 2), np.float32)}, "model.other.weight"),
        ({"lm_head.weight": np.ones((2, WIDTH), np.float32)}, "lm_head"),
        (
            factors(QUERY, WIDTH, WIDTH) | {f"{QUERY}.base_layer.weight": np.ones((WIDTH, WIDTH), np.float32)},
            QUERY,
        ),
        (factors(QUERY, WIDTH, WIDTH) | {f"{QUERY}.weight": np.ones((WIDTH, WIDTH), np.float32)}, QUERY),
        ({name: each * np.float32(np.nan) for name, each in factors(QUERY, WIDTH, WIDTH).items()}, "NaN"),
    ],
)
def test_an_adapter_that_only_partly_fits_is_refused(tensors: Any, value: str, tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", weights())
    good = factors("model.layers.0.mlp.up_proj", 512, WIDTH)
    adapter = write_adapter(tmp_path / "lora", {**good, **tensors})
    with refusal(ModelError, value):
        converted(base, tmp_path / "out.gguf", adapters=[(adapter, 1.0)])
    assert [path.name for path in tmp_path.iterdir() if "out" in path.name] == []


def test_too_many_adapters_are_refused_before_anything_is_read(tmp_path: Path) -> None:
    drawn = blueprint()
    one = WeightedAdapter(read_adapter(write_adapter(tmp_path / "one", factors(QUERY, WIDTH, WIDTH))), 0.01)
    with Checkpoint(write_checkpoint(tmp_path / "base", weights())) as source:
        assert max(len(recipe.factors) for recipe in attach_adapters(drawn, source, [one] * 64).recipes) == 64
        with refusal(UsageError, 65, "blk.1.attn_q.weight", 64):
            attach_adapters(drawn, source, [one] * 65)


def test_a_dora_adapter_cannot_be_weighted_or_combined(tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", weights())
    factored = factors(QUERY, WIDTH, WIDTH) | {f"{QUERY}.lora_magnitude_vector.weight": np.ones(WIDTH, np.float32)}
    dora = write_adapter(tmp_path / "dora", factored, use_dora=True)
    lora = write_adapter(tmp_path / "lora", factors(QUERY, WIDTH, WIDTH))
    for adapters in ([(dora, 0.5)], [(dora, 1.0), (lora, 1.0)]):
        with refusal(UsageError, dora, settings=("adapters",)):
            converted(base, tmp_path / "out.gguf", adapters=adapters)
    for weight in (0.0, float("nan")):
        with refusal(UsageError, lora, settings=("adapters",)):
            converted(base, tmp_path / "out.gguf", adapters=[(lora, weight)])
