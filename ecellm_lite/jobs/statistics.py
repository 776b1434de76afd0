"""Counts the answers of a job while the job runs.

The counts take a bounded amount of memory, however long the table is.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import heappush, heappushpop

from ecellm_lite.answers.answer import Answer, ModelName, corrects
from ecellm_lite.answers.several_labels import NONE
from ecellm_lite.models.automatic import likeliest
from ecellm_lite.tables.mapped_row import MappedRow
from ecellm_lite.tables.results import shown_text

BINS = 10
DISTINCT = 1000  # at most this many different answers are counted separately
SLOWEST = 10


@dataclass(slots=True)
class ErrorKind:
    """Counts the errors that have the same code.

    `line`, `message`: the line in the table and the message of the first such error.
    """

    code: str
    line: int
    message: str
    count: int = 0


@dataclass(frozen=True, slots=True, order=True)
class SlowRow:
    """A row that took long to answer.

    `line`: the row's line in the table.
    `row`: the row as JSON, with the task's field names.
    `text`: the answer as text.
    """

    seconds: float
    line: int
    id: str
    row: str
    text: str


@dataclass(slots=True)
class TaskStatistics:
    """Counts of the answers to one task.

    `answers`: how many times each answer was given, for at most DISTINCT different answers. For an extraction, how many
      answers have a value and how many have none, for each attribute. For labels, how many answers have each label.
    `others`: the number of answers not counted in `answers` because it already had DISTINCT entries.
    `bins`: the number of answers in ten ranges of probability, all of equal width.
    `automatic`: how many answers needed neither a review nor a correction.
    `reasons`: how many answers need a review, by reason.
    """

    task: str
    answered: int = 0
    abstained: int = 0
    failed: int = 0
    corrected: int = 0
    automatic: int = 0
    others: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    bins: list[int] = field(default_factory=lambda: [0] * BINS)
    errors: dict[str, ErrorKind] = field(default_factory=dict)
    model: ModelName | None = None
    calibration: str | None = None
    _slow: list[SlowRow] = field(default_factory=list)

    @property
    def calibrated(self) -> bool:
        """Whether a calibration corrected the probabilities. A calibration with only thresholds corrects none."""
        return corrects(self.calibration)

    @property
    def slowest(self) -> list[SlowRow]:
        """The rows that took longest, the slowest first.

        The list is empty in deterministic mode, which measures no time.
        """
        return sorted(self._slow, reverse=True)

    def add(self, mapped: MappedRow, answer: Answer, *, reason: str | None, corrected: bool) -> None:
        """Count an answer. `reason` is why a person should review it, or None if no review is needed."""
        self.failed += answer.error is not None
        self.abstained += answer.abstained
        self.corrected += corrected
        self.answered += answer.value is not None
        self.model = self.model or answer.model
        self.calibration = self.calibration or answer.calibration
        if reason:
            self.reasons[reason] += 1
        else:
            self.automatic += not corrected
        for name in _names(answer):
            if name in self.answers or len(self.answers) < DISTINCT:
                self.answers[name] += 1
            else:
                self.others += 1
        if answer.probability is not None:
            self.bins[min(int(answer.probability * BINS), BINS - 1)] += 1
        if answer.error:
            code = answer.error.code
            kind = self.errors.setdefault(code, ErrorKind(code, mapped.source.line, answer.error.message))
            kind.count += 1
        self._time(mapped, answer)

    def _time(self, mapped: MappedRow, answer: Answer) -> None:
        if answer.seconds is None or (len(self._slow) >= SLOWEST and answer.seconds <= self._slow[0].seconds):
            return
        row_text = json.dumps(mapped.row, ensure_ascii=False, default=str)
        id_ = "" if answer.id is None else str(answer.id)
        row = SlowRow(answer.seconds, mapped.source.line, id_, row_text, shown_text(answer) or "")
        if len(self._slow) < SLOWEST:
            heappush(self._slow, row)
        else:
            heappushpop(self._slow, row)


def _names(answer: Answer) -> Iterator[str]:
    """Yield the names under which an answer is counted: for example, its label, or `B first` for a ranking.

    Free text and missing values are not counted by name.
    """
    if answer.value is None:
        return
    if answer.type == "extraction":
        for entry in answer.value:
            yield f"{entry['attribute']}: {'none' if entry['value'] is None else 'a value'}"
    elif answer.type == "labels":
        yield from answer.value or [NONE]
    elif answer.type == "ranking":
        yield f"{answer.value[0]} first"
    elif answer.type == "score":
        yield likeliest(answer) or f"{answer.value:g}"
    elif answer.type in ("predicate", "choice") and answer.text:
        yield shown_text(answer) or answer.text
