"""Tests the server with clients from npm and PyPI. A test is skipped if its client cannot be installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.serve.serving import Server

CLIENTS = Path(__file__).parent / "clients"
INSTALLING = 300  # seconds

pytestmark = pytest.mark.slow


def install(command: list[str], folder: Path) -> None:
    """Install packages into a folder. Skip the test if the registry cannot be reached or does not have a package."""
    try:
        ended = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, encoding="utf-8", timeout=INSTALLING, check=False
        )
    except subprocess.TimeoutExpired:
        pytest.skip(f"{command[0]} took more than {INSTALLING} s")
    if ended.returncode:
        pytest.skip(f"{Path(command[0]).name} cannot install: {ended.stderr.strip()[-300:]}")


def run(command: list[str | Path], env: dict[str, str] | None = None) -> None:
    ended = subprocess.run(
        command, env={**os.environ, **(env or {})}, capture_output=True, text=True, encoding="utf-8",
        timeout=INSTALLING, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, f"{ended.stdout}\n{ended.stderr[-5000:]}"


def test_openais_client_for_node_works(server: Server, tmp_path: Path) -> None:
    node, npm = shutil.which("node"), shutil.which("npm")
    if not node or not npm:
        pytest.skip("node or npm is not installed")
    install([npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", ".", "openai@6.49.0"], tmp_path)
    script = shutil.copy(CLIENTS / "openai.mjs", tmp_path)
    run([node, script, server.base_url])


def test_langchains_client_works(server: Server, tmp_path: Path) -> None:
    folder = tmp_path / "packages"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-compile"]
    install([*pip, "--only-binary", ":all:", "--target", str(folder), "langchain-openai==1.7.4"], tmp_path)
    env = {"PYTHONPATH": str(folder), "LANGSMITH_TRACING": "false", "LANGCHAIN_TRACING_V2": "false"}
    run([sys.executable, CLIENTS / "langchain_client.py", server.base_url], env)
