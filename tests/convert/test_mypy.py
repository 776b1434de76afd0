"""Tests that mypy finds type errors in calls of convert/ under its installed name, ecellm_lite.convert."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
IMPORT = "from ecellm_lite.convert.reading import read_fully"


@pytest.mark.parametrize(
    ("call", "code"),
    [
        ("read_fully(0, Path('weights'), memoryview(b''), 0)", None),
        ("read_fully('weights', Path('weights'), memoryview(b''), 0)", "arg-type"),
        ("read_fully(0)", "call-arg"),
    ],
)
def test_mypy_finds_a_wrong_call_of_the_converter(call: str, code: str | None, tmp_path: Path) -> None:
    probe = tmp_path / "probe.py"
    probe.write_text(f"from pathlib import Path\n{IMPORT}\n{call}\n")
    mypy = subprocess.run([sys.executable, "-m", "mypy", probe], cwd=ROOT, capture_output=True, text=True, check=False)
    assert mypy.returncode == (code is not None), mypy.stdout + mypy.stderr
    assert code is None or f"[{code}]" in mypy.stdout
