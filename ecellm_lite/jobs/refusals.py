"""Corrections that cannot be applied, such as a text that is no answer of the task. Other corrections are applied."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ecellm_lite.errors import EcellmError, InputError, JobError
from ecellm_lite.jobs.review import KEY
from ecellm_lite.jobs.review_entries import Correction, ReviewEntries

_PLACES = 10  # lines named in a sentence, at most
_LONGEST = 40  # characters of a shown correction


@dataclass(frozen=True, slots=True, order=True)
class Refusal:
    """A correction that was not applied: its line in the review table, its text, and what the person should do."""

    line: int
    text: str
    step: str

    @property
    def place(self) -> str:
        """The line and the text, as in `line 3 'splendid'`."""
        text = self.text if len(self.text) <= _LONGEST else f"{self.text[: _LONGEST - 1]}…"
        return f"line {self.line} {text!r}"


def refusals(review: ReviewEntries, errors: Mapping[str, EcellmError]) -> list[Refusal]:
    """Return the corrections of a review table that are not applied, sorted by line.

    `errors`: for each row key with such a correction, the reason. Corrections without a key are not applied either.
    """
    found = [_refusal(each, errors[key]) for key in errors for each in review.corrections[key].lines]
    lost = InputError("The row has no key", step=f"write it into the line that has the row's {KEY}")
    return sorted([*found, *(_refusal(each, lost) for each in review.without_key)])


def refused(path: Path, refusals: Sequence[Refusal]) -> JobError:
    """Return the error that names the corrections in a review table that were not applied, and says what to do.

    Corrections for which the person should do the same are named together.
    """
    by_step: dict[str, list[str]] = {}
    for each in refusals[:_PLACES]:
        by_step.setdefault(each.step, []).append(each.place)
    count = "1 correction" if len(refusals) == 1 else f"{len(refusals):,} corrections"
    more = "; …" if len(refusals) > _PLACES else ""
    listed = "; ".join(f"{', '.join(places)} ({step})" for step, places in by_step.items())
    return JobError(f"{count} in {path} could not be applied, but all others are: {listed}{more}.")


def _refusal(correction: Correction, error: EcellmError) -> Refusal:
    return Refusal(correction.line, correction.text, error.step or error.message.rstrip("."))
