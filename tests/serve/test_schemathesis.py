"""Tests of every operation of the OpenAPI document with valid and invalid data, made by the library schemathesis."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from ecellm_lite.serve.keys import Key, Keys
from tests.serve.serving import serving

KEY = "a-key-of-enough-characters"

# What a document cannot say: which fields a task's rows need, that levels differ, and that a model sees no images.
# Those are refused although the schema allows them.
EXCLUDED = "positive_data_acceptance"

CONFIG = """
[parameters]
"path.task" = ["sentiment_analysis", "AVE", "answer_generation", "no-such-task"]
"""


@pytest.mark.slow
@pytest.mark.skipif(find_spec("schemathesis") is None, reason="schemathesis needs Python 3.11")
@pytest.mark.parametrize("phases", ["examples,fuzzing,stateful", "coverage"])
def test_schemathesis_finds_nothing(tmp_path: Path, phases: str) -> None:
    (tmp_path / "schemathesis.toml").write_text(CONFIG)
    with serving(keys=Keys([Key.of("fuzz", KEY)]), aliases=("*",)) as server:
        options = ["--checks=all", f"--exclude-checks={EXCLUDED}", f"--phases={phases}", "--max-examples=10"]
        options += ["--generation-deterministic", "--no-color", "--no-shrink", f"--header=Authorization: Bearer {KEY}"]
        command = [sys.executable, "-m", "schemathesis.cli", "run", f"http://127.0.0.1:{server.port}/openapi.json"]
        ended = subprocess.run([*command, *options], cwd=tmp_path, capture_output=True, text=True, timeout=500)
        assert ended.returncode == 0, ended.stdout[-8000:] + ended.stderr[-2000:]
        assert re.search(r"[1-9]\d\d generated", ended.stdout), ended.stdout[-2000:]
        assert server.get("/health").status == 200
    assert not [line for line in server.log if line["status"] == 500]
