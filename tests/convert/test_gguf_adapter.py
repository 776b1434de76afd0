"""Tests that a merged model is the same for a LoRA adapter in llama.cpp's format and in PEFT's format.

The base model may be a checkpoint or a GGUF file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from numpy.typing import NDArray

from ecellm_lite.convert.architectures.rotation import rotation_order
from ecellm_lite.convert.gguf_adapter import read_gguf_adapter
from ecellm_lite.errors import ModelError
from tests.convert.test_gguf_base_adapter import converted, tensors
from tests.support.refusals import refusal
from tests.support.small_checkpoints import factors, write_adapter
from tests.support.tiny_checkpoints import CONFIGS, WIDTH, write_checkpoint
from tests.support.tiny_models import finish

ALPHA = 8.0
NAMES = {
    "model.layers.1.self_attn.q_proj": "blk.1.attn_q.weight",
    "model.layers.1.self_attn.k_proj": "blk.1.attn_k.weight",
    "model.layers.0.mlp.down_proj": "blk.0.ffn_down.weight",
    "lm_head": "output.weight",
}


def written(
    folder: Path, kind: str = "lora", extra: str = "", alpha: float = ALPHA, key: str = ""
) -> tuple[Path, Path]:
    """Write the same adapter in PEFT's format and in llama.cpp's format.

    In llama.cpp's format, the rows of the matrix B have the order of the GGUF file.
    """
    config = CONFIGS["smollm"]
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    size = WIDTH // heads
    shapes = {
        "model.layers.1.self_attn.q_proj": (WIDTH, WIDTH),
        "model.layers.1.self_attn.k_proj": (kv_heads * size, WIDTH),
        "model.layers.0.mlp.down_proj": (WIDTH, config["intermediate_size"]),
        "lm_head": (config["vocab_size"], WIDTH),
    }
    weights: dict[str, NDArray[Any]] = {}
    writer = gguf.GGUFWriter(folder / "adapter.gguf", "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", kind)
    writer.add_float32("adapter.lora.alpha", alpha)
    if key:
        writer.add_array(key, [1, 2])
    for module, shape in shapes.items():
        pair = factors(module, *shape)
        weights |= pair
        a, b = pair[f"{module}.lora_A.weight"], pair[f"{module}.lora_B.weight"]
        if "attn" in module:
            b = b[rotation_order(heads if "q_proj" in module else kv_heads, size)]
        writer.add_tensor(f"{NAMES[module]}.lora_a", a)
        writer.add_tensor(f"{NAMES[module]}.lora_b", np.ascontiguousarray(b))
    if extra:
        writer.add_tensor(extra, np.ones((4, 4), dtype=np.float32))
    finish(writer)
    return write_adapter(folder / "peft", weights, lora_alpha=ALPHA), folder / "adapter.gguf"


@pytest.mark.slow
def test_peft_and_gguf_adapters_give_the_same_file(tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", "smollm")
    peft, file = written(tmp_path)
    ours = tensors(converted(base, tmp_path / "1.gguf", "F32", file))
    assert ours == tensors(converted(base, tmp_path / "2.gguf", "F32", peft))
    plain = converted(base, tmp_path / "3.gguf", "F32")
    assert ours == tensors(converted(plain, tmp_path / "4.gguf", "F32", file))
    assert ours != tensors(plain)


@pytest.mark.parametrize(
    ("kind", "extra", "value"),
    [
        ("other", "", "'other'"),
        ("lora", "blk.0.ffn_up.weight.lora_a", "blk.0.ffn_up"),
        ("lora", "blk.0.ffn_up.bias", "blk.0.ffn_up.bias"),
        ("lora", "blk.9.ffn_up.weight", "blk.9.ffn_up"),
    ],
)
def test_files_that_are_not_a_lora_adapter_are_refused(kind: str, extra: str, value: str, tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", "smollm")
    _, file = written(tmp_path, kind, extra)
    with refusal(ModelError, value, file=str(file)):
        converted(base, tmp_path / "1.gguf", "F32", file)
    (tmp_path / "cut.gguf").write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ModelError):
        converted(base, tmp_path / "1.gguf", "F32", tmp_path / "cut.gguf")
    assert not (tmp_path / "1.gguf").exists()


@pytest.mark.parametrize(
    ("alpha", "key", "value"),
    [(0.0, "", "adapter.lora.alpha"), (8.0, "adapter.alora.invocation_tokens", "adapter.alora.invocation_tokens")],
)
def test_adapters_without_effect_or_of_another_kind_are_refused(
    alpha: float, key: str, value: str, tmp_path: Path
) -> None:
    _, file = written(tmp_path, alpha=alpha, key=key)
    with refusal(ModelError, value, file=str(file)):
        read_gguf_adapter(file)
