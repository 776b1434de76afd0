"""Tests what `doctor` says about the store, its models, and the variables of the environment that choose them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ecellm_lite import doctor
from ecellm_lite.cli.main import run_command
from ecellm_lite.doctor import Check
from ecellm_lite.kernels import choice
from ecellm_lite.models.store import Store
from tests.support.commands import refused


def checks_of(root: Path) -> dict[str, Check]:
    return {check.name: check for check in doctor.examine(Store(root))}


@pytest.fixture
def root(tiny: Path, tmp_path: Path) -> Path:
    """Return a store with one model."""
    Store(tmp_path / "store").add(tiny, "shop", "alpaca")
    return tmp_path / "store"


def test_a_store_with_a_model_is_fine(root: Path) -> None:
    checks = checks_of(root)
    assert (checks["store"].state, checks["model shop"].state) == ("ok", "ok")


def test_a_store_that_cannot_be_used_is_bad(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", "utf-8")
    for root in (tmp_path / "file", tmp_path / "file" / "store", tmp_path / ("a" * 300)):
        checks = checks_of(root)
        assert checks["store"].state == "bad"
        assert "ECELLM_HOME" in checks["store"].advice
        assert "models" not in checks


@pytest.mark.parametrize("below", ["", "store"])
def test_a_store_behind_a_link_to_nowhere_is_bad(
    below: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    monkeypatch.setenv("ECELLM_HOME", str(tmp_path / "link" / below))
    [check] = [check for check in doctor.examine() if check.name == "store"]
    assert check.state == "bad"
    assert str(tmp_path / "disk") in check.finding
    (tmp_path / "row.json").write_text('{"review": "Good."}', "utf-8")
    assert str(tmp_path / "disk") in refused(capsys, 2, "run", "--task", "SA", "--input", str(tmp_path / "row.json"))


def test_a_store_that_cannot_be_written_is_a_note_if_it_has_a_model(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda _, mode: not mode & os.W_OK)
    checks = checks_of(root)
    assert (checks["store"].state, checks["model shop"].state) == ("note", "ok")
    assert checks_of(tmp_path / "none")["store"].state == "bad"


def test_a_disk_without_room_for_the_demo_is_bad(small_disk: Path) -> None:
    checks = checks_of(small_disk)
    assert checks["store"].state == "bad"
    assert "models" not in checks


def test_a_model_with_a_damaged_header_is_bad(root: Path) -> None:
    path = Store(root).get("shop").path
    path.write_bytes(bytes(64) + path.read_bytes()[64:])
    assert checks_of(root)["model shop"].state == "bad"


def test_doctor_says_what_ecellm_model_names(root: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "ECELLM_MODEL" not in checks_of(root)
    for name, state in (("shop", "ok"), ("demo", "ok"), (str(tiny), "ok"), ("bogus", "bad"), ("a" * 300, "bad")):
        monkeypatch.setenv("ECELLM_MODEL", name)
        assert checks_of(root)["ECELLM_MODEL"].state == state


def test_a_model_that_ecellm_model_names_is_not_blamed_on_an_option(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ECELLM_HOME", str(root))
    monkeypatch.setenv("ECELLM_MODEL", "bogus")
    row = ("run", "--task", "sentiment_analysis", "--input", '{"review": "Great"}')
    for more in ([], ["--show-prompt"]):
        sentence = refused(capsys, 4, *row, *more)
        assert "--model" not in sentence
        assert "ECELLM_MODEL" in sentence
    assert "--model" in refused(capsys, 4, *row, "--model", "bogus")


def test_an_unknown_variant_of_the_kernels_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECELLM_KERNELS", "bogus")
    check = checks_of(root)["kernels"]
    assert check.state == "bad"
    assert "bogus" in check.finding
    assert set(choice.variants()) <= set(check.advice.replace(",", "").split())


def test_a_user_without_a_home_folder_is_told_what_to_set(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unknown(_: int) -> None:
        raise KeyError

    monkeypatch.setattr(pytest.importorskip("pwd"), "getpwuid", unknown)
    for name in ("HOME", "XDG_DATA_HOME", "ECELLM_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert "ECELLM_HOME" in refused(capsys, 2, "models", "list")
    assert run_command(["doctor"]) == 1
    output = capsys.readouterr()
    assert "ECELLM_HOME" in output.out
    assert "store" in output.err
