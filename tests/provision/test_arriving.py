"""Tests that `models pull` converts a model while it is downloaded.

The result must be the same as after a complete download, even after interruptions.
"""

from __future__ import annotations

import hashlib
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ecellm_lite.models.store import Store
from tests.provision.test_pull import environment, files, filled, resize, run
from tests.support.arriving import disk_used, resharded
from tests.support.hub import Hub
from tests.support.small_checkpoints import factors, write_adapter
from tests.support.tiny_checkpoints import WIDTH, write_checkpoint

pytestmark = pytest.mark.slow  # each test starts several processes; tests/convert/test_arrivals.py does not

SHARDS = 4
KILLS = 10
PULL = ("models", "pull", "shop/little", "--envelope", "alpaca", "--quiet")
PLACE = Path("store") / "models" / "little--Q4_K_M"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("arriving")
    return resharded(write_checkpoint(folder / "whole", "mistral"), folder / "shards", SHARDS)


def without_times(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return a manifest without the entries that differ between two conversions of the same model, such as times."""
    inputs = [{key: value for key, value in file.items() if key != "changed"} for file in manifest["inputs"]]
    return manifest | {"inputs": inputs, "configuration": None, "seconds": None}


def test_converting_while_downloading_gives_the_same_model(base: Path, tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "adapter", factors("model.layers.0.mlp.down_proj", WIDTH, 96))
    arguments = (*PULL, "--lora", str(adapter))
    with Hub("shop/little", files(base)) as served:
        for home in ("arriving", "kept"):
            (tmp_path / home).mkdir()
            ran = run(tmp_path / home, served.endpoint, *arguments, *(["--keep"] if home == "kept" else []))
            assert ran.returncode == 0, ran.stderr
    arriving, kept = (Store(tmp_path / home / "store").load("little:Q4_K_M") for home in ("arriving", "kept"))
    assert arriving.path.read_bytes() == kept.path.read_bytes()
    assert without_times(arriving.manifest.details) == without_times(kept.manifest.details)
    assert arriving.manifest.source == kept.manifest.source
    assert all(file["sha256"] == file["etag"] for file in kept.manifest.details["inputs"])
    assert sorted(path.name for path in arriving.path.parent.iterdir()) == ["manifest.json", "model.gguf"]


def test_cached_weights_are_used(base: Path, tmp_path: Path) -> None:
    with Hub("shop/little", files(base)) as served:
        assert run(tmp_path, served.endpoint, *PULL, "--keep").returncode == 0
        served.sent.clear()
        ran = run(tmp_path, served.endpoint, *PULL, "--quant", "Q8_0")
        assert ran.returncode == 0, ran.stderr
        assert not [name for name, _ in served.sent if name.endswith(".safetensors")]
    assert list((tmp_path / "hub").rglob("*.safetensors")), "they stay there"


@pytest.mark.parametrize(
    ("missing", "value"),
    [("model-", "safetensors"), ("tokenizer.model", "tokenizer"), ("config.json", "config.json")],
)
def test_missing_files_are_reported_before_the_download(missing: str, value: str, base: Path, tmp_path: Path) -> None:
    present = {name: data for name, data in files(base).items() if not name.startswith(missing)}
    with Hub("shop/little", present) as served:
        ran = run(tmp_path, served.endpoint, *PULL)
        assert ran.returncode == 4
        [sentence] = ran.stderr.splitlines()
        assert value in sentence
        assert not [name for name, span in served.sent if name.endswith(".safetensors") and span is None]


def test_a_repository_with_only_an_adapter_is_refused(tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "adapter", factors("model.layers.0.mlp.down_proj", WIDTH, 96))
    with Hub("shop/little", files(adapter)) as served:
        ran = run(tmp_path, served.endpoint, *PULL)
    assert ran.returncode == 4
    assert "(--lora)" in ran.stderr


def test_wrong_hashes_and_broken_connections_are_recovered_from(base: Path, tmp_path: Path) -> None:
    content = files(base)
    first, second, *_ = sorted(name for name in content if name.startswith("model-"))
    with Hub("shop/little", content, breaks={first: 100_000}, times=1) as served:
        served.hashes[second] = hashlib.sha256(content[second]).hexdigest()
        served.files[second] = content[second][:-2] + b"\0\0"
        ran = run(tmp_path, served.endpoint, *PULL)
        assert ran.returncode == 4
        assert second in ran.stderr.splitlines()[-1]
        assert not Store(tmp_path / "store").names()
        served.files[second] = content[second]
        served.sent.clear()
        ran = run(tmp_path, served.endpoint, *PULL)
        assert ran.returncode == 0, ran.stderr
        assert (first, None) not in served.sent
    assert Store(tmp_path / "store").names() == ["little:Q4_K_M"]


def test_a_kept_download_with_the_wrong_hash_is_refused(base: Path, tmp_path: Path) -> None:
    content = files(base)
    first = min(name for name in content if name.startswith("model-"))
    with Hub("shop/little", content) as served:
        served.hashes[first] = hashlib.sha256(content[first]).hexdigest()
        served.files[first] = content[first][:-2] + b"\0\0"
        ran = run(tmp_path, served.endpoint, *PULL, "--keep")
        assert ran.returncode == 4
        [sentence] = ran.stderr.splitlines()
        damaged = re.search(rf"{first} .* delete (/\S*/blobs/\S+) ", sentence)
        assert damaged, sentence
        Path(damaged[1]).unlink()
        served.files[first] = content[first]
        ran = run(tmp_path, served.endpoint, *PULL, "--keep")
        assert ran.returncode == 0, ran.stderr


def test_a_disk_that_fills_during_the_download_is_an_error(base: Path, small_disk: Path, tmp_path: Path) -> None:
    content = files(base)
    *_, last = sorted(name for name in content if name.startswith("model-"))
    resize(small_disk, "64m")

    def fill(name: str) -> None:
        if name == last and (last, None) in served.sent:
            filled(small_disk, 1 << 20)

    with Hub("shop/little", content) as served:
        served.meanwhile = fill
        ran = run(tmp_path, served.endpoint, *PULL, ECELLM_HOME=str(small_disk))
        assert ran.returncode == 4
        [sentence] = ran.stderr.splitlines()
        assert re.search("disk|No space", sentence)
        (small_disk / "ballast").unlink()
        served.meanwhile = lambda _: None
        served.sent.clear()
        ran = run(tmp_path, served.endpoint, *PULL, ECELLM_HOME=str(small_disk))
        assert ran.returncode == 0, ran.stderr
        assert {name for name, span in served.sent if span is None and name.startswith("model-")} <= {last}
    assert Store(small_disk).names() == ["little:Q4_K_M"]


def test_an_unreachable_hub_is_an_error(base: Path, tmp_path: Path) -> None:
    content = files(base)
    first = min(name for name in content if name.startswith("model-"))
    with Hub("shop/little", content, breaks={first: 0}, times=100) as served:
        ran = run(tmp_path, served.endpoint, *PULL)
        assert ran.returncode == 4
        assert "shop/little" in ran.stderr.splitlines()[-1]
        assert (tmp_path / PLACE / ".model.gguf.shards").is_dir()
        served.breaks.clear()
        assert run(tmp_path, served.endpoint, *PULL, "--keep").returncode == 0
    assert sorted(path.name for path in (tmp_path / PLACE).iterdir()) == ["manifest.json", "model.gguf"]


def test_a_pull_killed_ten_times_continues_to_the_same_bytes(base: Path, tmp_path: Path) -> None:
    """Ten processes are killed: the first while it downloads shard 1, the second at shard 2, and so on.

    The eleventh process completes the pull.

    There are two more shards than kills, so no process finishes before it is killed.
    """
    content = files(resharded(base, tmp_path / "shards", KILLS + 2))
    shards = sorted(name for name in content if name.startswith("model-"))
    largest = max(len(data) for name, data in content.items() if name.startswith("model-"))
    home = tmp_path / "killed"
    (tmp_path / "whole").mkdir()
    home.mkdir()
    moments = random.Random(3)
    with Hub("shop/little", content) as served:
        ran = run(tmp_path / "whole", served.endpoint, *PULL)
        assert ran.returncode == 0, ran.stderr
        whole = (tmp_path / "whole" / PLACE / "model.gguf").read_bytes()
        most = len(whole) + 1.2 * largest + 4096 * (len(shards) + 6)
        for name in shards[:KILLS]:
            served.stalled.clear()
            served.stall = (name, moments.randrange(len(content[name])))
            process = subprocess.Popen(
                [sys.executable, "-c", "from ecellm_lite.cli.main import main; main()", *PULL],
                env=environment(home, served.endpoint), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )  # fmt: skip
            while not served.stalled.wait(0.01) and process.poll() is None:
                assert disk_used(home / PLACE) <= most
            until = time.monotonic() + moments.uniform(0, 0.4)  # the shard before is converted meanwhile
            while time.monotonic() < until:
                assert disk_used(home / PLACE) <= most
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
            output, _ = process.communicate(timeout=30)
            assert process.returncode == -signal.SIGKILL, output
            assert not Store(home / "store").names()
        served.stall = None
        served.sent.clear()
        ran = run(home, served.endpoint, *PULL)
        assert ran.returncode == 0, ran.stderr
        again = {name for name, span in served.sent if span is None} & set(shards)
        assert again == set(shards[KILLS - 1 :]), "what has arrived is not fetched again"
    assert (home / PLACE / "model.gguf").read_bytes() == whole
    assert {path.name for path in (home / PLACE).iterdir()} == {"manifest.json", "model.gguf"}
