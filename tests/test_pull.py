"""`models pull` and `verify`: from a repository to a model in the store that answers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ecellm_lite.cli.main import run_command
from ecellm_lite.models.gguf_header import read_header
from ecellm_lite.models.store import Store
from tests.hub import Hub
from tests.small_checkpoints import factors, write_adapter
from tests.tiny_checkpoints import WIDTH, write_checkpoint


def run(home: Path, endpoint: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own: the hub's library reads its settings when it is imported."""
    environment = {
        **os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(home / "hub"), "HF_HUB_DISABLE_XET": "1",
        "ECELLM_HOME": str(home / "store"), "HF_HUB_DOWNLOAD_TIMEOUT": "5", "HF_HUB_ETAG_TIMEOUT": "5",
    }  # fmt: skip
    code = "from ecellm_lite.cli.main import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_repository_becomes_a_model_in_the_store(tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", "mistral")
    with Hub("shop/little", files(base)) as served:
        arguments = ("models", "pull", "shop/little", "--quant", "Q8_0", "--envelope", "alpaca")
        ran = run(tmp_path, served.endpoint, *arguments, "--drop")
        assert ran.returncode == 0, ran.stderr
        assert ran.stdout.startswith("little:Q8_0: ")
        assert not list((tmp_path / "hub").rglob("*.safetensors")), "the download is dropped"
        again = run(tmp_path, served.endpoint, *arguments)
        assert again.returncode == 2
        assert "There is a model 'little:Q8_0' already" in again.stderr
    [model] = Store(tmp_path / "store")
    assert model.manifest.envelope == "alpaca"
    assert model.manifest.source.startswith("shop/little 0123456789ab as Q8_0")
    assert {tensor.type.name for tensor in read_header(model.path).tensors} == {"F32", "Q8_0"}
    assert sorted(path.name for path in model.path.parent.iterdir()) == ["manifest.json", "model.gguf"]


def test_what_an_interrupted_pull_left_does_not_stop_the_next(tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", "smollm")
    place = tmp_path / "store" / "models" / "little--Q8_0"
    place.mkdir(parents=True)
    with Hub("shop/little", files(base)) as served:
        arguments = ("models", "pull", "shop/little:Q8_0", "--envelope", "alpaca")
        (place / ".model.gguf.unfinished").write_bytes(bytes(5000))
        (place / ".model.gguf.journal").write_text('{"facts": {"plan": "another", "inputs": []}}\n')
        ran = run(tmp_path, served.endpoint, *arguments)
        assert ran.returncode == 0, ran.stderr
    assert Store(tmp_path / "store").names() == ["little:Q8_0"]


def test_a_repositorys_adapter_is_merged(tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", "smollm")
    weights = factors("model.layers.0.mlp.down_proj", WIDTH, 96)
    adapter = write_adapter(tmp_path / "adapter", weights)
    with Hub("shop/little", files(base)) as served:
        arguments = ("models", "pull", "shop/little", "--quant", "F16", "--envelope", "alpaca", "--name", "mine")
        ran = run(tmp_path, served.endpoint, *arguments, "--lora", f"{adapter}:0.5")
        assert ran.returncode == 0, ran.stderr
        assert list((tmp_path / "hub").rglob("*.safetensors")), "the download is kept"
    [model] = Store(tmp_path / "store")
    assert model.manifest.name == "mine"
    assert model.manifest.details["adapters"][0]["weight"] == 0.5


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["a/b", "--quant", "Q4_KM", "--envelope", "alpaca"], "no file type 'Q4_KM'"),
        (["a/b"], "which envelope"),
        (["eCeLLM-M:Q8_0", "--quant", "Q4_0"], "two types"),
        (["eCeLLM-M", "--lora", "not-there"], "no adapter"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_fetched(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["models", "pull", *arguments]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("name", ["eCeLLM-X", "a b/c", "../x"])
def test_what_is_no_model_is_refused_before_anything_is_fetched(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["models", "pull", name]) == 2
    assert "OWNER/NAME" in capsys.readouterr().err


def converted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[Path, Path]:
    base = write_checkpoint(tmp_path / "base", "smollm")
    out = tmp_path / "out.gguf"
    assert run_command(["convert", str(base), "--quant", "Q8_0", "-o", str(out), "--envelope", "alpaca"]) == 0
    capsys.readouterr()
    return base, out


def test_verify_says_what_holds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base, out = converted(tmp_path, capsys)
    assert run_command(["verify", str(out), "--against", str(base), "--json"]) == 0
    found = {one["name"]: one for one in json.loads(capsys.readouterr().out)["findings"]}
    assert found["hash"]["passed"] is found["header"]["passed"] is found["tokens"]["passed"] is True
    assert found["logits"]["passed"] in (True, None)  # None where torch is not installed


def test_verify_says_what_does_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base, out = converted(tmp_path, capsys)
    other = write_checkpoint(tmp_path / "other", "mistral")
    assert run_command(["verify", str(out), "--against", str(other)]) == 4
    said = capsys.readouterr()
    assert "tokens" in said.err
    assert "WRONG" in said.out
    with out.open("r+b") as file:
        file.seek(-40, os.SEEK_END)
        file.write(b"\x55" * 8)
    assert run_command(["verify", str(out)]) == 4
    assert "manifest says" in capsys.readouterr().err
    assert run_command(["verify", str(out), "--lora", str(base)]) == 2
    assert run_command(["verify", str(out), "--against", str(tmp_path / "nowhere")]) == 2
