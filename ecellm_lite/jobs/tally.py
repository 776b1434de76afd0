"""The numbers that summarize a job."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from ecellm_lite.answers.answer import Answer
from ecellm_lite.jobs.refusals import Refusal


@dataclass(slots=True)
class Tally:
    """The number of rows that a job wrote, in total and by outcome.

    If a job asks several tasks about each row, a row still counts once.

    `failed`: how many rows have at least one failed answer.
    `shortened`: how many rows were shortened, or have a shortened answer.
    `reused`: how many rows got all their answers from the journal.
    `skipped`: how many rows were skipped and got no answer.
    `unanswered`: how many rows have no answer yet, because only corrections were applied.
    `repeated_ids`: how many rows have the id of an earlier row.
    `to_review`: how many answers are in the review table.
    `corrected`: how many answers came from a person.
    `models`: how many answers each model gave.
    `notes`: sentences about parts of the table that were left out or had to be changed.
    `refusals`: the corrections of a review table that could not be applied.
    """

    rows: int = 0
    failed: int = 0
    shortened: int = 0
    abstained: int = 0
    skipped: int = 0
    unanswered: int = 0
    reused: int = 0
    repeated_ids: int = 0
    to_review: int = 0
    corrected: int = 0
    seconds: float = 0.0
    models: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)

    def count(self, *answers: Answer) -> None:
        """Count a row with these answers, one for each task.

        The row counts as failed, shortened or abstained if any of its answers is.
        """
        self.rows += 1
        self.failed += any(answer.error is not None for answer in answers)
        self.shortened += any(answer.shortened is not None for answer in answers)
        self.abstained += any(answer.abstained for answer in answers)
        self.models.update(answer.model.title for answer in answers if answer.error is None)
