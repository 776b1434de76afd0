"""Writes the script `ecellm-lite`, which starts an installed version of a bundle.

The script starts ecellm-lite with the version's models and tasks. It starts the bundle's standalone program or, if the
bundle has none, the program installed from the bundle's wheels. Without wheels, it starts the `ecellm-lite` on the
PATH. The script looks up the current version once. So a running program keeps its files when another version is
installed.
"""

from __future__ import annotations

import os
from pathlib import Path

from ecellm_lite.bundle.pointer import FILE
from ecellm_lite.bundle.wheels import WHEELS, environment_python

NAME = "ecellm-lite"
HOME = "home"  # the folder of a version that is its program's ECELLM_HOME

_SHELL = """\
#!/bin/sh
here=$(dirname "$(readlink -f "$0")")
export ECELLM_HOME="$here/home" ECELLM_BUNDLES="${{here%/*/*/*/*}}"
exec {program} "$@"
"""

_COMMAND = """\
@echo off
setlocal
set /p VERSION=<"%~dp0{pointer}"
set "HERE=%~dp0versions\\%VERSION%"
set "ECELLM_HOME=%HERE%\\home"
set "ECELLM_BUNDLES=%~dp0..\\.."
{program} %*
"""


def write_launcher(version: Path) -> Path:
    """Write the script `ecellm-lite` into a version's folder, and return the script's path."""
    program = "ecellm-lite"
    if (version / "program").is_dir():
        program = '"$here/program/ecellm-lite"'
    elif (version / WHEELS).is_dir():
        program = '"$here/venv/bin/python" -I -m ecellm_lite'
    path = version / NAME
    path.write_text(_SHELL.format(program=program), "utf-8")
    path.chmod(path.stat().st_mode | 0o111)
    return path


def write_command(root: Path, version: Path) -> Path:
    """Write the Windows script `ecellm-lite.cmd` into `root`, and return its path.

    When the script runs, it reads which version is current and starts that version.
    """
    program = "ecellm-lite.exe"
    if (version / "program").is_dir():
        program = '"%HERE%\\program\\ecellm-lite.exe"'
    elif (version / WHEELS).is_dir():
        program = '"%HERE%\\venv\\Scripts\\python.exe" -I -m ecellm_lite'
    path = root / f"{NAME}.cmd"
    path.write_text(_COMMAND.format(pointer=FILE, program=program), "utf-8", newline="\r\n")
    return path


def command_of(version: Path) -> list[str]:
    """Return the command that starts a version's own ecellm-lite: its standalone program, or the one from its wheels.

    If the version has neither a program nor wheels, return an empty list.
    """
    suffix = ".exe" if os.name == "nt" else ""
    if (program := version / "program" / f"{NAME}{suffix}").is_file():
        return [str(program)]
    if (version / WHEELS).is_dir():
        return [str(environment_python(version / "venv")), "-I", "-m", "ecellm_lite"]
    return []
