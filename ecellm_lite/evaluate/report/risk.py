"""Draws a curve: how accurate a task's answers are if only the surest 90%, 80%, 70%, … of them are kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ecellm_lite.evaluate.results import RiskPoint
from ecellm_lite.report.plot import Plot
from ecellm_lite.report.shown import share, threshold

MOST = 240  # points drawn
FEWEST = 10  # answers that a drawn point needs; with fewer, its accuracy is too noisy
LISTED = 12  # points in the table beside the curve


@dataclass(frozen=True, slots=True)
class Curve:
    """The curve of a task in the report: how often answers are right if only the surest are kept.

    `path`: the curve as an SVG path.
    `ends`: the first and the last point of the path.
    `description`: the listed points in words.
    `reading`: one or two sentences that sum up the curve.
    `listed`: the points in the table beside the curve.
    """

    plot: Plot
    path: str
    ends: list[tuple[float, float]]
    description: str
    reading: str
    listed: list[RiskPoint]


def draw(risk_points: Sequence[RiskPoint], rows: int) -> Curve | None:
    """Return a task's curve: how often its answers are right if only the surest of them are kept.

    `risk_points`: the points of the curve. `rows`: the number of the task's rows.

    Return None if too few rows were answered.
    """
    points = sorted(
        (point for point in risk_points if point.answered * rows >= FEWEST - 0.5), key=lambda point: point.answered
    )
    if not points:
        return None
    drawn = thinned(points, MOST)
    plot = Plot(floor=0.5 if min(point.accuracy for point in points) >= 0.5 else 0.0)
    places = [(plot.x(point.answered), plot.y(point.accuracy)) for point in drawn]
    listed = thinned(points[::-1], LISTED)
    return Curve(
        plot,
        "M" + "L".join(f"{x} {y}" for x, y in places),
        [places[0], places[-1]],
        "; ".join(f"{share(point.answered)} answered, {share(point.accuracy)} right" for point in listed) + ".",
        _reading(points),
        listed,
    )


def thinned(points: Sequence[RiskPoint], most: int) -> list[RiskPoint]:
    """Return at most `most` of the points, evenly spaced. The first and the last point are always among them."""
    if len(points) <= most:
        return list(points)
    return [points[round(index * (len(points) - 1) / (most - 1))] for index in range(most)]


def _reading(points: Sequence[RiskPoint]) -> str:
    widest = points[-1]
    half = min(points, key=lambda point: abs(point.answered - 0.5))
    sentence = f"With {share(widest.answered)} of the rows answered, {share(widest.accuracy)} of the answers are right."
    if half is widest:
        return sentence
    return (
        f"{sentence} With a minimum probability of {threshold(half.min_probability)} the model answers "
        f"{share(half.answered)} of the rows, and {share(half.accuracy)} of those answers are right."
    )
