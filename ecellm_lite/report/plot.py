"""The layout of a square plot whose values are fractions from 0 to 1."""

from __future__ import annotations

from dataclasses import dataclass

from ecellm_lite.report.shown import share

LEFT, TOP, SIDE, RIGHT = 54, 14, 300, 22  # pixels: room for the labels, and the square's side


@dataclass(frozen=True, slots=True)
class Tick:
    """A line of the plot's grid. `at` is its position in pixels."""

    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Plot:
    """The layout of a square plot. The x axis runs from 0 to 1, and the y axis from `floor` to 1.

    `below` is extra space under the square, in pixels.
    """

    floor: float = 0.0
    below: int = 0

    left: int = LEFT
    top: int = TOP
    side: int = SIDE

    @property
    def width(self) -> int:
        """The picture's width in pixels."""
        return LEFT + SIDE + RIGHT

    @property
    def height(self) -> int:
        """The picture's height in pixels, including the labels under the square plot."""
        return TOP + SIDE + self.below + 46

    def x(self, value: float) -> float:
        """Return the x coordinate of a value from 0 to 1, in pixels from the left."""
        return round(LEFT + SIDE * value, 1)

    def y(self, value: float) -> float:
        """Return the y coordinate of a value, in pixels from the top. A value below `floor` is drawn at `floor`."""
        return round(TOP + SIDE * (1 - (max(value, self.floor) - self.floor) / (1 - self.floor)), 1)

    @property
    def across(self) -> list[Tick]:
        """The grid's vertical lines, with their labels on the x axis."""
        return [Tick(self.x(value), share(value)) for value in (0, 0.25, 0.5, 0.75, 1)]

    @property
    def upwards(self) -> list[Tick]:
        """The grid's horizontal lines, with their labels on the y axis."""
        steps = 5 if self.floor else 4
        values = [self.floor + (1 - self.floor) * index / steps for index in range(steps + 1)]
        return [Tick(self.y(value), share(value)) for value in values]
