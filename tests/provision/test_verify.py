"""Tests `verify`: which checks of a converted file pass, and which fail."""

from __future__ import annotations

import json
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from ecellm_lite.cli.main import run_command
from ecellm_lite.convert import original
from ecellm_lite.convert.verify import TEXTS
from ecellm_lite.errors import ModelError
from ecellm_lite.provision import verification
from ecellm_lite.tasks.registry import TASKS
from tests.support.decoder_checkpoints import write_checkpoint as write_decoder
from tests.support.small_checkpoints import factors, write_adapter
from tests.support.tiny_checkpoints import write_checkpoint

# Whether logits can be compared with the original's; if not, the check's result is None.
COMPARABLE = all(map(find_spec, ("torch", "transformers"))) or None


def converted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[Path, Path]:
    base = write_checkpoint(tmp_path / "base", "smollm")
    out = tmp_path / "out.gguf"
    assert run_command(["convert", str(base), "--quant", "Q8_0", "-o", str(out), "--envelope", "alpaca"]) == 0
    capsys.readouterr()
    return base, out


@pytest.mark.slow
def test_verify_passes_a_good_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base, out = converted(tmp_path, capsys)
    assert run_command(["verify", str(out), "--against", str(base), "--json"]) == 0
    findings = {one["name"]: one for one in json.loads(capsys.readouterr().out)["findings"]}
    assert findings["hash"]["passed"] is findings["header"]["passed"] is findings["tokens"]["passed"] is True
    assert findings["logits"]["passed"] in (True, None)  # None where torch is not installed


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of transformers and torch
def test_verify_passes_nemos_texts_with_combining_marks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """llama.cpp alone would fail this test: it splits such texts differently from Mistral Nemo's tokenizer."""
    assert any("\u0301" in text for text in TEXTS)
    # One prompt is enough, because 131,072 logits for each of its tokens take long to compare.
    monkeypatch.setattr(verification, "TASKS", {"sentiment_analysis": TASKS["sentiment_analysis"]})
    base, out = write_decoder(tmp_path / "base", "nemo"), tmp_path / "out.gguf"
    command = ["convert", str(base), "--quant", "F32", "-o", str(out), "--envelope", "mistral-nemo", "--quiet"]
    assert run_command(command) == 0
    capsys.readouterr()
    assert run_command(["verify", str(out), "--against", str(base), "--json"]) == 0
    findings = {one["name"]: one["passed"] for one in json.loads(capsys.readouterr().out)["findings"]}
    assert findings == {"hash": True, "header": True, "tokens": True, "logits": COMPARABLE}


def test_verify_names_each_failed_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base, out = converted(tmp_path, capsys)
    other = write_checkpoint(tmp_path / "other", "mistral")
    assert run_command(["verify", str(out), "--against", str(other)]) == 4
    output = capsys.readouterr()
    assert "tokens" in output.err
    assert "WRONG" in output.out
    with out.open("r+b") as file:
        file.seek(-40, os.SEEK_END)
        file.write(b"\x55" * 8)
    assert run_command(["verify", str(out)]) == 4
    assert "sha256" in capsys.readouterr().err
    assert run_command(["verify", str(out), "--lora", str(base)]) == 2
    assert run_command(["verify", str(out), "--against", str(tmp_path / "nowhere")]) == 2


@pytest.mark.slow
def test_adapters_are_compared_with_those_in_the_manifest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = write_checkpoint(tmp_path / "base", "smollm")
    config = json.loads((base / "config.json").read_text("utf-8"))
    sizes = (config["hidden_size"], config["intermediate_size"])
    module = "model.layers.0.mlp.down_proj"
    first, second = (
        write_adapter(tmp_path / str(seed), factors(module, *sizes, seed=seed), target_modules=[module])
        for seed in (1, 2)
    )
    out = tmp_path / "out.gguf"
    command = ["convert", str(base), "--quant", "Q8_0", "-o", str(out), "--envelope", "alpaca", "--quiet"]
    assert run_command([*command, "--lora", f"{first}:0.5"]) == 0
    for adapters, code in (([f"{first}:0.5"], 0), ([str(first)], 4), ([f"{second}:0.5"], 4), ([], 4)):
        capsys.readouterr()
        options = [f"--lora={one}" for one in adapters]
        assert run_command(["verify", str(out), "--against", str(base), *options, "--json"]) == code
        findings = {one["name"]: one["passed"] for one in json.loads(capsys.readouterr().out)["findings"]}
        assert findings["adapters"] is (code == 0)


def test_a_source_that_has_nothing_to_compare_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out = converted(tmp_path, capsys)
    (tmp_path / "empty").mkdir()
    assert run_command(["verify", str(out), "--against", str(tmp_path / "empty")]) == 4
    assert str(tmp_path / "empty") in capsys.readouterr().err


def test_the_weights_of_adapters_are_applied_to_the_original(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In peft's layers, the attribute `scaling` has a number per adapter, which is multiplied by the adapter's weight.

    Some modules of transformers have an attribute `scaling` too: a single number, which must not change.
    """
    first, second = {"adapter_0": 2.0, "adapter_1": 4.0}, {"adapter_1": 8.0}
    active: list[list[str]] = []
    modules = [SimpleNamespace(scaling=0.125), SimpleNamespace(scaling=first), SimpleNamespace(scaling=second)]
    model = SimpleNamespace(
        modules=lambda: iter(modules),
        load_adapter=lambda *_, **__: None,
        base_model=SimpleNamespace(set_adapter=active.append),
    )
    peft: Any = ModuleType("peft")
    peft.PeftModel = SimpleNamespace(from_pretrained=lambda *_, **__: model)
    monkeypatch.setitem(sys.modules, "peft", peft)
    assert original._with_adapters(object(), [(tmp_path / "a", 0.75), (tmp_path / "b", -0.5)]) is model
    assert (first, second) == ({"adapter_0": 1.5, "adapter_1": -2.0}, {"adapter_1": -4.0})
    assert active == [["adapter_0", "adapter_1"]]


def test_a_damaged_vocabulary_is_an_error(tmp_path: Path) -> None:
    pytest.importorskip("sentencepiece")
    (tmp_path / "tokenizer.model").write_bytes(b"junk")
    with pytest.raises(ModelError, match=r"tokenizer\.model"):
        original.original_tokenizer(tmp_path)
