"""Tests that an ordinary user can install a signed bundle on a minimal Debian without a network.

The installed program must answer correctly.

Two environment variables name the software to test:

- ECELLM_PROGRAM: the folder of a standalone program, which needs no other software.
- ECELLM_WHEELS: a folder of wheels, including the portable engine. Debian's Python must be able to install them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.bare_system import USER, bare_root, entered

pytestmark = pytest.mark.slow
ROW = '{"review": "Love it, great sound."}'
RUN = ["run", "--task", "sentiment_analysis", "--input", ROW, "--json", "--deterministic"]
BUNDLE = ".local/share/ecellm-lite/bundles/till"  # in the user's home


@pytest.mark.parametrize(
    ("variable", "option", "packages"),
    [("ECELLM_PROGRAM", "--program", []), ("ECELLM_WHEELS", "--wheels", ["python3"])],
)
def test_a_bundle_is_installed(variable: str, option: str, packages: list[str], tmp_path: Path) -> None:
    if not (folder := os.environ.get(variable)):
        pytest.skip(f"{variable} names no folder")
    root = bare_root(tmp_path, *packages)
    home = root / "home/till"
    home.mkdir()
    here = [sys.executable, "-m", "ecellm_lite"]
    subprocess.run([*here, "bundle", "keygen", tmp_path / "shop"], check=True, capture_output=True)
    create = [*here, "bundle", "create", "--model", "demo", "--sign", str(tmp_path / "shop.key"), option, folder]
    for serial in ("1", "2"):
        output = ["--name", "till", "--serial", serial, "--output", str(home / f"{serial}.ecb")]
        subprocess.run([*create, *output], check=True, capture_output=True)
    (home / "shop.pub").write_bytes((tmp_path / "shop.pub").read_bytes())
    subprocess.run(["chown", "-R", f"{USER}:{USER}", home], check=True)

    command = " ".join(f"'{word}'" for word in RUN)
    ended = entered(root, f"cd; sh 1.ecb --key shop.pub > /dev/null; {BUNDLE}/current/ecellm-lite {command}")
    assert ended.returncode == 0, ended.stderr
    answer = json.loads(ended.stdout)
    expected = json.loads(subprocess.check_output([*here, *RUN], timeout=300))
    assert answer["value"] == expected["value"]
    assert answer["probabilities"] == pytest.approx(expected["probabilities"], abs=0.02)

    ended = entered(root, f"cd; P={BUNDLE}/current/ecellm-lite; $P bundle install 2.ecb; $P bundle rollback")
    assert ended.returncode == 0, ended.stderr
    assert sorted(path.name[:2] for path in (home / BUNDLE / "versions").iterdir()) == ["1-", "2-"]
    assert (home / BUNDLE / "current").readlink().name.startswith("1-")
