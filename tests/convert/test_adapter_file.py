"""Tests `convert --adapter-only`, which writes an adapter as a GGUF file for its base model, or refuses it.

The rows of the adapter's matrices must be in the order of the base model's file, and the scale must be PEFT's.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from numpy.typing import NDArray

from ecellm_lite.convert import adapter_file
from ecellm_lite.convert.adapter_file import write_adapter_file
from ecellm_lite.convert.architectures import architecture_of
from ecellm_lite.convert.architectures.rotation import rotation_order
from ecellm_lite.convert.gguf_adapter import read_gguf_adapter
from ecellm_lite.convert.verify import check_logits
from ecellm_lite.engine.llama import LlamaBackend
from ecellm_lite.engine.settings import Settings
from ecellm_lite.errors import EcellmError, ModelError, UsageError
from ecellm_lite.models.files import sha256_of
from ecellm_lite.models.gguf_header import read_header
from ecellm_lite.provision.verification import logits_of
from tests.convert.test_gguf_base_adapter import modules
from tests.support.refusals import refusal
from tests.support.shop_adapters import WIDTH, merged, shop_weights, write_base, write_shop
from tests.support.small_checkpoints import factors, write_adapter
from tests.support.tiny_checkpoints import CONFIGS, write_checkpoint

EXACT = Settings(kv_type="f32", flash_attention="off", gpu_layers=0, context=512, prompt_kernels="off")
TOKENS = [(7 * number) % 256 for number in range(200)]


def tensors(path: Path) -> dict[str, NDArray[Any]]:
    return {tensor.name: np.array(tensor.data) for tensor in gguf.GGUFReader(path).tensors}


def logits(model: Path, adapter: Path | None = None) -> NDArray[np.float32]:
    backend = LlamaBackend(model, EXACT, {"shop": adapter} if adapter else None)
    try:
        backend.adapt("shop" if adapter else None)
        [values] = logits_of(backend, [TOKENS])
    finally:
        backend.close()
    return values


@pytest.mark.parametrize("kind", list(CONFIGS))
def test_rows_are_in_the_order_of_the_base_file(kind: str, tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", kind, tokenizer=False, vocab_size=300)
    weights: dict[str, NDArray[Any]] = {}
    shapes = {name: shape for name, shape in modules(kind).items() if name != "lm_head"}
    for module, (rows, columns) in shapes.items():
        weights |= factors(module, rows, columns)
    write_adapter_file(str(base), write_adapter(tmp_path / "peft", weights), tmp_path / "a.gguf", file_type="F32")
    stored, config = tensors(tmp_path / "a.gguf"), CONFIGS[kind]
    assert len(stored) == len(weights)
    fused = kind in {"phi3", "phi4"}
    for part, own in (("qkv_proj", "attn_qkv"),) if fused else (("q_proj", "attn_q"), ("k_proj", "attn_k")):
        pair = (
            weights[f"model.layers.1.self_attn.{part}.lora_A.weight"],
            weights[f"model.layers.1.self_attn.{part}.lora_B.weight"],
        )
        order: Any = slice(None)
        if config["model_type"] in {"llama", "mistral"}:
            heads = config["num_attention_heads" if own == "attn_q" else "num_key_value_heads"]
            order = rotation_order(heads, len(pair[1]) // heads)
        assert np.array_equal(stored[f"blk.1.{own}.weight.lora_a"], pair[0])
        assert np.array_equal(stored[f"blk.1.{own}.weight.lora_b"], pair[1][order])
    metadata = read_header(tmp_path / "a.gguf").metadata
    assert metadata["general.architecture"] == architecture_of(config).name
    assert (metadata["general.type"], metadata["adapter.type"]) == ("adapter", "lora")
    assert metadata["adapter.lora.alpha"] == 8.0
    assert metadata["general.base_model.0.name"] == "base"


@pytest.mark.parametrize(
    ("config", "weight"),
    [
        ({}, 1.0),
        ({"use_rslora": True}, 1.0),
        ({"alpha_pattern": {"q_proj": 96, "layers.1.mlp.up_proj": 7}}, 1.0),
        ({"use_rslora": True, "alpha_pattern": {"v_proj": 96}}, -0.5),
    ],
)
def test_base_and_adapter_predict_like_the_merged_model(config: dict[str, Any], weight: float, tmp_path: Path) -> None:
    base, peft = write_base(tmp_path / "base.gguf"), write_shop(tmp_path / "peft", 1, **config)
    whole = logits(merged(base, peft, tmp_path / "merged.gguf", weight=weight))
    for file_type in ("F32", "F16"):
        file = tmp_path / f"{file_type}.gguf"
        facts = write_adapter_file(str(base), peft, file, weight=weight, file_type=file_type)
        assert (facts.sha256, facts.size, facts.tensors) == (sha256_of(file), file.stat().st_size, 14)
        result = check_logits(iter([(logits(base, file), whole)]), file_type)
        assert result.passed, result.detail
    result = check_logits(iter([(logits(base), whole)]), "F16")
    assert not result.passed, "the adapter changes nothing: the test shows nothing"


def test_modules_may_have_different_ranks(tmp_path: Path) -> None:
    weights = shop_weights(1) | factors("model.layers.0.mlp.up_proj", 64, WIDTH, rank=7)
    peft = write_adapter(tmp_path / "peft", weights, use_rslora=True, rank_pattern={"layers.0.mlp.up_proj": 7})
    base = write_base(tmp_path / "base.gguf")
    facts = write_adapter_file(str(base), peft, tmp_path / "a.gguf", file_type="F32")
    assert facts.rank == 7
    whole = logits(merged(base, peft, tmp_path / "merged.gguf"))
    result = check_logits(iter([(logits(base, tmp_path / "a.gguf"), whole)]), "F32")
    assert result.passed, result.detail


def test_the_written_file_is_read_back_as_the_same_adapter(tmp_path: Path) -> None:
    base, peft = write_base(tmp_path / "base.gguf"), write_shop(tmp_path / "peft", 1)
    write_adapter_file(str(base), peft, tmp_path / "a.gguf", file_type="F32")
    assert read_gguf_adapter(tmp_path / "a.gguf").factors["blk.0.attn_q.weight"].scale == 12
    one, other = (merged(base, path, tmp_path / f"{path.name}-m.gguf") for path in (peft, tmp_path / "a.gguf"))
    assert all(np.array_equal(values, tensors(other)[name]) for name, values in tensors(one).items())


@pytest.mark.parametrize(
    ("weights", "config", "value"),
    [
        ({"dora": True}, {"use_dora": True}, "DoRA"),
        ({"model.norm.weight": np.full(WIDTH, 2, np.float32)}, {}, "modules_to_save"),
        (factors("lm_head", 270, WIDTH), {}, "shares with its embedding"),
        ({"embedding": True}, {}, "embedding"),
        (factors("model.layers.0.self_attn.x_proj", 8, WIDTH), {}, "x_proj"),
        (factors("model.layers.0.mlp.up_proj", 65, WIDTH), {}, "other shapes"),
    ],
)
def test_changes_that_must_be_merged_are_refused(
    weights: dict[str, Any], config: dict[str, Any], value: str, tmp_path: Path
) -> None:
    base = write_base(tmp_path / "base.gguf")
    tokens = next(tensor.shape[1] for tensor in read_header(base).tensors if tensor.name == "token_embd.weight")
    own = shop_weights(1)
    if "dora" in weights:
        rows = {name.removesuffix(".lora_B.weight"): len(b) for name, b in own.items() if name.endswith("B.weight")}
        weights = {f"{module}.lora_magnitude_vector": np.ones(count, np.float32) for module, count in rows.items()}
    elif "embedding" in weights:
        weights = {
            "model.embed_tokens.lora_embedding_A": np.ones((4, tokens), np.float32),
            "model.embed_tokens.lora_embedding_B": np.ones((WIDTH, 4), np.float32),
        }
    elif "lm_head.lora_A.weight" in weights:
        weights = factors("lm_head", tokens, WIDTH)
    peft = write_adapter(tmp_path / "peft", own | weights, **config)
    with refusal(ModelError, value, file=str(peft)):
        write_adapter_file(str(base), peft, tmp_path / "a.gguf")
    assert not (tmp_path / "a.gguf").exists()


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base, peft, target = write_base(tmp_path / "base.gguf"), write_shop(tmp_path / "peft", 1), tmp_path / "a.gguf"
    target.write_bytes(b"what was there")

    def refuse(*_: object) -> None:
        raise EcellmError("No.")

    with monkeypatch.context() as patch:
        patch.setattr(adapter_file, "check_adapter", refuse)
        with pytest.raises(EcellmError):
            write_adapter_file(str(base), peft, target)
    assert target.read_bytes() == b"what was there"
    assert {path.name for path in tmp_path.iterdir()} == {"base.gguf", "peft", "a.gguf"}
    for path in (base, peft / "adapter_model.safetensors"):
        before = path.read_bytes()
        with pytest.raises(UsageError):
            write_adapter_file(str(base), peft, path)
        assert path.read_bytes() == before
    with pytest.raises(ModelError):
        write_adapter_file(str(base), peft, tmp_path / "peft" / "adapter_config.json" / "a.gguf")


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_file_of_the_base_is_not_overwritten(name: str, tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "base", "smollm")
    before = (tmp_path / "base" / name).read_bytes()
    with pytest.raises(UsageError):
        write_adapter_file(str(tmp_path / "base"), write_shop(tmp_path / "peft", 1), tmp_path / "base" / name)
    assert (tmp_path / "base" / name).read_bytes() == before


def test_values_too_large_for_a_type_are_refused(tmp_path: Path) -> None:
    weights = shop_weights(1)
    weights["model.layers.0.mlp.up_proj.lora_A.weight"][0, 0] = 1e6
    base, peft = write_base(tmp_path / "base.gguf"), write_adapter(tmp_path / "peft", weights)
    with refusal(ModelError, "F16"):
        write_adapter_file(str(base), peft, tmp_path / "a.gguf")
    facts = write_adapter_file(str(base), peft, tmp_path / "a.gguf", file_type="F32")
    assert facts.rank == 4
    assert math.isclose(tensors(tmp_path / "a.gguf")["blk.0.ffn_up.weight.lora_a"].max(), 1e6)
    with pytest.raises(UsageError):
        write_adapter_file(str(base), peft, tmp_path / "b.gguf", file_type="Q4_K_M")
