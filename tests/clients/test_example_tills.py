"""Tests the example programs for tills (cash registers) as in a shop: with `ecellm-lite pipe` and the demo model."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from ecellm_lite import Runtime
from ecellm_lite.models.store import StoredModel
from tests.clients.test_clients import CLIENTS, LANGUAGES, Command, compile_c, compile_csharp, compile_java, run, tool

pytestmark = [pytest.mark.slow, pytest.mark.native]

REVIEWS = ["Love it, the best I ever had!", "It broke in a week.", "Works, but it is loud 🙉", " "]


@pytest.mark.parametrize("language", [*LANGUAGES, "python"])
def test_an_example_till_prints_decisions(
    language: str, demo: Runtime, demo_model: StoredModel, tmp_path: Path
) -> None:
    pipe = [sys.executable, "-c", "from ecellm_lite.cli.entry import main; main()", "pipe", "--model", "demo"]
    if language == "node":
        command: Command = [tool("node"), CLIENTS / "node" / "example-till.js", *pipe]
    elif language == "java":
        command = [tool("java"), "-cp", compile_java(tmp_path), "ecellmlite.ExampleTill", *pipe]
    elif language == "csharp":
        command = [*compile_csharp(tmp_path, CLIENTS / "csharp" / "ExampleTill" / "Program.cs"), *pipe]
    elif language == "python":
        command = [sys.executable, CLIENTS / "python" / "example_till.py", "demo"]
    else:
        command = [compile_c(tmp_path, CLIENTS / "c" / "example_till.c"), shlex.join(pipe)]
    lines = run(command, text="\n".join(REVIEWS) + "\n").stdout.splitlines()
    assert len(lines) == len(REVIEWS)
    for review, line in zip(REVIEWS[:-1], lines, strict=False):
        expected = demo.answer("sentiment_analysis", {"review": review})
        text, probability = line.removesuffix("  ask a person").rsplit("  ", 1)
        assert expected.probability is not None
        assert text == (expected.text or "not sure")
        assert float(probability) == pytest.approx(expected.probability, abs=0.02)
        assert line.endswith("ask a person") == (float(probability) < 0.8 or expected.abstained)
    assert lines[-1].startswith("no answer (input)")
