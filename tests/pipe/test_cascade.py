"""Tests `ecellm-lite pipe` with two models in one process: a small one, and a larger one for uncertain rows."""

from __future__ import annotations

from typing import Any

import pytest

from ecellm_lite import Runtime
from ecellm_lite import runtime as runtime_module
from ecellm_lite.answers.answer import ModelName
from ecellm_lite.cli.main import run_command
from ecellm_lite.cli.pipe import load_cascade
from ecellm_lite.engine.fake import FakeBackend
from tests.support.answer_checks import EXAMPLES


def test_both_models_are_loaded_and_their_progress_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    def fake(*, model: str, **_: Any) -> Runtime:
        return Runtime.over(FakeBackend(), name=ModelName(model, "0" * 64))

    monkeypatch.setattr(runtime_module, "Runtime", fake)
    cascade, progress = load_cascade(1.0, memory_bytes=None, nice=None, cores=None, model="small,large")
    assert progress
    assert progress() == (False, 0)
    answer = cascade.answer("sentiment_analysis", EXAMPLES["sentiment_analysis"])
    assert answer.model.name == "large"
    assert progress()[1] >= 2
    cascade.close()


@pytest.mark.parametrize("option", [("--isolated",), ("--lazy",), ("--idle", "5"), ("--adapter", "shop=a.gguf")])
def test_what_needs_a_process_of_its_own_is_refused(option: tuple[str, ...]) -> None:
    assert run_command(["pipe", "--model", "small,large", "--escalate-below", "0.9", *option]) == 2
