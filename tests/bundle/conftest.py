"""Fixtures: a shop that makes bundles, an empty folder into which bundles are installed, and a feed.

A bundle is a signed archive with a program, models and tasks. A feed is a folder from which other machines copy models.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ecellm_lite.bundle import download
from ecellm_lite.models.store import Store
from tests.support.bundles import Shop, make_shop
from tests.support.feeds import Chain, FolderServer


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    pytest.importorskip("cryptography", reason="the extra 'bundle' is not installed")
    (tmp_path / "shop").mkdir()
    return make_shop(tmp_path / "shop")


@pytest.fixture(autouse=True)
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ECELLM_BUNDLES", str(tmp_path / "till"))
    return tmp_path / "till"


@pytest.fixture
def chain(shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Chain]:
    monkeypatch.setattr(download, "PAUSE", 0.001)
    monkeypatch.setattr("ecellm_lite.bundle.feed_pull.PAUSE", 0.001)
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with FolderServer(tmp_path / "feed") as server:
        yield Chain(shop, tmp_path / "feed", server, Store(tmp_path / "till-store"))
