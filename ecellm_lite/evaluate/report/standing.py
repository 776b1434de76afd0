"""A figure of all tasks that compares this evaluation with the paper's models."""

from __future__ import annotations

from dataclasses import dataclass

from ecellm_lite.evaluate.report.overview import FAMILY, Overview
from ecellm_lite.report.plot import Tick
from ecellm_lite.report.shown import score

WIDTH, LEFT, RIGHT, TOP, STEP = 860, 70, 838, 36, 28  # pixels


@dataclass(frozen=True, slots=True)
class StandingRow:
    """A task's line in the figure that compares this evaluation with the paper's models. All positions are in pixels.

    `ours`, `reach`: this evaluation's result and its interval.
    `kin`: the results of the eCeLLM models in the paper.
    `others`: the results of the paper's other models.
    """

    label: str
    y: int
    ours: float | None
    reach: tuple[float, float] | None
    kin: list[float]
    others: list[float]


@dataclass(frozen=True, slots=True)
class Standing:
    """The figure that compares the results with the paper's models: where to draw everything, and a description."""

    lines: list[StandingRow]
    ticks: list[Tick]
    has_models: bool
    description: str

    left: int = LEFT
    right: int = RIGHT
    width: int = WIDTH
    top: int = TOP

    @property
    def bottom(self) -> int:
        """The y coordinate, in pixels, where the grid's lines end."""
        return TOP + STEP * len(self.lines)

    @property
    def height(self) -> int:
        """The figure's height in pixels."""
        return self.bottom + 26


def draw(overview: Overview) -> Standing | None:
    """Return a figure that compares this evaluation with the paper's models, in the metrics that lie between 0 and 1.

    Returns None if this evaluation has no result for any of these metrics.
    """
    lines = [line for line in overview.lines if line.is_share]
    if all(line.every is None for line in lines):
        return None
    places = []
    for index, line in enumerate(lines):
        figures = zip(overview.models, line.figures, strict=True)
        points = [(model.startswith(FAMILY), _x(figure)) for model, figure in figures if figure is not None]
        places.append(
            StandingRow(
                label=line.abbreviation,
                y=TOP + STEP * index + STEP // 2,
                ours=None if line.every is None else _x(line.every),
                reach=None if line.low is None or line.high is None else (_x(line.low), _x(line.high)),
                kin=[x for kin, x in points if kin],
                others=[x for kin, x in points if not kin],
            )
        )
    description = "; ".join(
        f"{line.abbreviation} {line.metric} {score(line.every)}"
        + (f", the paper's best {score(line.best)}" if line.best is not None else "")
        for line in lines
    )
    ticks = [Tick(_x(value / 10), f"{value / 10:.1f}") for value in range(0, 11, 2)]
    return Standing(places, ticks, bool(overview.models), f"{description}.")


def _x(value: float) -> float:
    return round(LEFT + (RIGHT - LEFT) * min(max(value, 0.0), 1.0), 1)
