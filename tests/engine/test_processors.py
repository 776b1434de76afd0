"""Tests a portable build on other processors, which qemu-x86_64 simulates.

The tests check that the answers are the same on all processors, and that each processor runs the variant that was built
for it. Skylake-Server is an exception: it runs the variant for AVX2, because qemu does not simulate AVX-512.

The environment variable ECELLM_PORTABLE_PYTHON names the Python of an environment with this project, the demo, and the
wheel that `ecellm-lite bundle engine` builds.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow
TASKS = ("sentiment_analysis", "product_matching")
EXAMPLES = Path(__file__).parent.parent.parent / "ecellm_lite/tasks/examples"
SECONDS = 1800  # a minute or more for each command


@pytest.fixture(scope="module")
def python() -> str:
    """Return the path of a Python whose environment has a portable build of llama.cpp (for many processors)."""
    if not (path := os.environ.get("ECELLM_PORTABLE_PYTHON")):
        pytest.skip("ECELLM_PORTABLE_PYTHON does not name the Python of a portable build")
    if not shutil.which("qemu-x86_64"):
        pytest.skip("qemu-x86_64 is not installed")
    return path


def printed(*command: str, place: Path) -> Any:
    # A folder of its own, or Python would import the package of the folder that it is started in.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return json.loads(subprocess.check_output(command, timeout=SECONDS, cwd=place, env=environment))


@pytest.mark.parametrize(
    ("processor", "variant"), [("Nehalem", "sse42"), ("Haswell", "haswell"), ("Skylake-Server", "haswell")]
)
def test_answers_are_the_same_on_each_emulated_processor(
    python: str, processor: str, variant: str, tmp_path: Path
) -> None:
    imitated = ("qemu-x86_64", "-cpu", processor, python, "-m", "ecellm_lite")
    report = printed(*imitated, "doctor", "--json", place=tmp_path)
    findings = {check["name"]: check for check in report["checks"]}
    assert findings["CPU variant"]["finding"].split()[0] == variant
    assert report["ok"]
    for task in TASKS:
        options = ("run", "--task", task, "--input", str(EXAMPLES / f"{task}.json"), "--json", "--deterministic")
        expected = printed(python, "-m", "ecellm_lite", *options, place=tmp_path)
        answer = printed(*imitated, *options, "--threads", "1", place=tmp_path)
        assert answer["value"] == expected["value"]
        assert answer["probabilities"] == pytest.approx(expected["probabilities"], abs=0.02)
