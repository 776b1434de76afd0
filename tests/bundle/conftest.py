"""Fixtures: a shop that makes bundles, and an empty folder into which bundles are installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.bundles import Shop, make_shop


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    pytest.importorskip("cryptography", reason="the extra 'bundle' is not installed")
    (tmp_path / "shop").mkdir()
    return make_shop(tmp_path / "shop")


@pytest.fixture(autouse=True)
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ECELLM_BUNDLES", str(tmp_path / "till"))
    return tmp_path / "till"
