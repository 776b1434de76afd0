"""Tests that the engine needs no network: it answers in an empty network namespace."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest

from ecellm_lite.models.store import StoredModel

NAMESPACE = ["unshare", "--map-root-user", "--net"]


def test_run_answers_without_a_network(demo_model: StoredModel) -> None:
    if not shutil.which("unshare") or subprocess.run([*NAMESPACE, "true"], capture_output=True).returncode:
        pytest.skip("this machine allows no network namespace")
    interfaces = "import socket; print([name for _, name in socket.if_nameindex()])"
    listed = subprocess.run([*NAMESPACE, sys.executable, "-c", interfaces], capture_output=True, text=True, check=True)
    assert listed.stdout.strip() == "['lo']"
    command = [sys.executable, "-c", "from ecellm_lite.cli.main import main; main()", "run"]
    row = ["--task", "sentiment_analysis", "--input", '{"review": "quiet and quick"}', "--json"]
    done = subprocess.run([*NAMESPACE, *command, *row], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["value"] in set("ABCDE")


def test_a_session_opens_no_connection(demo_model: StoredModel, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    from ecellm_lite import Runtime

    def refuse(*arguments: object, **keywords: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    with Runtime(demo_model.path, envelope="alpaca") as runtime:
        assert runtime.answer("sentiment_analysis", {"review": "good"}).error is None
