"""A job's speed and remaining time, measured by the number of tokens that the model computes.

The number of rows would be a bad measure, because rows differ in length. Also, an answer takes no time if it comes from
the journal, or if the row is a repetition.
"""

from __future__ import annotations

from dataclasses import dataclass

from ecellm_lite.answers.answer import Answer
from ecellm_lite.jobs.job_row import JobStep


@dataclass(slots=True)
class Pace:
    """How much of a job is done, and how much is left.

    The job calls `add` with each answer. `started` is the job's start time in seconds.
    """

    started: float
    rows: int = 0
    failed: int = 0
    tokens: int = 0  # tokens of all answers
    computed: int = 0  # tokens of the answers that are not from the journal
    share: float | None = None  # of the table that is done, from 0 to 1

    def add(self, step: JobStep) -> None:
        """Count an answer, its tokens, and the part of the table that is now done."""
        work = computed_tokens(step.answer)
        self.rows = step.number
        self.failed += step.answer.error is not None
        self.tokens += work
        self.computed += 0 if step.reused else work
        self.share = step.share

    @property
    def total_rows(self) -> int | None:
        """The estimated number of rows in the table. None if the job cannot tell how far it has read the table."""
        return round(self.rows / self.share) if self.share else None

    @property
    def total_tokens(self) -> float | None:
        """The estimated number of tokens for the whole table.

        None if the job cannot tell how far it has read the table.
        """
        return self.tokens / self.share if self.share else None

    def seconds_left(self, now: float) -> float | None:
        """Return the estimated seconds until the job ends, or None if too little is known for an estimate."""
        total = self.total_tokens
        if total is None or not self.computed:
            return None
        return (total - self.tokens) * (now - self.started) / self.computed


def computed_tokens(answer: Answer) -> int:
    """Return the number of tokens that the model computed for an answer, or 0 for an answer that failed."""
    usage = answer.usage
    if usage is None:
        return 0
    return usage.prompt_tokens - (usage.cached_tokens or 0) + usage.decoded_tokens + usage.forced_tokens
