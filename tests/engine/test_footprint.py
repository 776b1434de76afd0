"""Tests that a process takes at most 10% more memory than was planned for its model."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ecellm_lite.engine.footprint import footprint
from ecellm_lite.engine.memory import kv_bytes_per_cell, weight_bytes
from ecellm_lite.engine.settings import Settings
from ecellm_lite.models.gguf_header import read_header
from ecellm_lite.models.store import StoredModel
from ecellm_lite.pipe.child_runtime import ChildRuntime


@pytest.mark.slow
def test_a_process_stays_within_its_plan(demo_model: StoredModel) -> None:
    import psutil

    header = read_header(demo_model.path)
    settings = Settings(context=4096, gpu_layers=0)
    plan = footprint(header, settings)
    with ChildRuntime("demo", context=4096, gpu_layers=0) as child:
        rows = ({"review": f"Number {number} works, but it is loud. " * 12} for number in range(40))
        assert all(answer.error is None for answer in child.answers("sentiment_analysis", rows))
        assert child.pid
        resident = psutil.Process(child.pid).memory_info().rss
    assert resident < 1.1 * plan.of(1)
    assert plan.of(2) - plan.of(1) == plan.own < resident
    longer = footprint(header, replace(settings, context=8192))
    assert longer.weights == plan.weights == weight_bytes(header)
    assert longer.own - plan.own > 4096 * kv_bytes_per_cell(header, "f16")
