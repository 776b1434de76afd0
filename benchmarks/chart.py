"""Draws the throughput results: rows a second of each task and peer, readable on a light and on a dark page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from xml.sax.saxutils import escape

from ecellm_lite.tasks.registry import TASKS

WIDTH, LEFT, ROW, BAR = 860, 64, 58, 14
TOP = 84
STYLE = """
  text { font: 13px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: #24292f }
  .title { font-size: 16px; font-weight: 600 }
  .quiet { fill: #57606a }
  .p0 { fill: #0b7a53 } .p1 { fill: #d18616 } .p2 { fill: #4467c4 }
  .line { stroke: #d0d7de }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .quiet { fill: #9aa4ae } .line { stroke: #3d444d }
    .p0 { fill: #3fb984 } .p1 { fill: #e3a341 } .p2 { fill: #7f9cf0 }
  }
"""


def draw(results: Mapping[str, Any]) -> str:
    """Return an SVG picture: for each task a bar a peer, with its rows a second and how often ours is as fast."""
    tasks = results["tasks"]
    names = list(next(iter(tasks.values()))["rows_per_second"])
    fastest = max(rate for task in tasks.values() for rate in task["rows_per_second"].values())
    scale = (WIDTH - LEFT - 190) / fastest
    parts = [_text(16, 28, "Rows a second, the ten tasks", "title"), *_legend(names, results)]
    for place, (name, task) in enumerate(tasks.items()):
        top = TOP + place * ROW
        parts.append(_text(16, top + BAR + 11, TASKS[name].abbreviation))
        for index, peer in enumerate(names):
            rate = task["rows_per_second"][peer]
            y = top + index * (BAR + 2)
            parts.append(
                f'<rect class="p{index}" x="{LEFT}" y="{y}" width="{rate * scale:.1f}" height="{BAR}" rx="2"/>'
            )
            beside = f"{rate:.1f}" if index == 0 else f"{rate:.1f}  (ours is {task['ratios'][peer]:.2f} times as fast)"
            parts.append(_text(LEFT + rate * scale + 6, y + BAR - 2, beside, "" if index == 0 else "quiet"))
    height = TOP + len(tasks) * ROW + 12
    parts.append(f'<line class="line" x1="{LEFT}" y1="{TOP - 8}" x2="{LEFT}" y2="{height - 16}"/>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}">\n'
        f"<style>{STYLE}</style>\n" + "\n".join(parts) + "\n</svg>\n"
    )


def _legend(names: list[str], results: Mapping[str, Any]) -> list[str]:
    parts, x = [], 16.0
    for index, name in enumerate(names):
        mean = results["geometric_means"].get(name)
        said = name if mean is None else f"{name} (ours {mean:.2f} times as fast, geometric mean)"
        parts.append(f'<rect class="p{index}" x="{x}" y="46" width="{BAR}" height="{BAR}" rx="2"/>')
        parts.append(_text(x + BAR + 6, 58, said, "quiet"))
        x += 44 + 6.7 * len(said)
    return parts


def _text(x: float, y: float, said: str, kind: str = "") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y}">{escape(said)}</text>'
