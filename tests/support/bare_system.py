"""A minimal Debian system in a folder, in which commands run without a network."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

VARIABLE = "ECELLM_BARE_ROOT"
USER = 1000


def bare_root(place: Path, *packages: str) -> Path:
    """Return a folder with a minimal Debian system and these packages.

    If the environment variable ECELLM_BARE_ROOT names such a folder, the result is a copy of it. Otherwise debootstrap
    makes a new one. Skip the test if neither is possible.
    """
    if os.name != "posix" or os.geteuid():
        pytest.skip("a bare system is entered by root")
    missing = [tool for tool in ("unshare", "chroot", "mount") if not shutil.which(tool)]
    prepared = os.environ.get(VARIABLE)
    if not prepared and not shutil.which("debootstrap"):
        missing.append("debootstrap")
    if missing:
        pytest.skip(f"{missing[0]} is not installed")
    root = place / "root"
    if prepared:
        subprocess.run(["cp", "-a", "--one-file-system", prepared, root], check=True)
    else:
        made = subprocess.run(
            ["debootstrap", "--variant=minbase", "bookworm", root], capture_output=True, check=False, timeout=600
        )
        if made.returncode:
            pytest.skip("debootstrap could not fetch a system")
    if subprocess.run(["unshare", "--net", "--mount", "true"], capture_output=True, check=False).returncode:
        pytest.skip("this system lets nobody make a network namespace")
    for tool in ("python3", "gcc", "cc"):
        assert not (root / "usr/bin" / tool).exists()
    if packages:
        install = ["chroot", str(root), "apt-get", "install", "--yes", "--no-install-recommends", *packages]
        if subprocess.run(install, capture_output=True, check=False, timeout=600).returncode:
            pytest.skip(f"apt could not fetch {packages[0]}")
    return root


def entered(root: Path, script: str, *, user: int = USER, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """Run a shell script in the minimal system `root`, as an ordinary user and without a network."""
    inside = ["chroot", f"--userspec={user}:{user}", str(root), "/bin/sh", "-euc", script]
    # /run is empty after a start, as on every machine.
    mounts = 'mount -t proc proc "$0/proc"; mount -t tmpfs tmpfs "$0/run"; exec "$@"'
    command = ["unshare", "--net", "--mount", "/bin/sh", "-euc", mounts, str(root), *inside]
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/home/till", "LC_ALL": "C"}
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, errors="replace", check=False, timeout=timeout
    )
