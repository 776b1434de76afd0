"""Tests downloads from the Hugging Face hub.

An incomplete download is an error, an interrupted one is continued, and files in the cache need no network.
"""

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
from tests.support.refusals import refusal

FILES = {
    "config.json": b'{"model_type": "llama"}',
    "model.safetensors": os.urandom(24 << 20),
    "tokenizer.json": b"{}",
    "README.md": b"not needed",
    "modeling_evil.py": b"raise SystemExit",
    "pytorch_model.bin": b"\x80\x04.",
}


def pull(home: Path, endpoint: str, name: str = "shop/model", **settings: str) -> tuple[int, str]:
    """Download a repository in a separate process, and return the exit code and the output.

    The hub's library reads its settings only once, when it is imported. So each download needs a new process.
    """
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


def test_only_the_files_that_a_conversion_needs_are_fetched(tmp_path: Path) -> None:
    with Hub("shop/model", FILES) as served:
        code, output = pull(tmp_path, served.endpoint)
        assert code == 0, output
        folder = Path(output)
        assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors", "tokenizer.json"]
        assert (folder / "model.safetensors").read_bytes() == FILES["model.safetensors"]
        before = len(served.sent)
        assert pull(tmp_path, served.endpoint) == (0, output)
        assert len(served.sent) == before, "what is there is not fetched again"
    assert pull(tmp_path, served.endpoint, HF_HUB_OFFLINE="1") == (0, output)


def test_a_broken_download_is_continued(tmp_path: Path) -> None:
    with Hub("shop/model", FILES, breaks={"model.safetensors": 12 << 20}, times=1) as served:
        code, output = pull(tmp_path, served.endpoint)
        if code:
            assert code == 4
            code, output = pull(tmp_path, served.endpoint)
        assert code == 0, output
        assert (Path(output) / "model.safetensors").read_bytes() == FILES["model.safetensors"]
        ranges = [span for name, span in served.sent if name == "model.safetensors"]
        assert any(span and not span.startswith("bytes=0-") for span in ranges), ranges


def test_a_file_of_the_wrong_size_is_refused(tmp_path: Path) -> None:
    with Hub("shop/model", FILES) as served:
        served.lies["model.safetensors"] = 5
        code, output = pull(tmp_path, served.endpoint)
        assert code == 4
        assert "model.safetensors" in output


def test_a_damaged_file_is_fetched_again_once_it_is_deleted(tmp_path: Path) -> None:
    with Hub("shop/model", FILES) as served:
        code, folder = pull(tmp_path, served.endpoint)
        assert code == 0, folder
        with (Path(folder) / "model.safetensors").open("r+b") as file:
            file.truncate(1000)
        code, output = pull(tmp_path, served.endpoint)
        assert code == 4
        damaged = re.search(r" 1,000 .* (/\S*/blobs/\S+)", output)
        assert damaged, output
        Path(damaged[1]).unlink()
        assert pull(tmp_path, served.endpoint) == (0, folder)
        assert (Path(folder) / "model.safetensors").read_bytes() == FILES["model.safetensors"]


def test_a_repository_that_changes_during_the_download_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    revision = SimpleNamespace(sha="0" * 40, siblings=[])
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", lambda *_, **__: revision)
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(tmp_path / ("1" * 40)))
    with refusal(ModelError, "shop/model"):
        hub.download("shop/model")


def test_a_missing_repository_is_an_error(tmp_path: Path) -> None:
    with Hub("shop/model", FILES) as served:
        code, output = pull(tmp_path, served.endpoint, "shop/other")
        assert code == 4
        assert "shop/other" in output
        code, output = pull(tmp_path, served.endpoint, HF_HUB_OFFLINE="1")
        assert code == 4
        assert "models pull shop/model" in output
    code, output = pull(tmp_path, "http://127.0.0.1:9")
    assert code == 4
    assert "shop/model" in output


def test_a_disk_that_is_too_small_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with refusal(ModelError, "100000.0 GB", "HF_HOME"):
        hub._check_room("shop/model", 10**14, tmp_path / "hub")
    there = tmp_path / "hub" / "models--shop--model" / "blobs"
    there.mkdir(parents=True)
    (there / "x").write_bytes(bytes(1000))
    (there / "y").symlink_to("../../blobs/ab/abc")  # a blob shared by all repositories, since deleted
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=10))
    hub._check_room("shop/model", 1000, tmp_path / "hub")  # everything is there
    with refusal(ModelError, "HF_HOME"):
        hub._check_room("shop/model", 1011, tmp_path / "hub")


def test_a_disk_that_fills_up_is_an_error() -> None:
    assert "HF_HOME" in str(hub.explained_error("shop/model", OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))))


@pytest.mark.parametrize("name", ["", "model", "a/b/c", "../b", "a/..", "a b/c", "https://x/y", "a/b--c"])
def test_invalid_repository_names_are_refused(name: str) -> None:
    assert not hub.is_repository(name)
    with pytest.raises(UsageError, match="OWNER/NAME"):
        hub.download(name)
