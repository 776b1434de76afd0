"""A job's result in numbers."""

from __future__ import annotations

from dataclasses import dataclass, field

from ecellm_lite.answers.answer import Answer


@dataclass(slots=True)
class Tally:
    """How many rows a job wrote, in all and by outcome.

    `reused` rows had their answer in the journal, `skipped` ones were not answered, `repeated_ids` had the id of an
    earlier row. `to_review` rows are in the review table, and `corrected` ones have a person's answer. `notes` say what
    was left out of the table or could not be written unchanged.
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
    notes: list[str] = field(default_factory=list)

    def count(self, answer: Answer) -> None:
        """Count an answer."""
        self.rows += 1
        self.failed += answer.error is not None
        self.shortened += answer.shortened is not None
        self.abstained += answer.abstained
