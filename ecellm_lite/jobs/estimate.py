"""How long a job will take, by some of its rows: they are answered, and the rest is counted by its length.

A prompt's time goes with its tokens, and so, within one table, with the characters of its row. Rows that say the same
are answered once.
"""

from __future__ import annotations

import json
import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from ecellm_lite.answerer import Answerer, RequestOptions, Row
from ecellm_lite.errors import InputError
from ecellm_lite.jobs.job import Job
from ecellm_lite.jobs.journal import row_key

if TYPE_CHECKING:
    from typing_extensions import Unpack

READ = 100_000  # rows that are read at most, to count and to draw from

# Rows that are answered: some that warm the engine up, and groups whose times are told apart.
WARM, GROUPS, GROUP = 2, 4, 12

_T = 3.182  # of Student's distribution with GROUPS - 1 degrees of freedom, for a range that holds in 95 of 100 cases


@dataclass(frozen=True, slots=True)
class Estimate:
    """A job's rows, how many of them say what a row before them says, and the seconds that they take, with a range.

    `counted`: the rows were counted to the last; otherwise they are reckoned from the share of the file that was read.
    Where that is not known either they are not the `whole`, but those that were read. `answered` rows were tried, of
    which `failed` have an error.
    """

    rows: int
    duplicates: int
    counted: bool
    whole: bool
    answered: int
    failed: int
    seconds: float
    least: float
    most: float


@dataclass(slots=True)
class _Sample:
    """Some distinct rows, each as likely as any other, and what was read in all."""

    random: Random
    rows: list[Row]
    read: int = 0
    distinct: int = 0
    size: int = 0  # characters of the distinct rows

    def add(self, row: Row, size: int) -> None:
        self.distinct += 1
        self.size += size
        if len(self.rows) < WARM + GROUPS * GROUP:
            self.rows.append(row)
        elif (place := self.random.randrange(self.distinct)) < len(self.rows):
            self.rows[place] = row


def estimate(job: Job, answerer: Answerer, **options: Unpack[RequestOptions]) -> Estimate:
    """Read a job's table, or its beginning, answer some 50 of its rows, and return what the whole takes.

    Raises InputError where no row can be asked.
    """
    sample, ended, share = _read(job)
    if not sample.rows:
        raise InputError(f"{job.table.name} has no row that can be answered", step="look at its first rows")
    sample.random.shuffle(sample.rows)
    rows, answered, failed = sample.rows, 0, 0
    rates: list[float] = []  # seconds a character
    for group in _groups(rows):
        started = time.perf_counter()
        answers = list(answerer.answers(job.task, group, **options))
        seconds = time.perf_counter() - started
        answered += len(answers)
        failed += sum(answer.error is not None for answer in answers)
        rates.append(seconds / sum(map(_size, group)))
    rates = rates[1:] or rates  # the first warmed up
    rate = statistics.fmean(rates)
    error = _T * statistics.stdev(rates) / math.sqrt(len(rates)) if len(rates) > 1 else rate
    factor = 1.0 if ended else 1 / share if share else 1.0
    characters = sample.size * factor
    return Estimate(
        rows=round(sample.read * factor),
        duplicates=round((sample.read - sample.distinct) * factor),
        counted=ended,
        whole=ended or bool(share),
        answered=answered,
        failed=failed,
        seconds=rate * characters,
        least=max(rate - error, min(rates) / 2) * characters,
        most=(rate + error) * characters,
    )


def _read(job: Job) -> tuple[_Sample, bool, float | None]:
    """Return a sample of the table's rows, whether they were read to the last, and else the share that was read."""
    sample = _Sample(Random(0), [])  # noqa: S311 - it draws rows, and no secrets
    seen: set[bytes] = set()
    for mapped in job.columns.rows(job.table):
        if mapped.row is None:
            continue
        sample.read += 1
        key = row_key(mapped.row)
        if key not in seen:
            seen.add(key)
            sample.add(mapped.row, _size(mapped.row))
        if sample.read >= READ:
            return sample, False, job.table.share
    return sample, True, None


def _groups(rows: Sequence[Row]) -> list[Sequence[Row]]:
    """Return the rows that warm up, then groups of the others, which have equal sizes as far as they go."""
    warm = rows[:WARM]
    others = rows[WARM:]
    size = GROUP if len(others) >= GROUPS * GROUP else max(1, math.ceil(len(others) / GROUPS))
    return [warm, *(others[start : start + size] for start in range(0, len(others), size))]


def _size(row: Row) -> int:
    """Return a row's characters, its id left out."""
    return len(json.dumps({name: value for name, value in row.items() if name != "id"}, default=str))
