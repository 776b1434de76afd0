"""The outcome of a job in numbers."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from ecellm_lite.answers.answer import Answer


@dataclass(slots=True)
class Tally:
    """How many rows a job wrote, in total and by outcome.

    A row counts once, even if several tasks were asked about it. A row `failed` if one of its answers failed. `reused`
    rows have their answers from the journal, `skipped` rows were not answered, and `repeated_ids` rows have the id of
    an earlier row. `to_review` counts answers in the review table, and `corrected` counts answers that came from a
    person. `models` says how many answers each model gave. `notes` are sentences about what was left out of the table
    or had to be changed to be written.
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
