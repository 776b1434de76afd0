"""How fast a job is and how long the rest will take, measured in tokens that the model computes, not in rows.

Rows differ in length, and an answer from the journal or to a repeated row takes no time at all.
"""

from __future__ import annotations

from dataclasses import dataclass

from ecellm_lite.answers.answer import Answer
from ecellm_lite.jobs.job_row import JobStep


@dataclass(slots=True)
class Pace:
    """What a job has done since the time `started`, in seconds; the job calls `add` with each answer."""

    started: float
    rows: int = 0
    failed: int = 0
    tokens: int = 0  # tokens of all answers
    computed: int = 0  # tokens of the answers that are not from the journal
    share: float | None = None  # of the table that is done, from 0 to 1

    def add(self, step: JobStep) -> None:
        """Count an answer."""
        work = computed_tokens(step.answer)
        self.rows = step.number
        self.failed += step.answer.error is not None
        self.tokens += work
        self.computed += 0 if step.reused else work
        self.share = step.share

    @property
    def total_rows(self) -> int | None:
        """The rows of the whole table, estimated from the share that is done; None if that share is unknown."""
        return round(self.rows / self.share) if self.share else None

    @property
    def total_tokens(self) -> float | None:
        """The tokens that the whole table takes, estimated from the share that is done; None without that share."""
        return self.tokens / self.share if self.share else None

    def seconds_left(self, now: float) -> float | None:
        """Return how many seconds the rest of the job will take at the rate so far; None if it cannot be told yet."""
        total = self.total_tokens
        if total is None or not self.computed:
            return None
        return (total - self.tokens) * (now - self.started) / self.computed


def computed_tokens(answer: Answer) -> int:
    """Return how many tokens the model computed for an answer; 0 for an answer that failed."""
    usage = answer.usage
    if usage is None:
        return 0
    return usage.prompt_tokens - (usage.cached_tokens or 0) + usage.decoded_tokens + usage.forced_tokens
