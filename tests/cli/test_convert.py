"""Checks that the command `convert` writes a file with its manifest, or reports an error."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from ecellm_lite import Runtime, ggml_quantizer, kernels
from ecellm_lite.cli.forms import Size, WeightedFolder
from ecellm_lite.cli.main import run_command
from ecellm_lite.convert import conversion
from ecellm_lite.convert.blueprint import Blueprint
from ecellm_lite.convert.checkpoint import Checkpoint
from ecellm_lite.convert.imatrix import read_imatrix
from ecellm_lite.errors import ModelError
from ecellm_lite.models.files import sha256_of
from ecellm_lite.models.gguf_header import read_header
from ecellm_lite.models.manifest import read_manifest
from ecellm_lite.models.store import Store
from ecellm_lite.tensor_types import CONVERTED
from tests.support.refusals import refusal
from tests.support.small_checkpoints import (
    HEADS,
    INNER,
    KV_HEADS,
    LAYERS,
    TOKENS,
    WIDTH,
    blueprint,
    factors,
    weights,
    write_adapter,
    write_checkpoint,
)
from tests.support.tiny_models import finish, write_tiny_model

QUERY = "model.layers.1.self_attn.q_proj"


@pytest.fixture(autouse=True)
def _drawn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Make `convert` use a small hand-written blueprint (list of tensors), and a vocabulary that llama.cpp accepts."""
    letters = [chr(0x4E00 + number) for number in range(TOKENS)]
    header = read_header(write_tiny_model(tmp_path / "tiny.gguf", words=["ab"]))
    named, merges = (header.metadata[f"tokenizer.ggml.{key}"] for key in ("tokens", "merges"))
    assert isinstance(named, tuple)
    assert isinstance(merges, tuple)
    tokens = [*named, *letters][:TOKENS]
    keys: dict[str, Any] = {
        "llama.context_length": ("UINT32", 4096),
        "llama.embedding_length": ("UINT32", WIDTH),
        "llama.feed_forward_length": ("UINT32", INNER),
        "llama.attention.head_count": ("UINT32", HEADS),
        "llama.attention.head_count_kv": ("UINT32", KV_HEADS),
        "llama.attention.layer_norm_rms_epsilon": ("FLOAT32", 1e-5),
        "llama.rope.dimension_count": ("UINT32", WIDTH // HEADS),
        "llama.rope.freq_base": ("FLOAT32", 10000.0),
        "tokenizer.ggml.model": ("STRING", "gpt2"),
        "tokenizer.ggml.pre": ("STRING", "gpt-2"),
        "tokenizer.ggml.tokens": ("ARRAY", tokens),
        "tokenizer.ggml.token_type": ("ARRAY", [3 if token == "<|endoftext|>" else 1 for token in tokens]),
        "tokenizer.ggml.merges": ("ARRAY", list(merges)),
        "tokenizer.ggml.eos_token_id": ("UINT32", tokens.index("<|endoftext|>")),
        "tokenizer.ggml.bos_token_id": ("UINT32", tokens.index("<|endoftext|>")),
        "tokenizer.ggml.add_bos_token": ("BOOL", False),
    }

    def without_tokens(checkpoint: Checkpoint) -> Blueprint:
        assert checkpoint.config["architectures"] == ["LlamaForCausalLM"]
        return blueprint(metadata=keys)

    monkeypatch.setattr(conversion, "blueprint_of", without_tokens)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "eCeLLM-L", weights())


def test_convert_writes_a_file_and_its_manifest(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    adapter = write_adapter(tmp_path / "lora", factors(QUERY, WIDTH, WIDTH))
    target = tmp_path / "out.gguf"
    arguments = ["convert", str(base), "--lora", f"{adapter}:0.5", "-o", str(target), "--quant", "q5_k_m"]
    arguments += ["--tensor-type", "ffn_down=Q8_0", "--hash-inputs", "--max-memory", "1GiB"]
    assert run_command(arguments) == 0
    assert sha256_of(target) in capsys.readouterr().out
    manifest = read_manifest(tmp_path / "out.gguf.manifest.json")
    assert (manifest.sha256, manifest.size) == (sha256_of(target), target.stat().st_size)
    assert (manifest.name, manifest.file, manifest.envelope) == ("out", "out.gguf", "alpaca")
    assert manifest.source == "eCeLLM-L + 0.5 * lora as Q5_K_M"
    assert manifest.licence == "CC-BY-4.0"
    details = manifest.details
    assert details["tensor_types"]["Q8_0"] == LAYERS
    assert details["options"]["tensor_types"] == ["ffn_down=Q8_0"]
    (read,) = details["inputs"]
    assert read["sha256"] == sha256_of(base / "model.safetensors")
    (merged,) = details["adapters"]
    assert (merged["name"], merged["weight"], merged["base_model"]) == ("lora", 0.5, "small")
    assert [one["sha256"] for one in merged["files"]] == [
        sha256_of(adapter / name) for name in ("adapter_config.json", "adapter_model.safetensors")
    ]
    assert str(tmp_path) not in (tmp_path / "out.gguf.manifest.json").read_text()
    assert read_header(target).metadata["ecellm.envelope"] == "alpaca"
    assert sorted(path.name for path in tmp_path.iterdir() if "out" in path.name) == [
        "out.gguf",
        "out.gguf.manifest.json",
    ]


def test_a_converted_model_answers(base: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.gguf"
    assert run_command(["convert", str(base), "-o", str(target), "--quiet"]) == 0
    with Runtime(target) as runtime:
        answer = runtime.answer("answerability_prediction", {"question": "Is it blue?", "documents": ["It is."]})
    assert answer.envelope == "alpaca"
    assert answer.value in (True, False)


def test_convert_writes_into_the_store(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["convert", str(base), "--name", "mine:Q8_0", "--quant", "Q8_0", "--envelope", "mistral", "--json"]
    assert run_command(arguments) == 0
    report = json.loads(capsys.readouterr().out)
    model = Store().get("mine:Q8_0")
    assert model.manifest.name == "mine:Q8_0"
    assert model.manifest.envelope == "mistral"
    assert report["path"] == str(model.path)
    assert report["manifest"]["sha256"] == model.manifest.sha256 == sha256_of(model.path)
    assert run_command(arguments) == 2
    assert "'mine:Q8_0'" in capsys.readouterr().err
    Store().remove("mine:Q8_0")


def test_a_dry_run_writes_nothing(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(tmp_path.rglob("*"))
    arguments = ["convert", str(base), "-o", str(tmp_path / "out.gguf"), "--dry-run"]
    assert run_command(arguments) == 0
    text = capsys.readouterr().out
    assert run_command([*arguments, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert sorted(tmp_path.rglob("*")) == before
    assert "blk.1.ffn_down.weight" in text
    assert run_command(arguments[:-1]) == 0
    header = read_header(tmp_path / "out.gguf")
    assert report["size"] == header.file_size
    assert report["header_bytes"] == header.data_offset
    assert [(one["name"], one["offset"], one["size"]) for one in report["tensors"]] == [
        (one.name, one.offset, one.size) for one in header.tensors
    ]


@pytest.mark.parametrize(
    ("arguments", "code", "detail"),
    [
        ([], 2, "--output"),
        (["-o", "{}/x.gguf", "--name", "x"], 2, "--name"),
        (["-o", "{}/x.gguf", "--quant", "Q9"], 2, "'Q9'"),
        (["-o", "{}/x.gguf", "--tensor-type", "x"], 2, "PATTERN=TYPE"),
        (["-o", "{}/x.gguf", "--tensor-type", "x=y"], 2, "'y'"),
        (["-o", "{}/x.gguf", "--max-memory", "much"], 2, "'much'"),
        (["-o", "{}/x.gguf", "--max-memory", "1MiB"], 2, "--max-memory"),
        (["-o", "{}/x.gguf", "--lora", "{}/none"], 4, "/none"),
        (["-o", "{}/x.gguf", "--imatrix", "{}/none"], 4, "/none"),
        (["-o", "{}/eCeLLM-L/model.safetensors/x.gguf"], 4, "model.safetensors/x.gguf"),
    ],
)
def test_impossible_conversions_are_refused(
    arguments: list[str], code: int, detail: str, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [one.replace("{}", str(tmp_path)) for one in arguments]
    assert run_command(["convert", str(base), *options]) == code
    assert detail in capsys.readouterr().err
    assert not (tmp_path / "x.gguf").exists()


def test_a_file_is_written_through_a_link(base: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.gguf"
    link.symlink_to(tmp_path / "real.gguf")
    assert run_command(["convert", str(base), "-o", str(link), "--quiet"]) == 0
    assert link.is_symlink()
    assert read_manifest(tmp_path / "real.gguf.manifest.json").sha256 == sha256_of(link)


def test_verifying_against_a_gguf_base_is_refused_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = write_tiny_model(tmp_path / "base.gguf")
    assert run_command(["convert", str(base), "-o", str(tmp_path / "x.gguf"), "--envelope", "alpaca", "--verify"]) == 2
    assert "--verify" in capsys.readouterr().err
    assert not (tmp_path / "x.gguf").exists()


def test_missing_bases_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for base in ("no/such-model", str(tmp_path / "none")):
        assert run_command(["convert", base, "-o", str(tmp_path / "x.gguf")]) == 4
        assert base in capsys.readouterr().err


def test_an_interrupted_conversion_continues_with_resume(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    target, calls = tmp_path / "out.gguf", []
    assert run_command(["convert", str(base), "-o", str(tmp_path / "whole.gguf"), "--quiet"]) == 0
    convert = kernels.convert

    def interrupted(*arguments: Any, **named: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return convert(*arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(kernels, "convert", interrupted)
        assert run_command(["convert", str(base), "-o", str(target)]) == 130
    assert "--resume" in capsys.readouterr().err
    assert not target.exists()
    assert run_command(["convert", str(base), "-o", str(target), "--quant", "Q8_0", "--resume"]) == 4
    assert target.name in capsys.readouterr().err
    assert run_command(["convert", str(base), "-o", str(target), "--resume"]) == 0
    assert target.read_bytes() == (tmp_path / "whole.gguf").read_bytes()
    assert read_manifest(tmp_path / "out.gguf.manifest.json").sha256 == sha256_of(target)


def test_the_envelope_is_not_guessed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = write_checkpoint(tmp_path / "other", weights())
    assert run_command(["convert", str(other), "-o", str(tmp_path / "x.gguf")]) == 2
    assert "--envelope" in capsys.readouterr().err


def test_a_model_that_llama_cpp_would_not_run_is_not_written(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(conversion, "blueprint_of", lambda _: blueprint())
    assert run_command(["convert", str(base), "-o", str(tmp_path / "x.gguf")]) == 4
    assert "x.gguf" in capsys.readouterr().err
    assert not [path for path in tmp_path.iterdir() if "x.gguf" in path.name]


def test_weighted_folders_and_sizes_are_parsed(tmp_path: Path) -> None:
    (tmp_path / "a:1").mkdir()
    folder = WeightedFolder().convert
    assert folder("lora:0.5", None, None) == (Path("lora"), 0.5)
    assert folder("lora", None, None) == (Path("lora"), 1.0)
    assert folder("c:/lora", None, None) == (Path("c:/lora"), 1.0)
    assert folder(f"{tmp_path}/a:1", None, None) == (tmp_path / "a:1", 1.0)
    sizes = {"1GiB": 1 << 30, "500 MB": 500_000_000, "1.5k": 1500, "17": 17, "2mib": 2 << 20}
    assert {text: Size().convert(text, None, None) for text in sizes} == sizes


def write_imatrix(path: Path, sums: dict[str, Any], count: float = 4.0, kind: str = "imatrix") -> Path:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_type(kind)
    for name, values in sums.items():
        writer.add_tensor(f"{name}.in_sum2", np.asarray(values, dtype=np.float32).reshape(1, -1))
        writer.add_tensor(f"{name}.counts", np.full((1, 1), count, dtype=np.float32))
    finish(writer)
    return path


def test_an_imatrix_weighs_the_columns(base: Path, tmp_path: Path) -> None:
    sums = np.random.default_rng(0).random(WIDTH).astype(np.float32)
    imatrix = write_imatrix(tmp_path / "i.gguf", {"blk.0.ffn_up.weight": sums, "blk.1.ffn_up.weight": sums})
    target = tmp_path / "out.gguf"
    assert run_command(["convert", str(base), "-o", str(target), "--imatrix", str(imatrix), "--quant", "Q4_K_S"]) == 0
    values = weights()["model.layers.0.mlp.up_proj.weight"]
    wide = (values.astype(np.uint32) << 16).view(np.float32)
    tensor = next(one for one in read_header(target).tensors if one.name == "blk.0.ffn_up.weight")
    data = target.read_bytes()[tensor.offset : tensor.offset + tensor.size]
    assert data == ggml_quantizer.quantize_chunk(wide, CONVERTED["Q4_K"], sums / np.float32(4)).tobytes()
    manifest = read_manifest(tmp_path / "out.gguf.manifest.json")
    assert manifest.details["options"]["imatrix"] == {"name": "i.gguf", "sha256": sha256_of(imatrix)}


@pytest.mark.parametrize(
    ("make", "value"),
    [
        (lambda path: write_imatrix(path, {"x": [1.0]}, kind="model"), "i.gguf"),
        (lambda path: write_imatrix(path, {}), "i.gguf"),
        (lambda path: write_imatrix(path, {"x": [np.nan]}), "NaN"),
        (lambda path: write_tiny_model(path), "i.gguf"),
        (lambda path: path.write_bytes(b"junk" * 9), "b'junk'"),
    ],
)
def test_files_that_are_not_an_imatrix_are_refused(make: Callable[[Path], Any], value: str, tmp_path: Path) -> None:
    make(tmp_path / "i.gguf")
    with refusal(ModelError, value):
        read_imatrix(tmp_path / "i.gguf")


def test_an_imatrix_without_counted_rows_weighs_all_columns_alike(tmp_path: Path) -> None:
    imatrix = read_imatrix(write_imatrix(tmp_path / "i.gguf", {"x": [3.0, 0.0]}, count=0.0))
    assert imatrix.importance["x"].tolist() == [1.0, 1.0]
