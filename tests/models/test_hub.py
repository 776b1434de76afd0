"""Repositories are fetched whole or not at all, go on where they broke off, and need no network once they are there."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from ecellm_lite.errors import ModelError, UsageError
from ecellm_lite.models import hub
from tests.support.hub import Hub

FILES = {
    "config.json": b'{"model_type": "llama"}',
    "model.safetensors": os.urandom(24 << 20),
    "tokenizer.json": b"{}",
    "README.md": b"not needed",
    "modeling_evil.py": b"raise SystemExit",
    "pytorch_model.bin": b"\x80\x04.",
}


def pull(home: Path, endpoint: str, name: str = "shop/model", **settings: str) -> tuple[int, str]:
    """Download in a process of its own: the hub's library reads its settings when it is imported."""
    code = (
        "import sys\nfrom ecellm_lite.models.hub import download\nfrom ecellm_lite.errors import EcellmError\n"
        "try: print(download(sys.argv[1], quiet=True))\n"
        "except EcellmError as error: print(error); sys.exit(error.exit_code)"
    )
    environment = {
        **os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DOWNLOAD_TIMEOUT": "5", "HF_HUB_ETAG_TIMEOUT": "5", **settings,
    }  # fmt: skip
    ran = subprocess.run(
        [sys.executable, "-c", code, name], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    return ran.returncode, ran.stdout.strip() or ran.stderr


def test_what_a_conversion_needs_is_fetched_and_nothing_else(tmp_path: Path) -> None:
    with Hub("shop/model", FILES) as served:
        code, said = pull(tmp_path, served.endpoint)
        assert code == 0, said
        found = Path(said)
        assert sorted(path.name for path in found.iterdir()) == ["config.json", "model.safetensors", "tokenizer.json"]
        assert (found / "model.safetensors").read_bytes() == FILES["model.safetensors"]
        before = len(served.sent)
        assert pull(tmp_path, served.endpoint) == (0, said)
        assert len(served.sent) == before, "what is there is not fetched again"
    assert pull(tmp_path, served.endpoint, HF_HUB_OFFLINE="1") == (0, said)


def test_a_download_goes_on_where_the_connection_broke(tmp_path: Path) -> None:
    with Hub("shop/model", FILES, breaks={"model.safetensors": 12 << 20}, times=1) as served:
        code, said = pull(tmp_path, served.endpoint)
        if code:
            assert "pull again" in said
            code, said = pull(tmp_path, served.endpoint)
        assert code == 0, said
        assert (Path(said) / "model.safetensors").read_bytes() == FILES["model.safetensors"]
        ranges = [asked for name, asked in served.sent if name == "model.safetensors"]
        assert any(asked and not asked.startswith("bytes=0-") for asked in ranges), ranges


def test_a_size_that_is_not_the_hubs_is_refused(tmp_path: Path) -> None:
    with Hub("shop/model", FILES) as served:
        served.lies["model.safetensors"] = 5
        code, said = pull(tmp_path, served.endpoint)
        assert code == 4
        assert "pull again" in said


def test_a_damaged_file_is_fetched_again_once_it_is_deleted(tmp_path: Path) -> None:
    with Hub("shop/model", FILES) as served:
        code, folder = pull(tmp_path, served.endpoint)
        assert code == 0, folder
        with (Path(folder) / "model.safetensors").open("r+b") as file:
            file.truncate(1000)
        code, said = pull(tmp_path, served.endpoint)
        assert code == 4
        found = re.search(r"has 1,000 bytes, but .* on the hub: delete (.*) and pull again", said)
        assert found, said
        Path(found[1]).unlink()
        assert pull(tmp_path, served.endpoint) == (0, folder)
        assert (Path(folder) / "model.safetensors").read_bytes() == FILES["model.safetensors"]


def test_a_repository_that_changes_meanwhile_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = SimpleNamespace(sha="0" * 40, siblings=[])
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", lambda *_, **__: known)
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(tmp_path / ("1" * 40)))
    with pytest.raises(ModelError, match="was changed on the hub meanwhile: pull again"):
        hub.download("shop/model")


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with Hub("shop/model", FILES) as served:
        code, said = pull(tmp_path, served.endpoint, "shop/other")
        assert code == 4
        assert "no repository shop/other" in said
        code, said = pull(tmp_path, served.endpoint, HF_HUB_OFFLINE="1")
        assert code == 4
        assert "Hugging Face cache does not have all of it" in said
    code, said = pull(tmp_path, "http://127.0.0.1:9")
    assert code == 4
    assert "check the connection" in said


def test_a_cache_that_is_gone_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.utils._cache_manager.HF_HUB_CACHE", str(tmp_path / "gone"))
    with pytest.raises(ModelError, match=r"could not be deleted .*but the model is in the store"):
        hub.drop(tmp_path / "gone" / "models--x--y" / "snapshots" / "0")


def test_a_disk_that_is_too_small_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match=r"100000.0 GB to download.*free some space"):
        hub._check_room("shop/model", 10**14, tmp_path / "hub")
    there = tmp_path / "hub" / "models--shop--model" / "blobs"
    there.mkdir(parents=True)
    (there / "x").write_bytes(bytes(1000))
    (there / "y").symlink_to("../../blobs/ab/abc")  # of all repositories, and deleted
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=10))
    hub._check_room("shop/model", 1000, tmp_path / "hub")  # all of it is there
    with pytest.raises(ModelError, match="free some space"):
        hub._check_room("shop/model", 1011, tmp_path / "hub")


def test_a_disk_that_fills_up_is_said() -> None:
    assert "disk is full" in str(hub._explained("shop/model", OSError(errno.ENOSPC, "No space left on device")))


@pytest.mark.parametrize("name", ["", "model", "a/b/c", "../b", "a/..", "a b/c", "https://x/y", "a/b--c"])
def test_names_that_are_no_repository(name: str) -> None:
    assert not hub.is_repository(name)
    with pytest.raises(UsageError, match="OWNER/NAME"):
        hub.download(name)
