"""The reliability diagram: for each range of probabilities, how often answers were right."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ecellm_lite.evaluate.results import Reliability
from ecellm_lite.report.plot import Plot
from ecellm_lite.report.shown import score, share

ROOM, TALLEST = 64, 44  # pixels: the room under the square, and the tallest bar of the counts in it
CLOSE = 0.02  # a mean gap under two percentage points counts as none


@dataclass(frozen=True, slots=True)
class BinShape:
    """How a bin of probabilities is drawn. All lengths are in pixels."""

    left: float
    width: float
    x: float
    y: float
    expected: float
    radius: float
    tall: float
    count: int


@dataclass(frozen=True, slots=True)
class Diagram:
    """A reliability diagram ready to be drawn, and its description in words."""

    plot: Plot
    groups: list[BinShape]
    description: str
    reading: str


def draw(reliability: Reliability) -> Diagram | None:
    """Return the reliability diagram of a task's answers, or None if no answer has a probability."""
    plot = Plot(below=ROOM)
    bins = [group for group in reliability.bins if group.count]
    if not bins:
        return None
    most = max(group.count for group in bins)
    groups = [
        BinShape(
            left=plot.x(group.low),
            width=round(plot.x(group.high) - plot.x(group.low), 1),
            x=plot.x(group.probability),
            y=plot.y(group.accuracy),
            expected=plot.y(group.probability),
            radius=round(2 + 4 * math.sqrt(group.count / most), 1),
            tall=max(round(TALLEST * group.count / most, 1), 1.0),
            count=group.count,
        )
        for group in bins
    ]
    total = sum(group.count for group in bins)
    claimed = sum(group.count * group.probability for group in bins) / total
    right = sum(group.count * group.accuracy for group in bins) / total
    description = "; ".join(
        f"{group.count:,} answers with about {share(group.probability)}, {share(group.accuracy)} of them right"
        for group in bins
    )
    return Diagram(plot, groups, f"{description}.", _reading(total, claimed, right, reliability.ece))


def _reading(total: int, claimed: float, right: float, ece: float) -> str:
    answers = f"Over {total:,} answers" if total > 1 else "For its one answer"
    if abs(claimed - right) < CLOSE:
        verdict = "overall it was right about as often as it predicted"
    elif claimed > right:
        verdict = "it was more confident than it should have been"
    else:
        verdict = "it was right more often than it predicted"
    return (
        f"{answers} the model's mean probability was {share(claimed)}, and {share(right)} were right: {verdict}. "
        f"The groups are off by {score(ece)} on average (the expected calibration error, ECE)."
    )
