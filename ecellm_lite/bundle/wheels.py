"""Wheels in a bundle: their projects and metadata, and the virtual environment that they are installed into."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from email.message import Message
from email.parser import BytesParser
from pathlib import Path

from ecellm_lite.errors import ModelError, UsageError

WHEELS = "wheels"
OURS = "ecellm-lite"
PIP = "pip"

# pip runs out of its own wheel: to install it first, as Python's venv does, takes longer than to install all others.
PIP_OPTIONS = "install --isolated --disable-pip-version-check --quiet --no-index --no-cache-dir --no-compile"

_NAME = re.compile(r"(?P<project>[A-Za-z0-9][A-Za-z0-9._]*)-(?P<version>[^-]+)(-[0-9][^-]*)?(-[^-]+){3}\.whl")
_LARGEST_TEXT = 1 << 20  # bytes, of metadata or a licence
_TEXTS = re.compile(r"[^/]+\.dist-info/(?:licenses/.+|(?:LICEN[CS]E|COPYING|NOTICE|AUTHORS)[^/]*)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel: its file, its metadata (PEP 566 and 639), and its licences as pairs (path, text)."""

    path: Path
    metadata: Message
    texts: Sequence[tuple[str, bytes]]


def project_of(name: str) -> str:
    """Return the project's name in a wheel's file name. Raises UsageError if the file name is not a wheel's."""
    match = _NAME.fullmatch(name)
    if not match:
        raise UsageError(f"{name[:100]!r} is not the name of a wheel", step="leave only wheels in the folder")
    return normalized(match["project"])


def normalized(project: str) -> str:
    """Return a project's normalized name. Two names mean the same project if their normalized names are equal."""
    return re.sub(r"[-_.]+", "-", project).lower()


def is_licence(path: str) -> bool:
    """Whether a file of an installed project is a licence or a notice. `path` begins with the folder *.dist-info."""
    return _TEXTS.fullmatch(path) is not None


def wheels_of(folder: Path, *, signed: bool) -> Sequence[Wheel]:
    """Return the wheels in a folder.

    Raises UsageError if a file is not a wheel, or if a needed wheel is missing. The wheels of ecellm-lite and pip are
    always needed. If `signed`, the wheel of cryptography is needed too.
    """
    paths = sorted(folder.glob("*.whl"))
    projects = {project_of(path.name) for path in paths}
    needed = {OURS, PIP, "cryptography"} if signed else {OURS, PIP}
    if missing := sorted(needed - projects):
        raise UsageError(
            f"The folder {folder} has no wheel of {missing[0]}",
            step=f"fill it with `pip wheel --wheel-dir {folder} pip 'ecellm-lite[bundle]'`",
            settings=("wheels",),
        )
    return [_read_wheel(path) for path in paths]


def make_environment(folder: Path, wheels: Path) -> None:
    """Make a virtual environment in `folder`, and install all wheels of the folder `wheels` there. No network is used.

    Raises ModelError if there is no Python with venv, or if that Python cannot install the wheels.
    """
    pip = sorted(wheels.glob(f"{PIP}-*.whl"))
    if not pip:
        raise ModelError("The bundle has no wheel of pip", step="make the bundle again with this version")
    environment = [_python(), "-m", "venv", "--without-pip", str(folder)]
    _run(environment, "the virtual environment could not be made", "install Python's venv")
    install = [str(environment_python(folder)), "-I", str(pip[-1] / PIP), *PIP_OPTIONS.split()]
    wanted = ["--find-links", str(wheels), *installed_projects(path.name for path in wheels.glob("*.whl"))]
    _run([*install, *wanted], "its wheels could not be installed", "use a bundle made for this Python")


def installed_projects(names: Iterable[str]) -> Sequence[str]:
    """Return the projects to install, given the file names of the wheels. pip is left out."""
    return sorted({project_of(name) for name in names} - {PIP})


def environment_python(folder: Path) -> Path:
    """Return the path of a virtual environment's Python."""
    return folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def _read_wheel(path: Path) -> Wheel:
    try:
        with zipfile.ZipFile(path) as wheel:
            [name] = [member for member in wheel.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", member)]
            texts = [member for member in wheel.infolist() if is_licence(member.filename) and not member.is_dir()]
            if any(member.file_size > _LARGEST_TEXT for member in [wheel.getinfo(name), *texts]):
                raise ValueError("its metadata or licence is too large")
            metadata = BytesParser().parsebytes(wheel.read(name))
            return Wheel(path, metadata, [(member.filename, wheel.read(member)) for member in texts])
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise UsageError(f"{path} is not a wheel ({error})", step="fetch it again") from None


def _python() -> str:
    """Return the path of the Python that makes the new virtual environment.

    If this program runs in a virtual environment, which may be temporary, the result is the Python that this
    environment was made from. For a standalone program, the result is the Python on the PATH. Raises ModelError if the
    PATH has no Python.
    """
    base = getattr(sys, "_base_executable", None)
    if base and not getattr(sys, "frozen", False):
        return str(base)
    python = shutil.which("python3") or shutil.which("python")
    if not python:
        raise ModelError("The bundle has wheels, and there is no Python on this machine", step="install Python 3")
    return python


def _environment() -> dict[str, str]:
    """Return the environment variables for other programs, such as the system's Python.

    A standalone program brings its own libraries. The variables keep other programs from loading these libraries.
    """
    environment = dict(os.environ)
    if getattr(sys, "frozen", False):
        # PyInstaller keeps the variable's former value under the second name.
        environment["LD_LIBRARY_PATH"] = environment.pop("LD_LIBRARY_PATH_ORIG", "")
    return environment


def _run(command: Sequence[str], fault: str, step: str) -> None:
    try:
        ended = subprocess.run(  # noqa: S603 - Python and pip
            command, env=_environment(), capture_output=True, text=True, errors="replace", check=False
        )
    except OSError as error:
        raise ModelError(f"The bundle is not installed: {fault} ({error.strerror})", step=step) from None
    if ended.returncode:
        lines = (ended.stderr or ended.stdout).strip().splitlines()
        reason = lines[-1][:300] if lines else f"exit code {ended.returncode}"
        raise ModelError(f"The bundle is not installed: {fault} ({reason})", step=step)
