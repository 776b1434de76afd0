"""Tests that `models pull` downloads, converts and stores a model, and stores nothing if it fails or is interrupted."""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import pytest

from ecellm_lite.cli import progress as progress_module
from ecellm_lite.cli.main import run_command
from ecellm_lite.convert import conversion
from ecellm_lite.convert.pipeline import ConversionProgress
from ecellm_lite.models.files import sha256_of
from ecellm_lite.models.gguf_header import read_header
from ecellm_lite.models.resolve import tasks_of
from ecellm_lite.models.store import Store
from ecellm_lite.provision import pull as pull_module
from ecellm_lite.tasks.registry import TASKS
from tests.support.hub import COMMIT, Hub
from tests.support.small_checkpoints import factors, write_adapter
from tests.support.tiny_checkpoints import WIDTH, write_checkpoint


def environment(home: Path, endpoint: str, **settings: str) -> dict[str, str]:
    return {
        **os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(home / "hub"), "HF_HUB_DISABLE_XET": "1",
        "ECELLM_HOME": str(home / "store"), "HF_HUB_DOWNLOAD_TIMEOUT": "5", "HF_HUB_ETAG_TIMEOUT": "5",
        **settings,
    }  # fmt: skip


def run(home: Path, endpoint: str, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run `ecellm-lite` in a separate process, because the hub's library reads its settings only at its import."""
    code = "from ecellm_lite.cli.main import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=environment(home, endpoint, **settings), capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_repository_becomes_a_model_in_the_store(tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", "mistral")
    with Hub("shop/little", files(base)) as served:
        arguments = ("models", "pull", "shop/little", "--quant", "Q8_0", "--envelope", "alpaca")
        ran = run(tmp_path, served.endpoint, *arguments)
        assert ran.returncode == 0, ran.stderr
        assert ran.stdout.startswith("little:Q8_0: ")
        assert "--keep" in ran.stderr, "it says that another type downloads the weights again"
        assert not list(tmp_path.glob("hub/**/*.safetensors")), "the weights are not kept"
        again = run(tmp_path, served.endpoint, *arguments)
        assert again.returncode == 2
        assert "'little:Q8_0'" in again.stderr
    [model] = Store(tmp_path / "store")
    assert model.manifest.envelope == "alpaca"
    assert model.manifest.source.startswith("shop/little 0123456789ab as Q8_0")
    assert {tensor.type.name for tensor in read_header(model.path).tensors} == {"F32", "Q8_0"}
    assert sorted(path.name for path in model.path.parent.iterdir()) == ["manifest.json", "model.gguf"]


@pytest.mark.slow
def test_leftovers_of_an_interrupted_pull_do_not_stop_the_next(tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", "smollm")
    place = tmp_path / "store" / "models" / "little--Q8_0"
    place.mkdir(parents=True)
    with Hub("shop/little", files(base)) as served:
        arguments = ("models", "pull", "shop/little:Q8_0")
        (place / ".model.gguf.unfinished").write_bytes(bytes(5000))
        (place / ".model.gguf.journal").write_text('{"facts": {"plan": "another", "inputs": []}}\n')
        ran = run(tmp_path, served.endpoint, *arguments)
        assert ran.returncode == 0, ran.stderr
    [model] = Store(tmp_path / "store")
    assert model.manifest.name == "little:Q8_0"
    assert model.manifest.envelope == "smollm2", "its chat template says so"
    assert (model.manifest.details["repository"], model.manifest.details["revision"]) == ("shop/little", COMMIT)


@pytest.mark.slow
def test_a_repositorys_adapter_is_merged(tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", "smollm")
    weights = factors("model.layers.0.mlp.down_proj", WIDTH, 96)
    adapter = write_adapter(tmp_path / "adapter", weights)
    with Hub("shop/little", files(base)) as served:
        arguments = ("models", "pull", "shop/little", "--quant", "F16", "--envelope", "alpaca", "--name", "mine")
        ran = run(tmp_path, served.endpoint, *arguments, "--lora", f"{adapter}:0.5", "--keep")
        assert ran.returncode == 0, ran.stderr
        assert list((tmp_path / "hub").rglob("*.safetensors")), "the download is kept"
    [model] = Store(tmp_path / "store")
    assert model.manifest.name == "mine"
    assert model.manifest.details["adapters"][0]["weight"] == 0.5


@pytest.mark.slow
def test_a_pulled_published_model_names_the_ten_tasks(tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", "mistral")
    with Hub("NingLab/eCeLLM-M", files(base)) as served:
        ran = run(tmp_path, served.endpoint, "models", "pull", "eCeLLM-M:Q8_0")
        assert ran.returncode == 0, ran.stderr
    [model] = Store(tmp_path / "store")
    assert model.manifest.licence == "CC-BY-4.0"
    assert tasks_of(read_header(model.path)) == tuple(TASKS)
    shown = run(tmp_path, "", "models", "show", "eCeLLM-M:Q8_0").stdout
    assert f"tasks          {', '.join(TASKS)}\n" in shown


def filled(disk: Path, left: int) -> Path:
    """Fill a disk so that `left` bytes are free, and return the file that fills it."""
    ballast = disk / "ballast"
    with ballast.open("wb") as file:
        file.write(bytes(max(0, shutil.disk_usage(disk).free - left)))
    return ballast


def resize(disk: Path, size: str) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", str(disk)], check=True)


def test_a_disk_too_small_for_the_download_is_an_error(small_disk: Path, tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", "smollm")
    with Hub("shop/little", files(base)) as served:
        arguments = ("models", "pull", "shop/little", "--envelope", "alpaca", "--quiet", "--keep")
        ran = run(tmp_path, served.endpoint, *arguments, HF_HOME=str(small_disk))
        assert ran.returncode == 4
        [sentence] = ran.stderr.splitlines()
        assert re.search(r"shop/little .*\b\d+\.\d MB .*\b0\.5 MB ", sentence)
        assert not [name for name, _ in served.sent if name.endswith(".safetensors")], "what has no room is not fetched"


@pytest.mark.slow
def test_a_disk_that_fills_during_the_download_is_an_error(small_disk: Path, tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", "mistral")
    first, second = sorted(path.name for path in base.glob("*.safetensors"))
    resize(small_disk, "64m")

    def fill(name: str) -> None:
        if name == second and (second, None) in served.sent:  # not its header alone
            until = time.monotonic() + 30
            while not list(small_disk.rglob(first)) and time.monotonic() < until:
                time.sleep(0.02)
            filled(small_disk, 2 << 20)

    with Hub("shop/little", files(base)) as served:
        arguments = ("models", "pull", "shop/little", "--envelope", "alpaca", "--quiet", "--keep")
        served.meanwhile = fill
        ran = run(tmp_path, served.endpoint, *arguments, HF_HOME=str(small_disk))
        assert ran.returncode == 4
        [sentence] = ran.stderr.splitlines()
        missing = re.search(r"shop/little .*\b(\d\.\d) MB .*\b2\.\d MB ", sentence)
        assert missing, sentence
        assert float(missing[1]) == pytest.approx((base / second).stat().st_size / 1e6, abs=0.1)
        assert not Store(tmp_path / "store").names()
        served.meanwhile = lambda _: None
        (small_disk / "ballast").unlink()
        served.sent.clear()
        ran = run(tmp_path, served.endpoint, *arguments, HF_HOME=str(small_disk))
        assert ran.returncode == 0, ran.stderr
        assert (second, None) in served.sent
        assert (first, None) not in served.sent, "what has arrived is not fetched again"
    [model] = Store(tmp_path / "store")
    assert model.manifest.sha256 == sha256_of(model.path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "when", ["before", *(pytest.param(when, marks=pytest.mark.slow) for when in ("meanwhile", "at the manifest"))]
)
def test_a_disk_that_fills_during_the_conversion_is_an_error(
    when: str, small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Downloads nothing, as if the repository were in the cache. Another test fills the disk during a download."""
    base = write_checkpoint(tmp_path / "base", "smollm")
    resize(small_disk, "32m")
    monkeypatch.setenv("ECELLM_HOME", str(small_disk))
    monkeypatch.setattr(pull_module, "download", lambda *_, **__: base)
    monkeypatch.setattr(pull_module, "weight_files", lambda *_: ())
    arguments = ["models", "pull", "shop/little", "--envelope", "alpaca", "--quant", "F16", "--threads", "1", "--quiet"]
    with monkeypatch.context() as patch:
        if when == "before":
            filled(small_disk, 2 << 20)
        else:
            after, left = {"meanwhile": ("check_room", 2 << 20), "at the manifest": ("record", 0)}[when]
            place = conversion.Conversion if when == "meanwhile" else conversion
            original = getattr(place, after)
            patch.setattr(place, after, lambda *call, **named: (original(*call, **named), filled(small_disk, left))[0])
        assert run_command(arguments) == 4
    output = capsys.readouterr().err
    pattern = {
        "before": r"\b2\.1 MB ",
        "meanwhile": rf"model\.gguf.* \({os.strerror(errno.ENOSPC)}\)",
        "at the manifest": rf"unchecked\.json.* \({os.strerror(errno.ENOSPC)}\)",
    }[when]
    [sentence] = output.splitlines()
    assert re.search(pattern, sentence), output
    assert Store().names() == []
    assert run_command(["run", "-t", "sentiment_analysis", "--input", '{"review": "x"}', "--model", "little:F16"]) == 4
    (small_disk / "ballast").unlink()
    read: list[int] = []
    bar = nullcontext(lambda progress: read.append(progress.done))
    monkeypatch.setattr(progress_module, "conversion_progress", lambda **_: bar)
    assert run_command(arguments) == 0
    if when == "meanwhile":
        assert read[0] > 0, "it went on from where it was"
    elif when == "at the manifest":
        assert read == [], "nothing was converted again"
    [model] = Store()
    assert model.manifest.sha256 == sha256_of(model.path)
    assert sorted(path.name for path in model.path.parent.iterdir()) == ["manifest.json", "model.gguf"]


@pytest.mark.slow
def test_a_pull_interrupted_while_checking_converts_nothing_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = write_checkpoint(tmp_path / "base", "smollm")
    monkeypatch.setenv("ECELLM_HOME", str(tmp_path / "store"))
    monkeypatch.setattr(pull_module, "download", lambda *_, **__: base)
    monkeypatch.setattr(pull_module, "weight_files", lambda *_: ())
    with monkeypatch.context() as patch:
        patch.setattr(pull_module, "check_against", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            pull_module.pull("shop/little", file_type="Q8_0", envelope="alpaca")
    assert Store().names() == []
    # The disk has room for nothing more.
    monkeypatch.setattr(conversion.Conversion, "check_room", lambda _: pytest.fail("nothing needs room"))
    steps: list[ConversionProgress] = []
    pull_module.pull("shop/little", file_type="Q8_0", envelope="alpaca", progress=steps.append)
    assert steps == []
    [model] = Store()
    assert model.manifest.sha256 == sha256_of(model.path)
    assert sorted(path.name for path in model.path.parent.iterdir()) == ["manifest.json", "model.gguf"]


@pytest.mark.parametrize(
    ("arguments", "value"),
    [
        (["a/b", "--quant", "Q4_KM", "--envelope", "alpaca"], "'Q4_KM'"),
        (["a/b", "--lora", "c/d"], "--envelope"),
        (["qwen3-0.6b", "--lora", "c/d"], "--envelope"),
        (["eCeLLM-M:Q8_0", "--quant", "Q4_0"], "--quant"),
        (["eCeLLM-M", "--lora", "not-there"], "not-there"),
    ],
)
def test_impossible_options_are_refused_before_anything_is_fetched(
    arguments: list[str], value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["models", "pull", *arguments]) == 2
    assert value in capsys.readouterr().err


def test_missing_files_are_reported_before_the_weights_are_fetched(tmp_path: Path) -> None:
    settings = {"config.json": b'{"architectures": ["SwitchTransformers"]}', "model.safetensors": bytes(1000)}
    with Hub("shop/little", settings) as served:
        ran = run(tmp_path, served.endpoint, "models", "pull", "shop/little", "--quiet")
    assert ran.returncode == 4
    [sentence] = ran.stderr.splitlines()
    assert "SwitchTransformers" in sentence
    assert [name for name, _ in served.sent] == ["config.json"]


@pytest.mark.parametrize("name", ["eCeLLM-X", "a b/c", "../x"])
def test_a_repository_without_a_model_is_refused_before_anything_is_fetched(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["models", "pull", name]) == 2
    assert "OWNER/NAME" in capsys.readouterr().err
