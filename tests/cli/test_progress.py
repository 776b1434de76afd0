"""Tests that progress bars do not write to standard output.

Also tests that a conversion's bar appears only when the first block is written.
"""

from __future__ import annotations

import io
import re
import sys

import pytest
from rich.console import Console

from ecellm_lite.answers.answer import Answer, ModelName, Usage
from ecellm_lite.cli import progress
from ecellm_lite.convert.pipeline import ConversionProgress
from ecellm_lite.jobs.job_row import JobStep


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """Return a simulated terminal that collects what a progress bar writes."""
    screen = io.StringIO()
    monkeypatch.setattr(progress, "Console", lambda **_: Console(force_terminal=True, file=screen, width=120))
    return screen


@pytest.mark.usefixtures("terminal")
def test_the_progress_bar_does_not_capture_standard_output() -> None:
    before = sys.stdout
    with progress.rows_progress(3, hidden=False):
        assert sys.stdout is before


def test_a_conversion_shows_no_bar_before_its_first_block(terminal: io.StringIO) -> None:
    with progress.conversion_progress(hidden=False) as advance:
        assert advance is not None
        assert terminal.getvalue() == ""
        advance(ConversionProgress(1 << 20, 2 << 20, 1e9, 1.0))
        advance(ConversionProgress(2 << 20, 2 << 20, 1e9, 0.0))
    assert "1.00 GB/s" in terminal.getvalue()


def test_a_hidden_bar_has_no_callback() -> None:
    with progress.conversion_progress(hidden=True) as advance:
        assert advance is None


def test_a_job_shows_the_time_left(terminal: io.StringIO) -> None:
    usage, model = Usage(10, 0, 0, 0), ModelName("demo", "")
    answer = Answer(None, "t", "text", "x", "x", None, None, None, None, False, usage, None, model, "alpaca")
    with progress.job_progress(hidden=False) as advance:
        for number in range(1, 26):
            advance(JobStep(answer, number, number / 100, False))
    shown = terminal.getvalue()
    assert re.search(r"\b25 .*\b100\b", shown)
    assert "left" in shown
