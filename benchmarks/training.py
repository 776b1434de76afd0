r"""Claim: the training curves show that the demo's adapter learned its tasks.

    python -m benchmarks.training --sitting first/curves.json --sitting second/curves.json --beside slower/curves.json \
        --machine 'one H100 80GB'

Nothing is trained here. This program reads the curves that `ecellm-lite train learn` wrote, puts them into one results
file and draws them.

The adapter was trained in several sittings (training runs). Each sitting kept the adapter of its best step, and the
next sitting continued from this adapter. So the curve of a sitting ends at its best step. A first sitting with other
settings can be drawn for comparison, with --beside. The x axis counts rows, because the sittings differ in the rows per
step.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import click

from benchmarks.chart import STYLE, WIDTH, text
from benchmarks.facts import write_results
from ecellm_lite.models.files import replacing

Point = tuple[float, float]
Run = tuple[str, Sequence[dict[str, Any]]]  # a name, and the curves of its sittings

LEFT, MIDDLE, TOP, PANEL, HEIGHT = 52, 430, 104, 230, 384  # pixels; two panels of the same width and height
PANEL_WIDTH = 300
# The bars' colors, as lines.
STROKES = """
  .p0 { stroke: #0b7a53 } .p1 { stroke: #d18616 } .curve { fill: none; stroke-width: 2 }
  .task { fill: none; stroke: #8b949e; stroke-width: 1.2 }
  @media (prefers-color-scheme: dark) { .p0 { stroke: #3fb984 } .p1 { stroke: #e3a341 } .curve { fill: none } }
"""
VALIDATION = "macro-F1 on held-out rows (attribute values: exact answers)."
# The tasks that the validation panel shows besides the score, with their names there.
SHOWN = {
    "product_matching": "product matching",
    "product_relation_prediction": "product relation",
    "answerability_prediction": "answerability",
    "attribute_value_extraction": "attribute values",
    "sentiment_analysis": "sentiment",
    "sequential_recommendation": "next purchase",
}


@click.command()
@click.option("--sitting", "sittings", type=click.Path(path_type=Path, exists=True), multiple=True, required=True)
@click.option("--beside", type=click.Path(path_type=Path, exists=True), multiple=True)
@click.option("--machine", required=True, help="Where it was trained.")
@click.option("--output", type=click.Path(path_type=Path), default=Path("benchmarks/results/training.json"))
@click.option("--figure", type=click.Path(path_type=Path), default=Path("benchmarks/figures/training.svg"))
def main(sittings: Sequence[Path], beside: Sequence[Path], machine: str, output: Path, figure: Path) -> None:
    """Collect the training curves in one results file, and draw them."""
    facts = {
        "machine": machine,
        "sittings": [json.loads(path.read_text("utf-8")) for path in sittings],
        "beside": [json.loads(path.read_text("utf-8")) for path in beside],
    }
    write_results(output, "training", facts)
    with replacing(figure) as temporary:
        temporary.write_text(picture(facts), "utf-8")


def picture(facts: dict[str, Any]) -> str:
    """Return an SVG chart with two panels: the loss, and the results on held-out rows.

    The x axis is the number of rows learned so far.
    """
    runs: list[Run] = [("kept", [_up_to_best(one) for one in facts["sittings"]])]
    runs += [(f"first sitting, rate {one['recipe']['rate']:g}", [one]) for one in facts["beside"]]
    rows = max(sum(map(_rows, sittings)) for _, sittings in runs)
    parts = [
        f'<rect class="page" width="{WIDTH}" height="{HEIGHT}"/>',
        text(16, 28, "Training the demo's adapter", "title"),
        text(16, 50, f"x: thousands of rows. Left: loss per answer. Right: {VALIDATION}", "quiet"),
        *_losses(runs, rows),
        *_validations(runs, rows),
    ]
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
    body = "\n".join(parts)
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>\n<style>{STYLE}{STROKES}</style>\n{body}\n</svg>\n'


def _up_to_best(sitting: dict[str, Any]) -> dict[str, Any]:
    """Return the curves of a sitting (one training run), without the steps after its best step."""
    best = max(sitting["validations"], key=lambda one: one["score"])["step"]
    points = {name: [one for one in sitting[name] if one["step"] <= best] for name in ("losses", "validations")}
    return {**sitting, **points, "steps": best}


def _rows(sitting: dict[str, Any]) -> int:
    return int(sitting["steps"] * sitting["recipe"]["rows"])


def _losses(runs: Sequence[Run], rows: int) -> list[str]:
    most, least = 32.0, 0.5

    def place(row: float, loss: float) -> Point:
        share = math.log(loss / least) / math.log(most / least)
        return LEFT + PANEL_WIDTH * row / rows, TOP + PANEL * (1 - share)

    parts = _axes(LEFT, [(place(0, loss)[1], f"{loss:g}") for loss in (0.5, 1, 2, 4, 8, 16, 32)], rows)
    for index, (name, run) in enumerate(runs):
        for sitting, before in zip(run, _before(run), strict=True):
            per_step = sitting["recipe"]["rows"]
            points = [place(before + per_step * one["step"], max(one["loss"], least)) for one in sitting["losses"]]
            parts.append(_line(points, f"p{index} curve"))
        parts.append(_line([(LEFT + 130 * index, 72), (LEFT + 130 * index + 20, 72)], f"p{index} curve"))
        parts.append(text(LEFT + 130 * index + 28, 77, name))
    return parts


def _validations(runs: Sequence[Run], rows: int) -> list[str]:
    def place(row: float, share: float) -> Point:
        return MIDDLE + PANEL_WIDTH * row / rows, TOP + PANEL * (1 - share)

    parts = _axes(MIDDLE, [(place(0, share)[1], f"{share:g}") for share in (0, 0.2, 0.4, 0.6, 0.8, 1)], rows)
    labels = []
    for task, name in SHOWN.items():
        values = [(row, one["tasks"][task]) for row, one in _validated(runs[0][1])]
        points = [place(row, one.get("macro_f1", one["exact"])) for row, one in values]
        parts.append(_line(points, "task"))
        labels.append((points[-1][1], name, "quiet"))
    for index, (_, run) in enumerate(runs):
        points = [place(row, one["score"]) for row, one in _validated(run)]
        parts.append(_line(points, f"p{index} curve"))
        if not index:
            labels.append((points[-1][1], "score (their mean)", ""))
    last = 0.0
    for y, name, kind in sorted(labels):
        last = max(y + 4, last + 15)  # at least a line below the previous label
        parts.append(text(MIDDLE + PANEL_WIDTH + 8, last, name, kind))
    return parts


def _before(run: Iterable[dict[str, Any]]) -> list[int]:
    return list(accumulate((_rows(one) for one in run), initial=0))[:-1]


def _validated(run: Sequence[dict[str, Any]]) -> list[tuple[int, dict[str, Any]]]:
    return [
        (before + sitting["recipe"]["rows"] * validation["step"], validation)
        for sitting, before in zip(run, _before(run), strict=True)
        for validation in sitting["validations"]
    ]


def _axes(left: float, ticks: Iterable[tuple[float, str]], rows: int) -> list[str]:
    parts = [
        text(left + PANEL_WIDTH * share - 8, TOP + PANEL + 20, f"{rows * share / 1000:.0f}", "quiet")
        for share in (0, 0.5, 1)
    ]
    for y, label in ticks:
        parts.append(f'<line class="line" x1="{left}" y1="{y:.1f}" x2="{left + PANEL_WIDTH}" y2="{y:.1f}"/>')
        parts.append(text(left - 8 - 7 * len(label), y + 4, label, "quiet"))
    return parts


def _line(points: Iterable[Point], kind: str) -> str:
    return f'<polyline class="{kind}" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}"/>'


if __name__ == "__main__":
    main()
