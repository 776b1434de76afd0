"""Helpers for tests of metrics.

`both` returns the metrics in the paper's way, and the metrics over all rows. `entries` returns an extraction as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from hypothesis import strategies as st

from ecellm_lite.evaluate.metrics.kinds import measure
from ecellm_lite.evaluate.metrics.measured import Pair
from ecellm_lite.tasks.registry import get_task


def both(task: str, pairs: Sequence[Pair]) -> tuple[dict[str, float], dict[str, float]]:
    return measure(get_task(task), pairs).values()


def entries(*triples: tuple[str, str, str]) -> str:
    return json.dumps([{"attribute": a, "value": v, "source": s} for a, v, s in triples])


TRIPLES = st.lists(
    st.tuples(st.sampled_from("ab"), st.sampled_from(("x", "xy", "None")), st.sampled_from(("t", "None"))), max_size=5
)
