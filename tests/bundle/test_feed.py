"""Tests of feeds: folders, or web servers, through which models are copied from one machine's store to other stores."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ecellm_lite.bundle import download
from ecellm_lite.bundle.download import check_address, fetch, fetch_small
from ecellm_lite.bundle.feed_pull import pull_feed
from ecellm_lite.bundle.keys import make_key
from ecellm_lite.bundle.signature import sign
from ecellm_lite.cli.main import run_command
from ecellm_lite.errors import ModelError, UsageError
from ecellm_lite.models.calibration_files import calibration_folder, keep_calibration
from ecellm_lite.models.store import StoredModel
from tests.support.calibrations import calibration_of
from tests.support.commands import refused
from tests.support.feeds import Chain
from tests.support.refusals import refusal


def test_only_changed_files_are_fetched(chain: Chain) -> None:
    chain.push(1)
    assert chain.pull().changed == ["tiny:F32"]
    assert len(chain.server.files()) == 2
    assert chain.pull().changed == []
    assert chain.server.files() == []

    chain.push(2, seed=5, name="second")
    assert chain.pull().changed == ["second"]
    chain.server.files()
    chain.push(3, seed=6)
    before = chain.sha256()
    assert chain.pull().changed == ["tiny:F32"]
    assert chain.sha256() != before
    assert len(chain.server.files()) == 2
    assert [path.name for path in (chain.till.folder("tiny:F32")).glob("*.gguf")] == [
        f"model-{chain.sha256()[:12]}.gguf"
    ]
    assert chain.till.names() == ["second", "tiny:F32"]
    assert len(list((chain.folder / "files").iterdir())) == 6  # two models, and the one before the last push


def test_calibrations_are_pulled_with_the_model(chain: Chain) -> None:
    model = chain.shop.store.load("tiny:F32")
    fitted = calibration_of("sentiment_analysis")
    fitted = replace(fitted, scope=replace(fitted.scope, model=model.manifest.sha256))
    path = keep_calibration(chain.shop.store, model, fitted)
    chain.push(1)
    chain.pull()
    stored = chain.till.load("tiny:F32")
    assert (calibration_folder(chain.till, stored) / path.name).read_bytes() == path.read_bytes()
    path.unlink()
    assert chain.pull().changed == []


@pytest.mark.parametrize("ranges", [True, False])
def test_broken_connections_are_continued(chain: Chain, ranges: bool) -> None:
    chain.push(1)
    chain.server.ranges = ranges
    chain.server.breaks, chain.server.after = 4, 20_000
    chain.server.errors = 2
    chain.pull()
    assert chain.sha256() == chain.shop.store.load("tiny:F32").manifest.sha256
    assert any(chain.server.files()) == ranges


def test_an_abandoned_pull_is_continued_by_the_next(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    chain.push(1)
    monkeypatch.setattr(download, "TRIES", 1)
    chain.server.breaks, chain.server.after = 100, 20_000
    for _ in range(3):
        with refusal(ModelError, chain.server.address.removesuffix("index.json")):
            chain.pull()
    assert not chain.till.has("tiny:F32")
    chain.server.breaks = 0
    chain.server.files()
    chain.pull()
    assert max(chain.server.files()) > 20_000
    assert not chain.downloads.parent.exists()


def test_wrong_bytes_are_refused(chain: Chain) -> None:
    chain.push(1)
    sha256 = chain.shop.store.load("tiny:F32").manifest.sha256
    path = chain.folder / "files" / sha256
    right = path.read_bytes()
    for wrong in (right[:-1] + bytes([right[-1] ^ 1]), right[:-1], right + b"x"):
        path.write_bytes(wrong)
        with pytest.raises(ModelError):
            chain.pull()
        assert not chain.till.has("tiny:F32")
    path.write_bytes(right)
    chain.pull()
    assert chain.sha256() == sha256


def test_a_wrong_partial_download_is_discarded(chain: Chain) -> None:
    chain.push(1)
    sha256 = chain.shop.store.load("tiny:F32").manifest.sha256
    chain.downloads.mkdir(parents=True)
    (chain.downloads / sha256).write_bytes(bytes(10_000))
    chain.pull()
    assert chain.sha256() == sha256


def test_an_older_index_is_refused(chain: Chain) -> None:
    chain.push(5)
    old = {name: (chain.folder / name).read_bytes() for name in ("index.json", "index.json.minisig")}
    chain.push(6, seed=7)
    chain.pull()
    newer = chain.sha256()
    for name, data in old.items():
        (chain.folder / name).write_bytes(data)
    with refusal(ModelError, "5", "6"):
        chain.pull()
    assert chain.sha256() == newer


def test_an_index_by_another_key_is_refused(chain: Chain) -> None:
    chain.push(1)
    with pytest.raises(ModelError):
        chain.pull(make_key())
    with pytest.raises(ModelError):
        pull_feed(chain.server.address, [], chain.till)
    index = chain.folder / "index.json"
    index.write_bytes(index.read_bytes().replace(b'"serial": 1', b'"serial": 9'))
    with pytest.raises(ModelError):
        chain.pull()
    assert chain.till.names() == []
    with refusal(ModelError, "index.json"):
        chain.push(2)  # it would sign what another one wrote


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("path", "../model.gguf"),
        ("path", "calibration/../../x.json"),
        ("path", "MODEL.gguf"),
        ("sha256", "../../x"),
        ("size", -1),
        ("size", 1 << 50),
    ],
)
def test_invalid_indexes_are_refused_even_when_signed(key: str, value: Any, chain: Chain) -> None:
    chain.push(1)
    facts = json.loads((chain.folder / "index.json").read_bytes())
    facts["models"][0]["files"][0][key] = value
    data = json.dumps(facts).encode()
    (chain.folder / "index.json").write_bytes(data)
    (chain.folder / "index.json.minisig").write_bytes(sign(data, chain.shop.key, "x"))
    with pytest.raises(ModelError):
        chain.pull()
    assert not chain.till.root.exists() or list(chain.till.root.rglob("*.gguf")) == []


def test_a_manifest_of_another_model_is_refused(chain: Chain) -> None:
    chain.push(1)
    facts = json.loads((chain.folder / "index.json").read_bytes())
    facts["models"][0]["name"] = "other"
    data = json.dumps(facts).encode()
    (chain.folder / "index.json").write_bytes(data)
    (chain.folder / "index.json.minisig").write_bytes(sign(data, chain.shop.key, "x"))
    with refusal(ModelError, "other"):
        chain.pull()


def test_only_https_and_loopback_addresses_are_allowed() -> None:
    for address in ("https://shop.example/index.json", "http://localhost:1/x", "http://127.0.0.1/x", "http://[::1]/x"):
        check_address(address)
    for address in (
        "http://shop.example/index.json",
        "ftp://shop.example/x",
        "file:///etc/passwd",
        "https://",
        "x",
        "http://[::1/x",
    ):
        with pytest.raises(UsageError):
            check_address(address)


def test_a_redirection_to_plain_http_is_refused(chain: Chain) -> None:
    chain.push(1)
    chain.server.redirect = "http://shop.example/index.json"
    with pytest.raises(UsageError):
        chain.pull()


def test_responses_that_are_too_large_are_cut_off(chain: Chain, tmp_path: Path) -> None:
    chain.push(1)
    with pytest.raises(ModelError):
        fetch_small(chain.server.address, 10)
    with pytest.raises(ModelError):
        fetch(chain.server.address, tmp_path / "x", 10, hashlib.sha256().hexdigest())
    assert not (tmp_path / "x").exists()
    with pytest.raises(ModelError):
        fetch_small(chain.server.address + "x", 10)


def test_the_commands_push_and_pull_a_feed(
    chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    secret, public = tmp_path / "chain.key", tmp_path / "chain.pub"
    chain.shop.key.write(secret)
    chain.shop.key.public.write(public)
    monkeypatch.setenv("ECELLM_HOME", str(chain.shop.store.root))
    assert run_command(["models", "push", "tiny:F32", "--to", str(chain.folder), "--sign", str(secret)]) == 0
    monkeypatch.setenv("ECELLM_HOME", str(chain.till.root))
    capsys.readouterr()
    assert "--key" in refused(capsys, 4, "models", "pull", chain.server.address)
    refused(capsys, 2, "models", "pull", chain.server.address, "--quant", "Q8_0")
    refused(capsys, 2, "models", "pull", "http://shop.example/index.json")
    assert run_command(["models", "pull", chain.server.address, "--key", str(public)]) == 0
    assert "tiny:F32" in capsys.readouterr().out
    assert run_command(["models", "pull", chain.server.address.removesuffix("index.json")]) == 0
    stored: StoredModel = chain.till.load("tiny:F32")
    assert stored.manifest.source == chain.shop.contents.model.manifest.source
