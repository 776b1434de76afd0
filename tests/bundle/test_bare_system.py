"""Tests that the standalone program and its Debian package run on a system without Python, a compiler or a network.

The environment variable ECELLM_PROGRAM names the folder that `ecellm-lite bundle program` made, with the demo in it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.bare_system import USER, bare_root, entered

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parent.parent.parent
ROW = '{"review": "Love it, great sound."}'
HOME = "/home/till/Büro 1"
START = f'cd "{HOME}"; export ECELLM_HOME="{HOME}/Größe"; P="{HOME}/das Programm/ecellm-lite"; '


@pytest.fixture(scope="module")
def program() -> Path:
    if not (folder := os.environ.get("ECELLM_PROGRAM")):
        pytest.skip("ECELLM_PROGRAM does not name the folder of a standalone program")
    return Path(folder)


@pytest.fixture(scope="module")
def system(program: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a minimal system that has the program in a user's folder. The folder's name has a space and an umlaut."""
    root = bare_root(tmp_path_factory.mktemp("system"))
    home = root / HOME[1:]
    home.mkdir(parents=True)
    shutil.copytree(program, home / "das Programm", symlinks=True)
    subprocess.run(["chown", "-R", f"{USER}:{USER}", root / "home/till"], check=True)
    return root


def test_the_bundle_answers_a_row(system: Path) -> None:
    (system / HOME[1:] / "Zeile.json").write_text(ROW, "utf-8")
    command = '"$P" run --task sentiment_analysis --input Zeile.json --json --deterministic'
    ended = entered(system, START + command)
    assert ended.returncode == 0, ended.stderr
    answer = json.loads(ended.stdout)
    assert answer["value"] in {"A", "B"}
    here = [sys.executable, "-m", "ecellm_lite", "run", "--task", "sentiment_analysis", "--input", ROW, "--json"]
    expected = json.loads(subprocess.check_output([*here, "--deterministic"], timeout=300))
    assert answer["value"] == expected["value"]
    assert answer["probabilities"] == pytest.approx(expected["probabilities"], abs=0.02)


@pytest.mark.parametrize("options", ["", "--isolated"])
def test_the_bundle_answers_a_host_over_a_pipe(system: Path, options: str) -> None:
    request = json.dumps({"id": "1", "task": "sentiment_analysis", "row": json.loads(ROW)})
    ended = entered(system, f"{START} echo '{request}' | \"$P\" pipe {options}")
    assert ended.returncode == 0, ended.stderr
    ready, answer = map(json.loads, ended.stdout.splitlines()[:2])
    assert (ready["type"], answer["type"]) == ("ready", "answer")


def test_the_bundle_serves_http(system: Path) -> None:
    # It says that it answers only when it also heeds SIGTERM.
    script = """"$P" serve --socket s 2> log & server=$!; n=0
        until grep -q s log || [ $n = 60 ]; do sleep 1; n=$((n+1)); done
        sleep 1; test -S s; kill $server; wait $server"""
    ended = entered(system, START + script)
    assert ended.returncode == 0, ended.stderr


def test_doctor_finds_no_fault_in_the_bundle(system: Path) -> None:
    ended = entered(system, START + '"$P" doctor --json')
    assert ended.returncode == 0, ended.stdout
    assert json.loads(ended.stdout)["ok"]


@pytest.fixture(scope="module")
def package(program: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not shutil.which("dpkg-deb"):
        pytest.skip("dpkg-deb is not installed")
    path = tmp_path_factory.mktemp("package") / "ecellm-lite.deb"
    subprocess.run([sys.executable, ROOT / "installers/deb.py", program, path], check=True, timeout=600)
    return path


def test_a_package_needs_a_program() -> None:
    ended = subprocess.run([sys.executable, ROOT / "installers/deb.py", "x.deb"], capture_output=True, text=True)
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1, ended.stderr


def test_the_package_is_installed_and_purged(system: Path, package: Path) -> None:
    shutil.copyfile(package, system / "root/ecellm-lite.deb")
    # /etc/passwd- and its like: the backups of the tools that add and remove users.
    places = " -o ".join(f"-path {place}" for place in ("/proc", "/run", "/tmp", "/root", "'/etc/*-'"))
    listing = f"find / -xdev \\( {places} \\) -prune -o -print | sort"
    script = f"""
        export DEBIAN_FRONTEND=noninteractive; {listing} > /root/before
        dpkg -i /root/ecellm-lite.deb
        setpriv --reuid ecellm-lite --regid ecellm-lite --clear-groups env ECELLM_HOME=/var/lib/ecellm-lite \\
          ecellm-lite run --task sentiment_analysis --input '{ROW}' --json > /root/answer
        echo '# ours' >> /etc/ecellm-lite/ecellm-lite.conf; dpkg --force-confold -i /root/ecellm-lite.deb
        grep -q '# ours' /etc/ecellm-lite/ecellm-lite.conf
        dpkg --remove ecellm-lite; test -f /etc/ecellm-lite/ecellm-lite.conf; test -d /var/lib/ecellm-lite
        dpkg --purge ecellm-lite; ! getent passwd ecellm-lite; ! getent group ecellm-lite
        {listing} > /root/after"""
    ended = entered(system, script, user=0)
    assert ended.returncode == 0, ended.stderr
    assert json.loads((system / "root/answer").read_text("utf-8"))["error"] is None
    assert (system / "root/after").read_text("utf-8") == (system / "root/before").read_text("utf-8")


def test_lintian_finds_no_error(package: Path) -> None:
    if not shutil.which("lintian"):
        pytest.skip("lintian is not installed")
    ended = subprocess.run(
        ["lintian", "--fail-on", "error", "--allow-root", package],
        capture_output=True, text=True, check=False, timeout=900,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout
