"""Tests the error for a job whose settings are not those of its stored answers. The error names what differs."""

from __future__ import annotations

from pathlib import Path

import pytest

from ecellm_lite.jobs.difference import other_settings

FACTS = {
    "model": "demo " + "a" * 64,
    "envelope": "alpaca",
    "task": "kind 0123; tone 4567",
    "instruction": "Choose the kind.; Choose the tone.",
    "form of the answer": "the task's own",
    "shorten": "False",
    "least probability": "None",
    "calibration": "none; none",
    "seed": "0",
}
FITTED = "kind T=1.62 (319 rows, 3f2a9c1b)"


@pytest.mark.parametrize(
    ("change", "settings", "values", "absent"),
    [
        ({"calibration": f"{FITTED}; none"}, ("calibration",), ["of kind", "none", "T=1.62 (319 rows"], "tone"),
        ({"model": "demo " + "b" * 64}, ("model",), ["demo (aaaaaaaa)", "demo (bbbbbbbb)"], "kind"),
        ({"task": "kind 0123; tone 89ab", "instruction": "Choose the kind.; Say it."}, ("task",), ["tone"], "kind"),
        ({"instruction": "Choose the kind.; Say it."}, ("instruction",), ["of tone", "the tone.", "Say"], "kind"),
        ({"instruction": "Choose; then stop.; Say it."}, ("instruction",), ["Choose; then stop.; Say it."], "tone T"),
        (
            {"task": "kind 0123", "instruction": "Choose the kind.", "calibration": FITTED},
            ("task", "calibration"),
            ["kind, tone", "of kind", "T=1.62"],
            "Choose",
        ),
        ({"seed": "7", "least probability": "0.5"}, ("min_probability", "seed"), ["none", "0.5", "0", "7"], "kind"),
    ],
)  # fmt: skip
def test_the_error_names_what_differs(
    change: dict[str, str], settings: tuple[str, ...], values: list[str], absent: str
) -> None:
    error = other_settings(Path("answers.csv.journal"), FACTS, FACTS | change)
    assert error.settings == (*settings, "restart")
    assert [value for value in ["answers.csv.journal", *values] if value not in error.message] == []
    assert absent not in error.message


def test_the_advice_for_a_calibration_fitted_since_is_another_one() -> None:
    path, fitted = Path("journal"), FACTS | {"calibration": f"{FITTED}; none"}
    began_without = other_settings(path, FACTS, fitted)
    began_with = other_settings(path, fitted, FACTS)
    assert began_without.step != began_with.step
    assert began_with.step == other_settings(path, FACTS, FACTS | {"seed": "1"}).step


def test_a_cascade_that_began_with_a_calibration_is_not_advised_to_turn_it_off() -> None:
    path, name, now = Path("journal"), "calibration of model 2", {"calibration of model 2": f"{FITTED}; none"}
    without = FACTS | {name: "none; none"}
    first_fitted = without | {"calibration": f"{FITTED}; none"}
    usual = other_settings(path, FACTS, FACTS | {"seed": "1"}).step
    assert other_settings(path, without, without | now).step != usual
    assert other_settings(path, first_fitted, first_fitted | now).step == usual
