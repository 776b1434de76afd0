"""Tests the command `models`, and the errors for models whose file is missing or damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from ecellm_lite.cli.main import run_command
from ecellm_lite.models.store import Store, StoredModel
from tests.support.commands import REVIEW, answered, refused
from tests.support.tiny_models import write_tiny_model


def test_missing_models_are_errors(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for model, part in (
        (str(tmp_path / "absent.gguf"), "absent.gguf"),
        ("eCeLLM-M:Q4_K_M", "NingLab/eCeLLM-M"),
        ("nonsense", "'nonsense'"),
    ):
        assert part in refused(capsys, 4, "run", "-t", "SA", "-i", REVIEW, "--model", model)


def test_damaged_models_are_errors(capsys: pytest.CaptureFixture[str], tmp_path: Path, demo_model: StoredModel) -> None:
    whole = demo_model.path.read_bytes()
    (tmp_path / "short.gguf").write_bytes(whole[:-1000])
    (tmp_path / "other.gguf").write_bytes(b"PK\x03\x04" + whole[4:2000])
    (tmp_path / "hostile.gguf").write_bytes(whole[:8] + b"\xff" * 16 + whole[24:4000])
    (tmp_path / "empty.gguf").write_bytes(b"")
    for name in ("short.gguf", "other.gguf", "hostile.gguf", "empty.gguf"):
        path = str(tmp_path / name)
        assert name in refused(capsys, 4, "run", "-t", "SA", "-i", REVIEW, "--model", path, "--envelope", "alpaca")


def test_models_can_be_listed_when_one_is_damaged(capsys: pytest.CaptureFixture[str], demo_model: StoredModel) -> None:
    folder = Store().folder("broken")
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{")
    try:
        listed = answered(capsys, "models", "list", "--json")
        assert list(listed["damaged"]) == ["broken"]
        assert [one["name"] for one in listed["store"]] == ["demo"]
        assert run_command(["models", "list"]) == 0
        assert "NingLab/eCeLLM-M" in capsys.readouterr().out
    finally:
        assert run_command(["models", "remove", "broken"]) == 0


def test_models_are_added_shown_verified_and_removed(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, demo_model: StoredModel
) -> None:
    path = write_tiny_model(tmp_path / "tiny.gguf")
    assert "--envelope" in refused(capsys, 2, "models", "add", str(path), "--name", "tiny")
    assert "'demo'" in refused(capsys, 2, "models", "add", str(path), "--name", "demo", "--envelope", "alpaca")
    assert run_command(["models", "add", str(path), "--name", "eCeLLM-M:F32"]) == 0
    assert "mistral" in capsys.readouterr().out
    facts = answered(capsys, "models", "show", "eCeLLM-M:F32", "--json", "--verify")
    assert (facts["envelope"], facts["architecture"], facts["verified"]) == ("mistral", "llama", True)
    stored = Path(facts["path"])
    data = bytearray(stored.read_bytes())
    data[-1] ^= 1
    stored.write_bytes(data)
    assert "sha256" in refused(capsys, 4, "models", "show", "eCeLLM-M:F32", "--verify")
    assert run_command(["models", "remove", "eCeLLM-M:F32"]) == 0
    capsys.readouterr()
    assert "'eCeLLM-M:F32'" in refused(capsys, 4, "models", "show", "eCeLLM-M:F32")
