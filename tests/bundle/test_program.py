"""Tests the script that starts a standalone program.

Also tests that an installation is refused if it cannot be packed into such a program. The built program is tested by
test_bare_system.py.
"""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import Distribution
from pathlib import Path

import pytest

from ecellm_lite.backends import CpuVariant
from ecellm_lite.bundle import program
from ecellm_lite.bundle.program import build_program
from ecellm_lite.errors import UsageError
from ecellm_lite.pipe import child_runtime


class Installed(Distribution):
    """Simulates the metadata of an installed package."""

    def __init__(self, origin: str | None) -> None:
        self._origin = origin

    def read_text(self, filename: str) -> str | None:
        return self._origin if filename == "direct_url.json" else None

    def locate_file(self, path: object) -> Path:
        raise NotImplementedError


@pytest.fixture
def installation(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Simulate an installation that can be packed, with a portable llama.cpp.

    Return the MonkeyPatch, with which a test can change the installation.
    """
    monkeypatch.setattr(program, "find_spec", lambda _: object())
    monkeypatch.setattr(program, "distribution", lambda _: Installed(None))
    monkeypatch.setattr(program, "cpu_variants", lambda _: [CpuVariant("haswell", 64, Path("haswell"))])
    return monkeypatch


def test_a_target_folder_that_is_not_empty_is_refused(installation: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError) as refusal:
        build_program(tmp_path)
    assert refusal.value.settings == ("folder",)


def test_an_installation_without_pyinstaller_is_refused(installation: pytest.MonkeyPatch, tmp_path: Path) -> None:
    installation.setattr(program, "find_spec", lambda _: None)
    with pytest.raises(UsageError) as refusal:
        build_program(tmp_path)
    assert refusal.value.step


def test_an_editable_installation_is_refused(installation: pytest.MonkeyPatch, tmp_path: Path) -> None:
    installation.setattr(program, "distribution", lambda _: Installed('{"dir_info": {"editable": true}, "url": "x"}'))
    with pytest.raises(UsageError):
        build_program(tmp_path)


def test_a_llama_cpp_built_for_this_processor_only_is_refused(installation: pytest.MonkeyPatch, tmp_path: Path) -> None:
    installation.setattr(program, "cpu_variants", lambda _: [])
    with pytest.raises(UsageError) as refusal:
        build_program(tmp_path)
    assert refusal.value.settings == ("native",)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--version"],
        ["-m", "ecellm_lite.kernels.prompt"],
        [*child_runtime._FLAGS, "-m", "ecellm_lite.pipe", "{"],
    ],
)
def test_the_program_runs_the_command_line_or_a_module_of_the_package(arguments: list[str]) -> None:
    """With `-m MODULE`, the program runs that module, as Python does. Otherwise it runs the command line."""
    script = [sys.executable, "-m", "ecellm_lite.standalone", *arguments]
    started = subprocess.run(script, capture_output=True, text=True, check=False, timeout=60)
    if arguments == ["--version"]:
        assert (started.returncode, started.stdout[:11]) == (0, "ecellm-lite")
    else:  # the module's own error: these arguments are not what it needs
        assert started.returncode == 1
        assert arguments[-1] == "{" or "IndexError" in started.stderr


def test_modules_outside_the_package_are_not_run(tmp_path: Path) -> None:
    script = [sys.executable, "-m", "ecellm_lite.standalone", "-m", "this"]
    started = subprocess.run(script, capture_output=True, text=True, check=False, timeout=60)
    assert started.returncode == 2
    assert started.stdout == ""
