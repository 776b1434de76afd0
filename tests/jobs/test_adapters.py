"""Tests that a job reuses its stored answers only if the adapter file is unchanged."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from ecellm_lite import EcellmError, Runtime
from ecellm_lite.answers.answer import AdapterName, ModelName
from ecellm_lite.engine.fake import FakeBackend, scattered
from ecellm_lite.jobs.job import open_job
from ecellm_lite.loading import LoadedAdapter
from ecellm_lite.tasks.registry import TASKS
from tests.jobs.test_job import write_table

TASK = TASKS["sentiment_analysis"]
NAME = ModelName("shop", "5" * 64)


def run(rows: Path, output: Path, adapter: str | None, sha256: str = "a" * 64) -> int:
    """Run a job with an adapter whose file has this SHA-256. Return how many tokens the engine computed."""
    backend = FakeBackend(adapters={"shop-a": lambda tokens: scattered([1, *tokens]), "shop-b": scattered})
    adapters = {"shop-a": LoadedAdapter(replace(NAME, adapter=AdapterName("shop-a", sha256)))}
    with Runtime.over(backend, name=NAME, adapters=adapters) as runtime, open_job(rows, output, TASK) as job:
        job.run(runtime, adapter=adapter)
    return backend.decoded


def test_answers_are_reused_only_for_the_same_adapter(tmp_path: Path) -> None:
    rows, output = write_table(tmp_path / "rows.jsonl", ["good", "bad", "so so"]), tmp_path / "out.jsonl"
    assert run(rows, output, "shop-a") > 0
    answers = [json.loads(line) for line in output.read_text("utf-8").splitlines()]
    assert {json.dumps(answer["model"]["adapter"]) for answer in answers} == {
        json.dumps({"name": "shop-a", "sha256": "a" * 64})
    }
    write_table(rows, ["good", "bad", "so so", "fine"])
    assert run(rows, output, "shop-a") > 0
    for adapter, sha256 in (("shop-a", "c" * 64), ("shop-b", "a" * 64), (None, "a" * 64)):
        with pytest.raises(EcellmError, match="adapter"):
            run(rows, output, adapter, sha256)


def test_an_unknown_adapter_is_refused_before_the_table_is_read(tmp_path: Path) -> None:
    rows = write_table(tmp_path / "rows.jsonl", ["good"])
    with pytest.raises(EcellmError, match="shop-b"):
        run(rows, tmp_path / "out.jsonl", "shop-x")
