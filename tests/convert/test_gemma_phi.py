"""Tests that converted Gemma 2 and 3, Phi-3 and Phi-4-mini have the same logits in llama.cpp as in transformers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ecellm_lite.convert.adapter_file import write_adapter_file
from ecellm_lite.convert.architectures.language_part import name_alone
from ecellm_lite.convert.conversion import prepare_conversion
from ecellm_lite.convert.original import original_logits
from ecellm_lite.convert.request import ConversionRequest
from ecellm_lite.convert.verify import CheckResult, check_logits
from ecellm_lite.engine.interface import Chunk
from ecellm_lite.engine.llama import LlamaBackend
from ecellm_lite.engine.settings import Settings
from ecellm_lite.errors import ModelError, UsageError
from ecellm_lite.provision.verification import logits_of
from tests.support.gemma_phi_checkpoints import GEMMA_PHI, gemma_phi_shapes
from tests.support.refusals import refusal
from tests.support.small_checkpoints import factors, write_adapter
from tests.support.tiny_checkpoints import write_checkpoint

Prompts = Sequence[Sequence[int]]
# Far beyond the windows of 16 tokens, and one that is shorter.
PROMPTS = [[(7 * number + 3 * number**2) % 2900 + 20 for number in range(length)] for length in (150, 9)]
# The names since transformers 4.52.
_NOW = {"gemma3-images": "model.language_model."}


def settings(context: int = 512) -> Settings:
    return Settings(
        kv_type="f32", flash_attention="off", gpu_layers=0, context=context, threads=1, prompt_kernels="off"
    )


def converted(base: Path, target: Path, *adapters: Path) -> Path:
    request = ConversionRequest(str(base), target, "F32", tuple((one, 1.0) for one in adapters), envelope="alpaca")
    with prepare_conversion(request) as conversion:
        conversion.run()
    return target


def logits(model: Path, prompts: Prompts, context: int = 512, adapter: Path | None = None) -> list[NDArray[np.float32]]:
    """Return the engine's logits for each prompt, of shape (tokens, vocabulary)."""
    backend = LlamaBackend(model, settings(context), {"it": adapter} if adapter else None)
    try:
        backend.adapt("it" if adapter else None)
        return list(logits_of(backend, prompts))
    finally:
        backend.close()


def check(
    model: Path, base: Path, adapters: Sequence[Path] = (), prompts: Prompts = PROMPTS, context: int = 512
) -> CheckResult:
    originals = original_logits(base, [(adapter, 1.0) for adapter in adapters], prompts)
    return check_logits(iter(list(zip(logits(model, prompts, context), originals, strict=True))), "F32")


def written_adapter(folder: Path, kind: str, **config: Any) -> Path:
    """Write an adapter for all matrices in the layers, with the module names that current versions of peft use."""
    weights: dict[str, NDArray[Any]] = {}
    for name, shape in gemma_phi_shapes(GEMMA_PHI[kind]).items():
        module = name_alone(name).removesuffix(".weight")
        if len(shape) != 2 or not module.startswith("model.layers."):
            continue
        module = _NOW.get(kind, "model.") + module.removeprefix("model.")
        weights |= factors(module, *shape)
        if config.get("use_dora"):
            weights[f"{module}.lora_magnitude_vector"] = np.linspace(0.5, 1.5, shape[0], dtype=np.float32)
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "qkv_proj", "gate_up_proj"]
    present = [target for target in targets if any(target in name for name in weights)]
    if kind in _NOW:  # not the modules of the same names in the part that sees images
        config["target_modules"] = rf".*language_model.*\.({'|'.join(present)})"
    return write_adapter(folder, weights, **{"target_modules": present, "task_type": "CAUSAL_LM", **config})


@pytest.mark.slow
@pytest.mark.parametrize("kind", GEMMA_PHI)
def test_logits_are_those_of_transformers(kind: str, tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="the originals need transformers (extra 'train')")
    base = write_checkpoint(tmp_path / kind, kind)
    result = check(converted(base, tmp_path / "model.gguf"), base)
    assert result.passed, result.detail


@pytest.mark.slow
def test_the_logits_check_notices_a_wrong_window(tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="the originals need transformers (extra 'train')")
    for kind in ("gemma2", "gemma3"):
        base = write_checkpoint(tmp_path / kind, kind)
        model = converted(base, tmp_path / f"{kind}.gguf")
        config = json.loads((base / "config.json").read_text("utf-8"))
        (base / "config.json").write_text(json.dumps(config | {"sliding_window": 17}), "utf-8")
        assert not check(model, base).passed


@pytest.mark.slow
def test_long_texts_use_the_factors_for_long_contexts(tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="the originals need transformers (extra 'train')")
    base = write_checkpoint(tmp_path / "phi4", "phi4", original_max_position_embeddings=128)
    model = converted(base, tmp_path / "model.gguf")
    prompts = [[(11 * number) % 5000 for number in range(300)]]
    result = check(model, base, (), prompts, 1024)
    assert result.passed, result.detail
    assert not check(model, base, (), PROMPTS, 1024).passed, "all texts get them in a long context"


@pytest.mark.parametrize("kind", GEMMA_PHI)
@pytest.mark.parametrize("config", [{"use_rslora": True}, {"use_dora": True}], ids=["rslora", "dora"])
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning")  # of peft, about transformers
def test_adapters_do_what_they_do_in_peft(kind: str, config: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("peft", reason="the originals need peft (extra 'train')")
    base = write_checkpoint(tmp_path / kind, kind)
    adapter = written_adapter(tmp_path / "adapter", kind, **config)
    model = converted(base, tmp_path / "model.gguf", adapter)
    result = check(model, base, [adapter])
    assert result.passed, result.detail
    assert not check(model, base).passed, "the adapter changes nothing"


@pytest.mark.slow
@pytest.mark.parametrize("kind", GEMMA_PHI)
def test_an_unmerged_adapter_predicts_like_the_merged_model(kind: str, tmp_path: Path) -> None:
    base, adapter = write_checkpoint(tmp_path / kind, kind), written_adapter(tmp_path / "adapter", kind)
    file, merged = converted(base, tmp_path / "base.gguf"), converted(base, tmp_path / "merged.gguf", adapter)
    for place in (base, file):
        write_adapter_file(str(place), adapter, tmp_path / "adapter.gguf", file_type="F32")
        values = logits(file, PROMPTS, adapter=tmp_path / "adapter.gguf")
        result = check_logits(iter(list(zip(values, logits(merged, PROMPTS), strict=True))), "F32")
        assert result.passed, result.detail


def test_a_contexts_rope_factors_depend_only_on_its_size(tmp_path: Path) -> None:
    scaling = {"type": "longrope", "short_factor": [1.0] * 8, "long_factor": [2.0] * 8}
    changes: dict[str, Any] = {"max_position_embeddings": 4096, "rope_scaling": scaling}
    model = converted(write_checkpoint(tmp_path / "phi3", "phi3", **changes), tmp_path / "model.gguf")
    for context, cells in ((512, 512), (1024, 1024), (None, 768)):  # the original context has 512 tokens
        backend = LlamaBackend(model, Settings(gpu_layers=0, context=context, prompt_kernels="off"))
        try:
            assert backend.cells == cells
            assert ("long_factors" in json.loads(backend.circumstances)) == (cells > 512)
        finally:
            backend.close()


@pytest.mark.parametrize("kind", ["gemma2", "gemma3"])
def test_a_sequence_keeps_tokens_outside_the_window(kind: str, tmp_path: Path) -> None:
    """The KV memory and saved states keep all tokens, even those outside the attention window of 16 tokens.

    With its default settings, llama.cpp would drop the tokens outside the window.
    """
    model = converted(write_checkpoint(tmp_path / kind, kind), tmp_path / "model.gguf")
    [whole] = logits(model, PROMPTS[:1])
    backend = LlamaBackend(model, settings(256))
    try:
        # Cells become free before those of sequence 0, which the search for cells then comes to next.
        backend.decode([Chunk(1, 0, [30] * 100, 1)])
        backend.decode([Chunk(0, 0, PROMPTS[0][:100], 1)])
        backend.truncate(1, 0)
        backend.decode([Chunk(2, 0, [31] * 30, 1)])
        backend.decode([Chunk(3, 0, [32] * 90, 1)])
        for length, cut in ((60, 60), (100, 100), (100, 40)):
            backend.fork(0, 4, length)
            backend.truncate(4, cut)
            [values] = backend.decode([Chunk(4, cut, PROMPTS[0][cut : cut + 20], 20)])
            assert np.abs(values - whole[cut : cut + 20]).max() < 1e-3
            backend.truncate(4, 0)
        assert backend.save(0) == b""
        backend.clear()
        backend.decode([Chunk(0, 0, PROMPTS[0][:16], 1)])
        assert backend.load(3, backend.save(0))
        backend.truncate(3, 10)
        [values] = backend.decode([Chunk(3, 10, PROMPTS[0][10:50], 40)])
        assert np.abs(values - whole[10:50]).max() < 1e-3
    finally:
        backend.close()


def test_an_adapters_vision_part_is_left_out(tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", "gemma3-images")
    language = factors("language_model.model.layers.1.mlp.up_proj", 96, 64)
    images = factors("vision_tower.vision_model.encoder.layers.0.self_attn.q_proj", 32, 32)
    both = converted(base, tmp_path / "both.gguf", write_adapter(tmp_path / "a", language | images))
    assert (
        both.read_bytes()
        == converted(base, tmp_path / "one.gguf", write_adapter(tmp_path / "b", language)).read_bytes()
    )
    twice = language | factors("model.language_model.layers.1.mlp.up_proj", 96, 64)
    with refusal(ModelError, "model.layers.1.mlp.up_proj"):
        converted(base, tmp_path / "no.gguf", write_adapter(tmp_path / "c", twice))


def test_gemma_2_has_no_output_matrix_of_its_own(tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", "gemma2")
    file = converted(base, tmp_path / "base.gguf")
    adapter = write_adapter(tmp_path / "lora", factors("lm_head", GEMMA_PHI["gemma2"]["vocab_size"], 64))
    for each in (base, file):
        with refusal(UsageError, "gemma2"):
            converted(each, tmp_path / "no.gguf", adapter)


@pytest.mark.parametrize(
    ("kind", "changes", "value"),
    [
        ("gemma2", {"query_pre_attn_scalar": 144}, "144"),
        ("gemma2", {"attn_logit_softcapping": None}, "attn_logit_softcapping"),
        ("gemma2", {"tie_word_embeddings": False}, "tie_word_embeddings"),
        ("gemma2", {"layer_types": ["full_attention"] * 2}, "layer_types"),
        ("gemma2", {"layer_types": ["full_attention", "sliding_attention"]}, "layer_types"),
        ("gemma2", {"hidden_activation": "gelu"}, "hidden_activation"),
        ("gemma2", {"attention_bias": True}, "attention_bias"),
        ("gemma3", {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping"),
        ("gemma3", {"sliding_window_pattern": 4}, "layer_types"),
        ("gemma3", {"use_bidirectional_attention": True}, "use_bidirectional_attention"),
        ("gemma3", {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "rope_type"),
        ("gemma3", {"quantization_config": {"quant_method": "gptq"}}, "quantization_config"),
        ("phi3", {"head_dim": 32}, "head_dim"),
        ("phi4", {"partial_rotary_factor": 0.7}, "0.7"),
        ("phi4", {"rope_scaling": {"type": "su", "short_factor": [1.0], "long_factor": [1.0] * 6}}, "short_factor"),
        ("phi4", {"rope_scaling": {"type": "su", "short_factor": [0.0] * 6, "long_factor": [1.0] * 6}}, "0.0"),
        ("phi4", {"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "rope_type"),
    ],
)  # fmt: skip
def test_models_that_llama_cpp_would_compute_wrongly_are_refused(
    kind: str, changes: dict[str, Any], value: str, tmp_path: Path
) -> None:
    base = write_checkpoint(tmp_path / kind, kind, tokenizer=False, **changes)
    with refusal(ModelError, value):
        converted(base, tmp_path / "no.gguf")
