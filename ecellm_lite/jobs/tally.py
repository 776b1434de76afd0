"""The numbers that sum up a job."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from ecellm_lite.answers.answer import Answer


@dataclass(slots=True)
class Tally:
    """The number of rows that a job wrote, in total and by outcome.

    A row counts once, even if several tasks were asked about it. `failed` counts rows with at least one failed answer.
    `reused` counts rows with answers from the journal, `skipped` counts rows that were not asked about, and
    `repeated_ids` counts rows with the id of an earlier row. `to_review` counts answers in the review table, and
    `corrected` counts answers that came from a person. `models` has the number of answers that each model gave. `notes`
    are sentences about parts of the table that were left out or had to be changed.
    """

    rows: int = 0
    failed: int = 0
    shortened: int = 0
    abstained: int = 0
    skipped: int = 0
    reused: int = 0
    repeated_ids: int = 0
    to_review: int = 0
    corrected: int = 0
    seconds: float = 0.0
    models: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    def count(self, *answers: Answer) -> None:
        """Count a row and the outcomes of its answers."""
        self.rows += 1
        self.failed += any(answer.error is not None for answer in answers)
        self.shortened += any(answer.shortened is not None for answer in answers)
        self.abstained += any(answer.abstained for answer in answers)
        self.models.update(answer.model.title for answer in answers)
