"""Tests that the report's figures have the coordinates and numbers that were computed by hand."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecellm_lite.evaluate.report import confusion, reliability, risk
from ecellm_lite.evaluate.results import Confusion, Reliability, ReliabilityBin, RiskPoint
from ecellm_lite.report import shown
from ecellm_lite.report.shown import threshold


def figures_in(text: str) -> list[str]:
    return re.findall(r"\d+(?:\.\d+)?%?", text)


def test_the_reliability_diagram_is_as_computed_by_hand() -> None:
    bins = [
        ReliabilityBin(0.0, 0.5, 0, 0.0, 0.0),
        ReliabilityBin(0.5, 0.75, 4, 0.6, 0.5),
        ReliabilityBin(0.75, 1.0, 16, 0.9, 0.75),
    ]
    diagram = reliability.draw(Reliability(bins, 0.14, 0.2, 20))
    assert diagram is not None
    low, high = diagram.groups  # nothing is drawn for the empty one
    assert (low.x, low.y, low.expected) == (54 + 180, 14 + 150, 14 + 120)
    assert (low.left, low.width, low.tall, low.radius) == (54 + 150, 75, 11, 4)
    assert (high.tall, high.radius) == (44, 6)
    assert figures_in(diagram.reading)[:3] == ["20", "84%", "70%"]
    assert "0.140" in diagram.reading
    assert figures_in(diagram.description)[:4] == ["4", "60%", "50%", "16"]
    assert reliability.draw(Reliability(bins[:1], 0.0, 0.0, 0)) is None


@pytest.mark.parametrize(
    ("claimed", "right", "verdict"),
    [(0.8, 0.81, "about as often"), (0.6, 0.8, "more often"), (0.9, 0.8, "more confident")],
)
def test_the_reliability_diagram_has_a_verdict(claimed: float, right: float, verdict: str) -> None:
    diagram = reliability.draw(Reliability([ReliabilityBin(0.5, 1.0, 50, claimed, right)], 0.1, 0.1, 50))
    assert diagram is not None
    assert verdict in diagram.reading


def test_the_risk_curve_is_as_computed_by_hand() -> None:
    points = [RiskPoint(0.99, 0.05, 0.0), RiskPoint(0.9, 0.5, 0.9), RiskPoint(0.4, 1.0, 0.7)]
    curve = risk.draw(points, 100)
    assert curve is not None
    # Five answers are too few to draw; the rest are above a half, where the scale begins.
    assert curve.plot.floor == 0.5
    assert curve.path == "M204.0 74.0L354.0 194.0"
    assert figures_in(curve.reading) == ["100%", "70%", "0.9000", "50%", "90%"]
    whole = risk.draw(points, 1000)
    assert whole is not None
    assert whole.plot.floor == 0
    assert whole.path.startswith("M69.0 314.0L")
    assert risk.draw(points, 8) is None


@given(st.floats(0, 1))
def test_a_shown_threshold_is_never_rounded_up(probability: float) -> None:
    assert probability - 1e-4 <= float(threshold(probability)) <= probability


@given(st.integers(1, 2000))
def test_a_long_curve_keeps_its_ends(size: int) -> None:
    points = [RiskPoint(1 - index / size, (index + 1) / size, 0.5) for index in range(size)]
    curve = risk.thinned(points, 12)
    assert len(curve) == min(size, 12)
    assert curve[0] is points[0]
    assert curve[-1] is points[-1]
    assert len({point.answered for point in curve}) == len(curve)


def test_the_confusion_matrix_is_as_computed_by_hand() -> None:
    matrix = confusion.draw(Confusion(["yes", "no"], [[90, 1, 9], [0, 0, 0]]))
    assert matrix is not None
    assert matrix.columns == ["yes", "no", "no answer"]
    first, second = matrix.rows
    assert [(cell.share, cell.right, cell.shade) for cell in first.cells] == [
        (0.9, True, 9),
        (0.01, False, 1),  # any count above zero has a color
        (0.09, False, 1),
    ]
    assert first.total == 100
    assert [cell.shade for cell in second.cells] == [0, 0, 0]
    assert confusion.draw(Confusion(["yes", "no"], [[0, 0, 0], [0, 0, 0]])) is None


def test_numbers_are_shown_rounded() -> None:
    assert [shown.share(value) for value in (0, 0.0001, 0.25, 0.996, 0.9999, 1, None)] == [
        "0%", "0.1%", "25%", "99.6%", "99.9%", "100%", "–",  # noqa: RUF001
    ]  # fmt: skip
    assert [shown.span(value) for value in (0.126, 12, 754.3, 3600, 7322, None)] == [
        "0.13 s", "12 s", "12 min 34 s", "1 h 0 min", "2 h 2 min", "–",  # noqa: RUF001
    ]  # fmt: skip
    assert [shown.rate(value) for value in (0.123, 12.34, 1234.5)] == ["0.12", "12.3", "1,234"]
    assert [shown.brief(value) for value in (999, 12_345, 3_000_000)] == ["999", "12k", "3M"]
    assert [shown.score(value) for value in (0.8765, 1, float("nan"))] == ["0.876", "1.000", "–"]  # noqa: RUF001


@given(st.text(max_size=300), st.integers(8, 100))
def test_a_cut_text_keeps_its_beginning_and_end(text: str, limit: int) -> None:
    seen = shown.cut(text, limit)
    if len(text) <= limit:
        assert seen == shown.clean(text)
    else:
        head, tail = shown.clean(text[: limit - limit // 4]), shown.clean(text[len(text) - limit // 4 :])
        # A CR LF pair split by the cut is shown as a symbol on one side.
        assert seen.startswith(head[:-1])
        assert seen.endswith(tail)
        assert f"[{len(text) - limit:,} " in seen
