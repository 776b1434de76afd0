"""Checks that the program of an installed bundle version starts on this machine, before this version is used."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from ecellm_lite.bundle.launcher import HOME, command_of
from ecellm_lite.errors import ModelError

_SECONDS = 300  # that a program may take to start


def check_start(version: Path, step: str) -> None:
    """Raise ModelError if a version's program or its engine does not start on this machine.

    `step`: the next step that the error suggests.

    The check runs the program's command `doctor`, which loads the engine. Only what `doctor` reports about llama.cpp
    matters here. Its other reports are ignored. A version with neither a program nor wheels always passes.
    """
    command = command_of(version)
    if not command:
        return
    environment = {**os.environ, "ECELLM_HOME": str(version / HOME)}
    try:
        ended = subprocess.run(  # noqa: S603 - a program from a signed bundle
            [*command, "doctor", "--json"],
            env=environment,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ModelError(f"The bundle's program does not start here ({error})", step=step) from None
    if reason := _fault(ended):
        raise ModelError(f"The bundle's program does not start here ({reason[:300]})", step=step)


def _fault(ended: subprocess.CompletedProcess[str]) -> str | None:
    """Return why the engine does not run, or None if it runs. `ended` is the process that ran `doctor --json`."""
    if not ended.returncode:
        return None
    try:
        checks = json.loads(ended.stdout)["checks"]
        return next(
            (str(check["finding"]) for check in checks if (check["name"], check["state"]) == ("llama.cpp", "bad")), None
        )
    except (ValueError, LookupError, TypeError):
        return (ended.stderr.strip().splitlines() or [f"exit code {ended.returncode}"])[-1]
