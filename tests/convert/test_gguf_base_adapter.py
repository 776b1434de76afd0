"""Tests that an adapter can be converted for a GGUF base, with the same result as for the base's checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ecellm_lite.convert.architectures.language_part import name_alone
from ecellm_lite.convert.checkpoint import Checkpoint
from ecellm_lite.convert.conversion import prepare_conversion
from ecellm_lite.convert.gguf_base import GgufBase
from ecellm_lite.convert.request import ConversionRequest
from ecellm_lite.demo.build import shipped_weights
from ecellm_lite.errors import ModelError, UsageError
from ecellm_lite.models.gguf_header import read_header
from ecellm_lite.models.store import StoredModel
from tests.support.llama_quantize import requantize
from tests.support.refusals import refusal
from tests.support.small_checkpoints import factors, write_adapter
from tests.support.tiny_checkpoints import CONFIGS, LAYERS, WIDTH, shapes, write_checkpoint

pytestmark = pytest.mark.slow  # a conversion each, some seconds


def converted(base: Path, target: Path, file_type: str = "F32", *adapters: Path) -> Path:
    request = ConversionRequest(str(base), target, file_type, tuple((one, 1.0) for one in adapters), envelope="alpaca")
    with prepare_conversion(request) as conversion:
        conversion.run()
    return target


def tensors(path: Path) -> dict[str, tuple[str, bytes]]:
    with GgufBase(path) as file:
        return {name: (file.tensor(name).type, file.rows(name).tobytes()) for name in file}


def modules(kind: str) -> dict[str, tuple[int, int]]:
    """Return the shapes of the matrices to adapt: those of layer 1, and `lm_head` unless the model is Gemma 2."""
    named = {name_alone(name).removesuffix(".weight"): shape for name, shape in shapes(CONFIGS[kind]).items()}
    found = {name: (shape[0], shape[1]) for name, shape in named.items() if len(shape) == 2 and "layers.1." in name}
    rows, columns = named["model.embed_tokens"]
    return found if kind == "gemma2" else found | {"lm_head": (rows, columns)}


@pytest.mark.parametrize("kind", list(CONFIGS))
@pytest.mark.parametrize("dora", [False, True])
def test_an_adapter_has_the_same_effect_on_a_file_and_its_checkpoint(kind: str, dora: bool, tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / kind, kind)
    weights: dict[str, NDArray[Any]] = {}
    for module, (rows, columns) in modules(kind).items():
        weights |= factors(module, rows, columns)
        if dora:
            magnitudes = np.random.default_rng(rows).random(rows, dtype=np.float32) + 1
            weights[f"{module}.lora_magnitude_vector"] = magnitudes
    adapter = write_adapter(tmp_path / "adapter", weights, use_dora=dora)
    file = converted(base, tmp_path / "base.gguf")
    ours = converted(file, tmp_path / "of-file.gguf", "F32", adapter)
    assert tensors(ours) == tensors(converted(base, tmp_path / "of-checkpoint.gguf", "F32", adapter))
    assert tensors(ours) != tensors(file)


def with_output(folder: Path, base: Path, weight: NDArray[Any] | None = None, **config: Any) -> Path:
    """Write an adapter for Phi-2's q_proj and lm_head in PEFT's format.

    The adapter contains a copy of the base's lm_head. `weight` replaces the copied weight, if given.
    """
    weights: dict[str, NDArray[Any]] = {}
    for module, shape in modules("phi").items():
        if module.endswith(("q_proj", "lm_head")):
            for layer in range(LAYERS) if "layers" in module else (1,):
                weights |= factors(module.replace("layers.1", f"layers.{layer}"), *shape, seed=layer)
    with Checkpoint(base) as checkpoint:
        weights["lm_head.base_layer.bias"] = checkpoint.rows("lm_head.bias")
        weights["lm_head.base_layer.weight"] = checkpoint.rows("lm_head.weight") if weight is None else weight
    return write_adapter(folder, weights, **{"target_modules": ["q_proj", "lm_head"], **config})


def test_an_adapter_with_base_layers_is_merged(tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "phi", "phi")
    adapter = with_output(tmp_path / "adapter", base)
    expected = tensors(converted(base, tmp_path / "of-checkpoint.gguf", "F32", adapter))
    exact = converted(base, tmp_path / "exact.gguf")
    assert tensors(converted(exact, tmp_path / "of-file.gguf", "F32", adapter)) == expected
    lossy = converted(base, tmp_path / "lossy.gguf", "Q4_1")
    assert (
        tensors(converted(lossy, tmp_path / "of-lossy.gguf", "F32", adapter))["output.bias"] == expected["output.bias"]
    )
    vocabulary = CONFIGS["phi"]["vocab_size"]
    other = with_output(tmp_path / "other", base, np.ones((vocabulary, WIDTH), np.float16))
    for file in (base, exact):
        with refusal(ModelError, "lm_head", file=str(other)):
            converted(file, tmp_path / "no.gguf", "F32", other)
    smaller = with_output(tmp_path / "smaller", base, np.ones((vocabulary - 1, WIDTH), np.float16))
    with refusal(ModelError, "lm_head", file=str(smaller)):
        converted(lossy, tmp_path / "no.gguf", "F32", smaller)


def test_a_layer_that_is_missing_is_noticed(tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "llama", "llama", tokenizer=True)
    weights = factors("model.layers.1.self_attn.q_proj", WIDTH, WIDTH)
    for number, config in enumerate(
        ({"target_modules": ["q_proj"]}, {"target_modules": ["Wq"], "exclude_modules": []})
    ):
        adapter = write_adapter(tmp_path / f"lacking-{number}", weights, **config)
        with refusal(ModelError, "model.layers.0.self_attn.q_proj", file=str(adapter)):
            converted(base, tmp_path / "no.gguf", "F32", adapter)
    more = weights | factors("model.layers.0.self_attn.q_proj", WIDTH, WIDTH)
    adapter = write_adapter(tmp_path / "no-head", more, target_modules=["q_proj", "lm_head"])
    with refusal(ModelError, "lm_head", file=str(adapter)):
        converted(base, tmp_path / "no.gguf", "F32", adapter)
    explained: list[dict[str, Any]] = [
        {"target_modules": ["q_proj"], "layers_to_transform": [1]},
        {"target_modules": ["q_proj"], "exclude_modules": ["layers.0.self_attn.q_proj"]},
        {"target_modules": ["1.self_attn.q_proj"]},
        {"target_modules": r".*\.1\..*q_proj"},
    ]
    for number, config in enumerate(explained):
        request = ConversionRequest(
            str(base),
            tmp_path / "plan.gguf",
            "F32",
            ((write_adapter(tmp_path / f"explained-{number}", weights, **config), 1.0),),
            envelope="alpaca",
        )
        with prepare_conversion(request) as conversion:
            assert any(one.recipe.factors for one in conversion.plan.tensors)


@pytest.mark.parametrize("weight", [1e-60, 1e60])
def test_a_weight_of_zero_or_too_much_is_refused(weight: float, tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "llama", "llama")
    adapter = write_adapter(tmp_path / "adapter", factors("model.layers.1.self_attn.q_proj", WIDTH, WIDTH))
    request = ConversionRequest(str(base), tmp_path / "no.gguf", "F32", ((adapter, weight),), envelope="alpaca")
    with refusal(UsageError, settings=("adapters",)), prepare_conversion(request):
        pass


def test_whole_tensors_are_reordered_for_the_file(tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "llama", "llama")
    whole = {
        f"model.layers.1.self_attn.{part}_proj.modules_to_save.{kind}": np.random.default_rng(7)
        .normal(size=(WIDTH, WIDTH) if kind == "weight" else (WIDTH,))
        .astype(np.float32)
        for part in "qkv"
        for kind in ("weight", "bias")
    }
    adapter = write_adapter(tmp_path / "adapter", whole)
    file = converted(base, tmp_path / "base.gguf")
    ours = tensors(converted(file, tmp_path / "of-file.gguf", "F32", adapter))
    assert ours == tensors(converted(base, tmp_path / "of-checkpoint.gguf", "F32", adapter))
    assert ours["blk.1.attn_q.bias"] != tensors(file)["blk.1.attn_q.bias"]


@pytest.mark.parametrize("kind", list(CONFIGS))
def test_a_gguf_base_converts_to_the_same_bytes_as_its_checkpoint(kind: str, tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / kind, kind)
    file = converted(base, tmp_path / "base.gguf")
    for file_type in ("Q4_0", "Q4_K_M"):
        again = converted(file, tmp_path / "again.gguf", file_type)
        straight = converted(base, tmp_path / "straight.gguf", file_type)
        assert again.read_bytes() == straight.read_bytes(), file_type


def test_the_demos_base_equals_llama_cpps_conversion(demo_model: StoredModel, tmp_path: Path) -> None:
    requantize(shipped_weights(), tmp_path / "theirs.gguf", "Q4_0")
    file = converted(shipped_weights(), tmp_path / "ours.gguf", "Q4_0")
    assert tensors(file) == tensors(tmp_path / "theirs.gguf")
    ours, theirs = read_header(file), read_header(tmp_path / "theirs.gguf")
    assert ours.metadata["ecellm.envelope"] == "alpaca"
    assert ours.metadata.keys() - {"ecellm.envelope"} == theirs.metadata.keys()
    for key, value in theirs.metadata.items():
        assert np.array_equal(ours.metadata[key], value), key
        assert ours.kinds[key] == theirs.kinds[key]


def test_the_manifest_records_a_lossy_base(demo_model: StoredModel, tmp_path: Path) -> None:
    assert demo_model.manifest.details["lossy_base"]["Q4_1"] > 200
    base = write_checkpoint(tmp_path / "llama", "llama")
    file = converted(base, tmp_path / "base.gguf")
    again = converted(file, tmp_path / "again.gguf", "Q8_0")
    manifest = json.loads(again.with_name("again.gguf.manifest.json").read_text())
    assert "lossy_base" not in manifest["details"]
    assert manifest["envelope"] == "alpaca"


def test_an_envelope_in_the_file_is_kept(tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "llama", "llama")
    file = converted(base, tmp_path / "base.gguf")
    with prepare_conversion(ConversionRequest(str(file), tmp_path / "again.gguf", "Q8_0")) as conversion:
        assert conversion.envelope == "alpaca"


def test_files_that_cannot_be_a_base_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(b"GGUF" + bytes(20))
    with pytest.raises(ModelError):
        GgufBase(tmp_path / "x.gguf")


def test_a_file_that_changes_is_noticed(demo_model: StoredModel, tmp_path: Path) -> None:
    copy = tmp_path / "copy.gguf"
    copy.write_bytes(demo_model.path.read_bytes())
    with GgufBase(copy) as file:
        with copy.open("r+b") as changed:
            changed.truncate(copy.stat().st_size // 2)
        last = list(file)[-1]
        with refusal(ModelError, file=str(copy)):
            file.rows(last)
        with refusal(ModelError, file=str(copy)):
            file.check_unchanged()
