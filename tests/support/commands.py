"""Helpers that run commands, and check that they fail with one sentence or print JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ecellm_lite.cli.main import run_command

REVIEW = '{"review": "It works, but it is loud."}'


def refused(capsys: pytest.CaptureFixture[str], code: int, *arguments: str) -> str:
    """Check that a command fails with this exit code and prints nothing to standard output.

    Return the sentence that it prints to standard error.
    """
    assert run_command(list(arguments)) == code
    output = capsys.readouterr()
    assert output.out == ""
    lines = output.err.strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("ecellm-lite: ")
    assert lines[0].endswith((".", "?"))
    assert "Traceback" not in output.err
    return lines[0]


def answered(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert run_command(list(arguments)) == 0
    return json.loads(capsys.readouterr().out)
