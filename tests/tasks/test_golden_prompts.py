"""Tests that each task's example gives, in each envelope, exactly the prompt in a file written by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from ecellm_lite.envelopes import get_envelope
from ecellm_lite.tasks.registry import TASKS, get_task

# The envelopes of eCeLLM's weights; those of chat models are checked in tests/envelopes.
ENVELOPES = ("alpaca", "mistral")
PROMPTS = Path(__file__).parent.parent / "golden" / "prompts"


@pytest.mark.parametrize("envelope", ENVELOPES)
@pytest.mark.parametrize("name", TASKS)
def test_prompts_have_the_golden_bytes(name: str, envelope: str) -> None:
    task = get_task(name)
    question = task.question(task.example())
    prompt = get_envelope(envelope).prompt(question.instruction, question.text, question.options)
    assert prompt.encode("utf-8") == (PROMPTS / f"{name}.{envelope}.txt").read_bytes()


def test_every_golden_file_is_tested() -> None:
    read = {f"{name}.{envelope}.txt" for name in TASKS for envelope in ENVELOPES}
    assert {path.name for path in PROMPTS.iterdir()} == read
    assert len(read) == 20
