"""Tests of the Debian package: `make deb`, and the scripts that dpkg runs, over a folder that stands for the system."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pipe.host import ROOT

SCRIPTS = ROOT / "installers" / "debian"

# What the scripts would change on the machine of the test.
CHANGING = ("adduser", "deb-systemd-invoke", "groupdel", "install", "rm", "systemctl", "userdel")


@pytest.mark.skipif(not shutil.which("deb-systemd-helper"), reason="only on Debian")
def test_a_purge_removes_the_link_of_an_enabled_service(tmp_path: Path) -> None:
    system, commands = tmp_path / "system", tmp_path / "commands"
    units = system / "lib" / "systemd" / "system"
    for folder in (units, commands):
        folder.mkdir(parents=True)
    for name in CHANGING:
        (commands / name).symlink_to("/bin/true")
    unit = Path(shutil.copy(SCRIPTS / "ecellm-lite.service", units))
    paths = {"PATH": f"{commands}:{os.environ['PATH']}", "DPKG_ROOT": str(system)}
    dpkg = {**os.environ, **paths, "DPKG_MAINTSCRIPT_PACKAGE": "ecellm-lite"}
    subprocess.run(["sh", SCRIPTS / "postinst", "configure"], env=dpkg, check=True)
    link = system / "etc/systemd/system/multi-user.target.wants/ecellm-lite.service"
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to("/lib/systemd/system/ecellm-lite.service")  # as `systemctl enable` does
    unit.unlink()
    for action in ("remove", "purge"):
        subprocess.run(["sh", SCRIPTS / "postrm", action], env=dpkg, check=True)
    assert not link.is_symlink()


@pytest.mark.skipif(not shutil.which("make"), reason="needs make")
def test_a_path_with_blanks_is_one_argument(tmp_path: Path) -> None:
    program, package = tmp_path / "pro gram", tmp_path / "out put" / "shop.deb"
    arguments = [f"PYTHON={sys.executable}", f"PROGRAM={program}", f"PACKAGE={package}"]
    made = subprocess.run(["make", "deb", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    assert str(program) in made.stderr  # it has no program
    assert package.parent.is_dir()
