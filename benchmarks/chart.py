"""Draws the throughput results: rows a second of each task and peer, readable on a light and on a dark page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from xml.sax.saxutils import escape

from ecellm_lite.tasks.registry import TASKS

WIDTH, LEFT, RIGHT, TOP = 860, 64, 150, 104  # pixels; RIGHT is the room for what stands behind the longest bar
ROW, BAR = 58, 14

# The page's own colour, for a viewer that knows nothing of dark pages.
STYLE = """
  text { font: 13px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: #24292f }
  .title { font-size: 16px; font-weight: 600 }
  .quiet { fill: #57606a } .page { fill: #ffffff } .line { stroke: #d0d7de }
  .p0 { fill: #0b7a53 } .p1 { fill: #d18616 } .p2 { fill: #4467c4 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .quiet { fill: #9aa4ae } .page { fill: #0d1117 } .line { stroke: #3d444d }
    .p0 { fill: #3fb984 } .p1 { fill: #e3a341 } .p2 { fill: #7f9cf0 }
  }
"""


def draw(results: Mapping[str, Any]) -> str:
    """Return an SVG picture: for each task a bar a peer, with its rows a second and how many times as fast ours is."""
    tasks, means = results["tasks"], results["geometric_means"]
    peers = list(next(iter(tasks.values()))["rows_per_second"])
    fastest = max(rate for task in tasks.values() for rate in task["rows_per_second"].values())
    scale = (WIDTH - LEFT - RIGHT) / fastest
    height = TOP + len(tasks) * ROW + 12
    said = " and ".join(f"{mean:.2f} times {peer}" for peer, mean in means.items())
    parts = [
        f'<rect class="page" width="{WIDTH}" height="{height}"/>',
        _text(16, 28, "Rows a second in the ten tasks", "title"),
        _text(16, 50, f"Behind a peer's rate, ours over it. Geometric mean: {said}.", "quiet"),
    ]
    for index, peer in enumerate(peers):
        parts += [_bar(index, 16 + 140 * index, 66, BAR), _text(36 + 140 * index, 78, peer)]
    for place, (name, task) in enumerate(tasks.items()):
        top = TOP + place * ROW
        parts.append(_text(16, top + BAR * len(peers) / 2 + 6, TASKS[name].abbreviation))
        for index, peer in enumerate(peers):
            rate, y = task["rows_per_second"][peer], top + index * (BAR + 2)
            behind = f"{rate:.1f}" + (f"   \u00d7 {task['ratios'][peer]:.2f}" if index else "")
            parts.append(_bar(index, LEFT, y, rate * scale))
            parts.append(_text(LEFT + rate * scale + 6, y + BAR - 2, behind, "quiet" if index else ""))
    parts.append(f'<line class="line" x1="{LEFT}" y1="{TOP - 8}" x2="{LEFT}" y2="{height - 16}"/>')
    size = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    body = "\n".join(parts)
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>\n<style>{STYLE}</style>\n{body}\n</svg>\n'


def _bar(index: int, x: float, y: float, width: float) -> str:
    return f'<rect class="p{index}" x="{x}" y="{y}" width="{width:.1f}" height="{BAR}" rx="2"/>'


def _text(x: float, y: float, said: str, kind: str = "") -> str:
    return f'<text class="{kind}" xml:space="preserve" x="{x:.1f}" y="{y:.1f}">{escape(said)}</text>'
