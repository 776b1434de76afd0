"""Tests that converted decoders give the same logits as their originals in transformers and peft.

They are tested with and without adapters.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ecellm_lite.cli.main import run_command
from ecellm_lite.convert.original import original_logits
from ecellm_lite.convert.verify import log_softmax
from ecellm_lite.engine.llama import LlamaBackend
from ecellm_lite.engine.settings import Settings
from ecellm_lite.provision.verification import logits_of
from tests.support import decoder_checkpoints
from tests.support.decoder_checkpoints import CONFIGS
from tests.support.tiny_tokenizers import TRAINED, write_trained_model

# peft uses what transformers will remove.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::FutureWarning")]
pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("transformers", reason="transformers is not installed")
peft = pytest.importorskip("peft", reason="peft is not installed")

EXACT = Settings(kv_type="f32", flash_attention="off", gpu_layers=0, context=1024, prompt_kernels="off")
MOST_DIVERGENCE = 1e-5  # the mean KL divergence, in nats
REAL_GAP = 1e-3  # between the two likeliest tokens' log probabilities

# Longer than the 256 tokens from which the configurations of Llama 3 and Qwen3 scale their rotation.
IDS = [(7 * place + 3 * place**2) % (TRAINED - 300) + 300 for place in range(400)]

MATRICES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
LORA: dict[str, dict[str, Any]] = {
    "plain": {"target_modules": MATRICES},
    "rslora": {"target_modules": MATRICES[:4], "use_rslora": True, "r": 3},
    "dora": {"target_modules": MATRICES, "use_dora": True},
    "norms": {"target_modules": ["v_proj"], "modules_to_save": ["norm"]},
}


def write_checkpoint(folder: Path, kind: str) -> Path:
    """Write a checkpoint with a small vocabulary. No test uses its tokens."""
    tokens = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    decoder_checkpoints.write_checkpoint(folder, kind, tokens=TRAINED, **tokens)
    write_trained_model(folder)
    return folder


def converted(target: Path, *arguments: str) -> Path:
    command = ["convert", *arguments, "--quant", "F32", "-o", str(target), "--envelope", "alpaca", "--quiet"]
    assert run_command(command) == 0
    return target


def write_lora(base: Path, folder: Path, **settings: Any) -> Path:
    """Let peft write an adapter with random weights, and return the adapter's folder."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(7)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    config = peft.LoraConfig(**{"r": 4, "lora_alpha": 8, "init_lora_weights": False, **settings})
    adapted = peft.get_peft_model(model, config)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if parameter.requires_grad and ("magnitude" in name or "modules_to_save" in name):
                parameter.mul_(1 + 0.2 * torch.rand_like(parameter))
    adapted.save_pretrained(folder)
    return folder


def check(file: Path, base: Path, *adapters: Path) -> None:
    backend = LlamaBackend(file, EXACT)
    try:
        [ours] = logits_of(backend, [IDS])
    finally:
        backend.close()
    [theirs] = original_logits(base, [(adapter, 1.0) for adapter in adapters], [IDS])
    assert ours.shape == theirs.shape
    predicted, expected = log_softmax(ours), log_softmax(theirs)
    divergence = float((np.exp(expected) * (expected - predicted)).sum(axis=1).mean())
    two = np.sort(expected, axis=1)[:, -2:]
    real = two[:, 1] - two[:, 0] > REAL_GAP
    assert abs(divergence) < MOST_DIVERGENCE
    assert (predicted.argmax(axis=1) == expected.argmax(axis=1))[real].all()
    assert real.mean() > 0.9


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_decoder_predicts_like_the_original(kind: str, tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", kind)
    file = converted(tmp_path / "out.gguf", str(base))
    check(file, base)
    again = converted(tmp_path / "again.gguf", str(file))
    assert again.read_bytes() == file.read_bytes()


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("form", ["plain", "dora"])
def test_an_adapter_merges_alike_into_a_checkpoint_and_a_gguf_file(kind: str, form: str, tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", kind)
    adapter = write_lora(base, tmp_path / "lora", **LORA[form])
    merged = converted(tmp_path / "merged.gguf", str(base), "--lora", str(adapter))
    check(merged, base, adapter)
    whole = converted(tmp_path / "whole.gguf", str(base))
    other = converted(tmp_path / "other.gguf", str(whole), "--lora", str(adapter))
    assert other.read_bytes() == merged.read_bytes()


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("form", ["rslora", "norms"])
def test_adapters_of_other_forms_predict_like_the_original(kind: str, form: str, tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", kind)
    adapter = write_lora(base, tmp_path / "lora", **LORA[form])
    check(converted(tmp_path / "merged.gguf", str(base), "--lora", str(adapter)), base, adapter)
