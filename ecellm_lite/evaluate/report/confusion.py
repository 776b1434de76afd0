"""The confusion matrix as a shaded table of gold answers and the model's answers."""

from __future__ import annotations

from dataclasses import dataclass

from ecellm_lite.evaluate.results import Confusion
from ecellm_lite.report.shown import cut

SHADES = 10  # steps of a cell's color, each a class of the style sheet


@dataclass(frozen=True, slots=True)
class Cell:
    """One count in the matrix, and its share of the total of its row.

    `right`: whether the cell counts right answers. This decides the cell's color.
    `shade`: how strong the color is, from 0 to 10.
    """

    count: int
    share: float
    right: bool
    shade: int


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the confusion matrix. It counts the labelled rows whose gold answer is `label`: `total` rows."""

    label: str
    cells: list[Cell]
    total: int


@dataclass(frozen=True, slots=True)
class Matrix:
    """A confusion matrix ready to be drawn."""

    columns: list[str]
    rows: list[Row]


def draw(confusion: Confusion) -> Matrix | None:
    """Return the matrix, with each cell shaded by its share of the row's total. None if the matrix is empty."""
    if not any(map(any, confusion.counts)):
        return None
    labels = [cut(label, 60) for label in confusion.labels]
    rows = []
    for place, (label, counts) in enumerate(zip(labels, confusion.counts, strict=True)):
        total = sum(counts)
        shares = [number / total if total else 0.0 for number in counts]
        cells = [
            Cell(number, share, column == place, round(SHADES * share) or int(number > 0))
            for column, (number, share) in enumerate(zip(counts, shares, strict=True))
        ]
        rows.append(Row(label, cells, total))
    return Matrix([*labels, "no answer"], rows)
