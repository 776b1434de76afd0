"""Tests where a bundle is written: through a link to the file behind it, but never over an input or a pipe."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from ecellm_lite.bundle.archive import open_archive
from ecellm_lite.bundle.contents import Contents
from ecellm_lite.cli.main import run_command
from ecellm_lite.errors import ModelError, UsageError
from tests.support.bundles import Shop
from tests.support.commands import refused
from tests.support.refusals import refusal
from tests.support.shop_adapters import write_base, write_shop

pytest.importorskip("cryptography", reason="the extra 'bundle' is not installed")


@pytest.mark.parametrize("linked", [False, True])
@pytest.mark.parametrize("kind", ["model", "task", "program", "older bundle"])
def test_a_bundle_does_not_replace_its_inputs(kind: str, linked: bool, shop: Shop, tmp_path: Path) -> None:
    older = shop.bundle("older.ecb")
    inputs = {
        "model": shop.contents.model.path,
        "task": shop.folder / "routing.toml",
        "program": shop.folder / "program" / "ecellm-lite",
        "older bundle": older,
    }
    path = inputs[kind]
    before, target = path.read_bytes(), path
    if linked:
        target = tmp_path / "link.ecb"
        target.symlink_to(path)
    with refusal(UsageError, target, settings=("output",)):
        shop.index(target, serial=2, since=older)
    assert path.read_bytes() == before


def test_a_bundle_does_not_replace_an_adapter(shop: Shop, tmp_path: Path) -> None:
    arguments = [str(write_base(tmp_path / "base.gguf")), "--lora", str(write_shop(tmp_path / "peft", 1))]
    adapter = tmp_path / "a.gguf"
    assert run_command(["convert", *arguments, "--adapter-only", "--quiet", "-o", str(adapter)]) == 0
    before = adapter.read_bytes()
    with refusal(UsageError, adapter, settings=("output",)):
        shop.index(adapter, contents=Contents(shop.contents.model, adapters={"a": adapter}))
    assert adapter.read_bytes() == before


def test_a_bundle_does_not_replace_the_secret_key(
    shop: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = tmp_path / "shop.key"
    shop.key.write(key)
    before = key.read_bytes()
    model = ("--model", str(shop.contents.model.path), "--sign", str(key))
    refused(capsys, 2, "bundle", "create", "--output", str(key), *model)
    assert key.read_bytes() == before


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this platform has no pipes with a name")
def test_a_bundle_does_not_replace_a_pipe(shop: Shop, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.ecb")
    with refusal(UsageError, "pipe.ecb", settings=("output",)):
        shop.index(tmp_path / "pipe.ecb")
    assert stat.S_ISFIFO((tmp_path / "pipe.ecb").stat().st_mode)


def test_a_name_that_is_too_long_is_refused(shop: Shop, tmp_path: Path) -> None:
    target = tmp_path / f"{'a' * 300}.ecb"
    with refusal(ModelError, target):
        shop.index(target)


def test_a_bundle_is_written_through_a_link(shop: Shop, tmp_path: Path) -> None:
    link = tmp_path / "link.ecb"
    link.symlink_to(tmp_path / "real.ecb")
    shop.index(link)
    assert link.is_symlink()
    with open_archive(tmp_path / "real.ecb", [shop.key.public]) as archive:
        archive.verify()
