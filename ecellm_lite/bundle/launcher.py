"""Writes the script `ecellm-lite`, which starts an installed version of a bundle.

The script starts ecellm-lite with the version's models and tasks. It starts the bundle's standalone program or, if the
bundle has none, the program installed from the bundle's wheels. Without wheels, it starts the program that installed
the bundle or, if that was removed, the `ecellm-lite` on the PATH. The script looks up the current version once. So a
running program keeps its files when another version is installed.
"""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

from ecellm_lite.bundle.pointer import FILE
from ecellm_lite.bundle.wheels import WHEELS, environment_python

NAME = "ecellm-lite"
HOME = "home"  # the folder of a version that is its program's ECELLM_HOME

_SHELL = """\
#!/bin/sh
here=$(dirname "$(readlink -f "$0")")
export ECELLM_HOME="$here/home" ECELLM_BUNDLES="${{here%/*/*/*/*}}"
{start}
"""

_SHELL_WITHOUT_PROGRAM = """\
if [ -x {installer} ] && [ -e {file} ]; then exec {command} "$@"; fi
other=$(command -v ecellm-lite)
# If this script is the one on the PATH, it must not start itself again.
if [ -n "$other" ] && [ "$(readlink -f "$other")" != "$here/ecellm-lite" ]; then exec "$other" "$@"; fi
echo "The program that installed this bundle was removed: install ecellm-lite again, so that it is on the PATH." >&2
exit 127"""

_COMMAND = """\
@echo off
setlocal
set /p VERSION=<"%~dp0{pointer}"
set "HERE=%~dp0versions\\%VERSION%"
set "ECELLM_HOME=%HERE%\\home"
set "ECELLM_BUNDLES=%~dp0..\\.."
{start} %*
"""

_COMMAND_WITHOUT_PROGRAM = """\
set PROGRAM=ecellm-lite.exe
if exist "{installer}" if exist "{file}" set PROGRAM="{installer}" {arguments}
%PROGRAM%"""


def write_launcher(version: Path) -> Path:
    """Write the script `ecellm-lite` into a version's folder, and return the script's path."""
    if (version / "program").is_dir():
        start = 'exec "$here/program/ecellm-lite" "$@"'
    elif (version / WHEELS).is_dir():
        start = 'exec "$here/venv/bin/python" -I -m ecellm_lite "$@"'
    else:
        start = _SHELL_WITHOUT_PROGRAM.format(
            installer=shlex.quote(sys.executable),
            file=shlex.quote(_own_file()),
            command=shlex.join([sys.executable, *_own_arguments()]),
        )
    path = version / NAME
    path.write_text(_SHELL.format(start=start), "utf-8")
    path.chmod(path.stat().st_mode | 0o111)
    return path


def write_command(root: Path, version: Path) -> Path:
    """Write the Windows script `ecellm-lite.cmd` into `root`, and return its path.

    When the script runs, it reads which version is current and starts that version.
    """
    if (version / "program").is_dir():
        start = '"%HERE%\\program\\ecellm-lite.exe"'
    elif (version / WHEELS).is_dir():
        start = '"%HERE%\\venv\\Scripts\\python.exe" -I -m ecellm_lite'
    else:
        start = _COMMAND_WITHOUT_PROGRAM.format(
            installer=sys.executable.replace("%", "%%"),
            file=_own_file().replace("%", "%%"),
            arguments=" ".join(_own_arguments()),
        )
    path = root / f"{NAME}.cmd"
    path.write_text(_COMMAND.format(pointer=FILE, start=start), "utf-8", newline="\r\n")
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


def _own_file() -> str:
    """Return the path of a file that exists as long as the running program is installed."""
    return sys.executable if getattr(sys, "frozen", False) else str(Path(__file__).absolute())


def _own_arguments() -> list[str]:
    """Return the arguments with which sys.executable starts the running program again."""
    if getattr(sys, "frozen", False):
        return []
    safe_path = ["-P"] if sys.version_info >= (3, 11) else []  # no module of the current folder in place of ours
    return [*safe_path, "-m", "ecellm_lite"]
