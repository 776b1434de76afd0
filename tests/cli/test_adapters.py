"""Tests the command `convert --adapter-only`, and commands that accept an adapter."""

from __future__ import annotations

from pathlib import Path

import pytest

from ecellm_lite.cli.main import run_command
from ecellm_lite.models.files import sha256_of
from tests.support.commands import REVIEW, answered, refused
from tests.support.shop_adapters import write_base, write_shop

RUN = ("run", "--task", "sentiment_analysis", "--input", REVIEW, "--envelope", "alpaca", "--json")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a base model, an adapter in PEFT's format, and the adapter's GGUF file."""
    folder = tmp_path_factory.mktemp("shop")
    arguments = [str(write_base(folder / "base.gguf")), "--lora", str(write_shop(folder / "peft", 1))]
    assert run_command(["convert", *arguments, "--adapter-only", "--quiet", "-o", str(folder / "shop-a.gguf")]) == 0
    return folder


def test_a_written_adapter_answers(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = ("--model", str(shop / "base.gguf"))
    alone = answered(capsys, *RUN, *base)
    own = answered(capsys, *RUN, *base, "--adapter", str(shop / "shop-a.gguf"))
    named = answered(capsys, *RUN, *base, "--adapter", f"berlin={shop / 'shop-a.gguf'}")
    digest = sha256_of(shop / "shop-a.gguf")
    models = [answer["model"]["adapter"] for answer in (alone, own, named)]
    assert models == [None, {"name": "shop-a", "sha256": digest}, {"name": "berlin", "sha256": digest}]
    assert alone["probabilities"] != own["probabilities"]
    assert own["probabilities"] == pytest.approx(named["probabilities"], abs=1e-3)


def test_the_adapters_facts_are_printed(shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "a.gguf"
    arguments = ["convert", str(shop / "base.gguf"), "--lora", f"{shop / 'peft'}:0.5", "--adapter-only"]
    facts = answered(capsys, *arguments, "-o", str(target), "--quant", "f32", "--json")
    assert facts["sha256"] == sha256_of(target)
    assert (facts["path"], facts["size"], facts["rank"]) == (str(target), target.stat().st_size, 4)
    assert facts["size"] > 1.5 * (shop / "shop-a.gguf").stat().st_size
    assert {path.name for path in tmp_path.iterdir()} == {"a.gguf"}


@pytest.mark.parametrize(
    "options",
    [["--threads", "2"], ["--resume"], ["--dry-run"], ["--name", "x"], ["--envelope", "alpaca"], ["--verify"]],
)
def test_options_that_need_a_whole_model_are_refused(
    options: list[str], shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["convert", str(shop / "base.gguf"), "--lora", str(shop / "peft"), "--adapter-only"]
    assert options[0] in refused(capsys, 2, *arguments, "-o", str(tmp_path / "a.gguf"), *options)
    for wrong in (["-o", str(tmp_path / "a.gguf"), "--lora", str(shop / "peft")], []):
        refused(capsys, 2, *arguments, *wrong)
    assert not list(tmp_path.iterdir())


def test_unusable_adapters_are_refused(shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = ("--model", str(shop / "base.gguf"))
    missing = refused(capsys, 4, *RUN, *base, "--adapter", str(tmp_path / "missing.gguf"))
    assert "missing.gguf" in missing
    assert "model" not in missing
    assert "--adapter-only" in refused(capsys, 2, *RUN, *base, "--adapter", str(shop / "peft"))
    assert "base.gguf" in refused(capsys, 4, *RUN, *base, "--adapter", str(shop / "base.gguf"))
    assert "'a+b'" in refused(capsys, 2, *RUN, *base, "--adapter", f"a+b={shop / 'shop-a.gguf'}")
    two = [f"--adapter=a={shop / 'shop-a.gguf'}"] * 2
    refused(capsys, 2, "pipe", *base, "--envelope", "alpaca", *two)
    assert "--adapter" in refused(capsys, 2, *RUN, *base, *two)
    assert "'adapter'" in refused(capsys, 4, *RUN, "--model", str(shop / "shop-a.gguf"))
