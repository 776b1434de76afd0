"""Tests that an installation can be killed at any of its file operations.

Afterwards, the old or the new version is complete, and a second installation succeeds.
"""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ecellm_lite.bundle.install import install
from ecellm_lite.bundle.installation import Installation
from tests.support.bundles import Shop

MOMENTS = 20

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system cannot kill a process"),
]


def installing(bundle: Path, key: Path, base: Path, moment: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.bundle.killed_install", str(bundle), str(key), str(base), str(moment)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def moments(total: int) -> list[int]:
    """Return the numbers of the file operations at which an installation will be killed.

    These are random operations and the last nine. The switch to the new version is among the last nine.
    """
    drawn = random.Random(total).sample(range(1, total + 1), min(MOMENTS, total))
    return sorted({*drawn, *range(max(1, total - 8), total + 1)})


def serial(installation: Installation) -> int | None:
    """Check that the current version is complete and starts.

    Return its serial number, or None if no version is current.
    """
    current = installation.current()
    if current is None:
        assert not (installation.root / "current").is_symlink()
        return None
    current.check()
    ended = subprocess.run([current.folder / "ecellm-lite"], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == f"version {current.index.serial}"
    return current.index.serial


@pytest.mark.parametrize("step", ["install", "update", "delta"])
def test_an_interrupted_installation_leaves_the_old_or_the_new_version(step: str, shop: Shop, tmp_path: Path) -> None:
    bundles: list[Path] = []
    trusted, key = [shop.key.public], tmp_path / "shop.pub"
    shop.key.public.write(key)
    for number in (1, 2, 3):
        shop.say(f"version {number}")
        since = {"since": bundles[-1]} if step == "delta" and bundles else {}
        bundles.append(shop.bundle(f"{number}.ecb", number, **since))
    start = tmp_path / "start"
    before = 0 if step == "install" else 2
    for bundle in bundles[:before]:
        install(bundle, trusted, base=start)
    start.mkdir(exist_ok=True)
    new = bundles[before]
    counted = installing(new, key, Path(shutil.copytree(start, tmp_path / "count", symlinks=True)), 0)
    assert counted.returncode == 0, counted.stderr
    results = []
    for moment in moments(int(counted.stdout)):
        base = Path(shutil.copytree(start, tmp_path / f"till-{moment}", symlinks=True))
        killed = installing(new, key, base, moment)
        # Another run may have fewer operations, such as those for compiled modules, and end before that moment.
        assert killed.returncode in {-signal.SIGKILL, 0}, killed.stderr
        installation = Installation("till", base)
        results.append(serial(installation))
        install(new, trusted, base=base)
        assert serial(installation) == before + 1
        assert list(installation.versions_folder.glob(".*")) == []
        if before:
            assert installation.rollback().index.serial == before
            assert serial(installation) == before
        shutil.rmtree(base)
    old = before or None
    assert set(results) == {old, before + 1}, results
