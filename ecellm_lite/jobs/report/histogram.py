"""A bar chart of the answers' probabilities. It shows the number of answers in each range of probability."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ecellm_lite.report.plot import Tick
from ecellm_lite.report.shown import share

LEFT, TOP, WIDTH, HEIGHT = 22, 24, 340, 150  # pixels: the margins, and the size of the area that the bars are in


@dataclass(frozen=True, slots=True)
class Bar:
    """The position and size of a bar in pixels, and the number of answers that it shows."""

    left: float
    top: float
    width: float
    height: float
    count: int


@dataclass(frozen=True, slots=True)
class Histogram:
    """The bars, the ticks below them, and a text description of the chart."""

    bars: list[Bar]
    ticks: list[Tick]
    described: str

    left: int = LEFT
    right: int = LEFT + WIDTH
    bottom: int = TOP + HEIGHT
    width: int = WIDTH + 2 * LEFT
    height: int = TOP + HEIGHT + 44


def draw(bins: Sequence[int]) -> Histogram | None:
    """Return the histogram, or None if all counts are 0.

    `bins`: the number of answers in each range. All ranges have the same width.
    """
    most = max(bins)
    if not most:
        return None
    wide = WIDTH / len(bins)
    bars, words = [], []
    for place, number in enumerate(bins):
        tall = max(HEIGHT * number / most, 1.0) if number else 0.0
        bars.append(
            Bar(round(LEFT + place * wide + 1, 1), round(TOP + HEIGHT - tall, 1), wide - 2, round(tall, 1), number)
        )
        if number:
            words.append(f"{number:,} from {share(place / len(bins))} to {share((place + 1) / len(bins))}")
    ticks = [Tick(LEFT + WIDTH * value, share(value)) for value in (0.0, 0.25, 0.5, 0.75, 1.0)]
    return Histogram(bars, ticks, f"{'; '.join(words)}.")
