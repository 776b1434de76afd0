"""Tests the chart of a training that was done in several parts, called sittings, one after the other.

A sitting's curve ends at the step whose adapter was kept.
"""

from __future__ import annotations

import re
from typing import Any

from benchmarks.training import LEFT, MIDDLE, PANEL_WIDTH, SHOWN, picture


def sitting(rows: int, steps: int, scores: dict[int, float]) -> dict[str, Any]:
    return {
        "recipe": {"rows": rows, "rate": 0.001},
        "steps": steps,
        "passes": len(scores),
        "losses": [{"step": step, "loss": 2.0} for step in range(10, steps + 1, 10)],
        "validations": [
            {"step": step, "score": score, "tasks": {task: {"exact": score} for task in SHOWN}}
            for step, score in scores.items()
        ],
    }


def lines(svg: str, kind: str) -> list[list[float]]:
    """Return the x coordinates of each polyline of the class `kind`."""
    polylines = re.findall(rf'<polyline class="{kind}" points="([^"]*)"', svg)
    return [[float(point.split(",")[0]) for point in points.split()] for points in polylines]


def test_a_sitting_is_drawn_up_to_the_kept_adapter() -> None:
    first, second = sitting(10, 100, {50: 0.2, 100: 0.3}), sitting(40, 60, {20: 0.5, 30: 0.6, 60: 0.4})
    svg = picture({"sittings": [first, second], "beside": [sitting(10, 100, {100: 0.1})]})
    whole = 10 * 100 + 40 * 30
    losses = lines(svg, "p0 curve")
    assert losses[0][-1] == round(LEFT + PANEL_WIDTH * 1000 / whole, 1)
    assert losses[1][-1] == LEFT + PANEL_WIDTH
    scores = losses[-1]
    assert scores == [round(MIDDLE + PANEL_WIDTH * rows / whole, 1) for rows in (500, 1000, 1800, 2200)]
    assert all(len(points) == 4 for points in lines(svg, "task"))
    assert ">2<" in svg  # the thousands of rows at the right end


def test_a_longer_compared_run_stays_in_its_panel() -> None:
    svg = picture({"sittings": [sitting(10, 20, {20: 0.3})], "beside": [sitting(10, 200, {200: 0.1})]})
    assert max(x for points in lines(svg, "p1 curve") for x in points) <= MIDDLE + PANEL_WIDTH
    assert max(lines(svg, "p1 curve")[0]) == LEFT + PANEL_WIDTH
