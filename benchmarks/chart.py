"""Draws results as bar charts in SVG, readable on light and dark pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

WIDTH, RIGHT, TOP, BAR = 860, 150, 104, 14  # pixels; RIGHT is the space for the text after the longest bar

# The page has a color of its own, for viewers that do not know about dark pages.
STYLE = """
  text { font: 13px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: #24292f }
  .title { font-size: 16px; font-weight: 600 }
  .quiet { fill: #57606a } .page { fill: #ffffff } .line { stroke: #d0d7de }
  .p0 { fill: #0b7a53 } .p1 { fill: #d18616 } .p2 { fill: #4467c4 } .p3 { fill: #a3528f }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .quiet { fill: #9aa4ae } .page { fill: #0d1117 } .line { stroke: #3d444d }
    .p0 { fill: #3fb984 } .p1 { fill: #e3a341 } .p2 { fill: #7f9cf0 } .p3 { fill: #d08bc0 }
  }
"""


@dataclass(frozen=True, slots=True)
class Group:
    """Neighboring bars with one label. `bars` has the length and the text of each bar, in the order of the legend."""

    label: str
    bars: Sequence[tuple[float, str]]


def draw(title: str, subtitle: str, legend: Sequence[str], groups: Sequence[Group], left: int = 64) -> str:
    """Return an SVG picture of the groups, one below the other. `left`: the width of the groups' labels in pixels."""
    scale = (WIDTH - left - RIGHT) / max(length for group in groups for length, _ in group.bars)
    step = (BAR + 2) * len(legend) + 10
    height = TOP + len(groups) * step + 12
    parts = [
        f'<rect class="page" width="{WIDTH}" height="{height}"/>',
        text(16, 28, title, "title"),
        text(16, 50, subtitle, "quiet"),
    ]
    for index, name in enumerate(legend):
        parts += [_bar(index, 16 + 140 * index, 66, BAR), text(36 + 140 * index, 78, name)]
    for place, group in enumerate(groups):
        top = TOP + place * step
        parts.append(text(16, top + (BAR + 2) * len(legend) / 2 + 4, group.label))
        for index, (length, note) in enumerate(group.bars):
            y = top + index * (BAR + 2)
            parts.append(_bar(index, left, y, length * scale))
            parts.append(text(left + length * scale + 6, y + BAR - 2, note, "quiet" if index else ""))
    parts.append(f'<line class="line" x1="{left}" y1="{TOP - 8}" x2="{left}" y2="{height - 16}"/>')
    size = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    body = "\n".join(parts)
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>\n<style>{STYLE}</style>\n{body}\n</svg>\n'


def _bar(index: int, x: float, y: float, width: float) -> str:
    return f'<rect class="p{index}" x="{x}" y="{y}" width="{width:.1f}" height="{BAR}" rx="2"/>'


def text(x: float, y: float, content: str, kind: str = "") -> str:
    """Return an SVG text element that begins at (x, y). `kind` is one of STYLE's classes."""
    return f'<text class="{kind}" xml:space="preserve" x="{x:.1f}" y="{y:.1f}">{escape(content)}</text>'
