"""Estimates how long a job will take. It answers a sample of the rows, and extrapolates by the rows' lengths.

The time for a row is assumed to be proportional to the row's number of characters, because more characters make more
tokens. A duplicate row adds no time, because a job answers equal rows once.
"""

from __future__ import annotations

import json
import math
import statistics
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from ecellm_lite.answerer import Answerer, RequestOptions, Row
from ecellm_lite.errors import InputError
from ecellm_lite.jobs.job import Job
from ecellm_lite.jobs.journal import row_key

if TYPE_CHECKING:
    from typing_extensions import Unpack

READ = 100_000  # at most this many rows are read and counted

# Numbers of rows to answer: WARM to warm up the engine, then GROUPS groups of GROUP rows, each timed separately.
WARM, GROUPS, GROUP = 2, 4, 12

_T = 3.182  # Student's t for a 95% range with GROUPS - 1 degrees of freedom


@dataclass(frozen=True, slots=True)
class Estimate:
    """The estimated number of rows, duplicates and seconds of a job.

    `least`, `most`: with a probability of 95%, the job takes between `least` and `most` seconds.
    `counted`: whether all rows of the table were read. Otherwise only its beginning was read.
    `whole`: whether the numbers are for all rows of the table. If only its beginning was read, the numbers are
      extrapolated to the table's size. If the size is not known, they are for the beginning only.
    `answered`: the number of rows answered for the estimate.
    `failed`: how many of the answers for the estimate are errors.
    `models`: the number of answers that each model gave for the estimate.
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
    models: Mapping[str, int]


# One row of the table as each of the job's tasks reads it; None for a task that skips it or cannot read it.
AskedRow = Sequence[Row | None]


@dataclass(slots=True)
class _Sample:
    """A random sample of the distinct rows, and counts over all rows that were read."""

    random: Random
    rows: list[AskedRow]
    read: int = 0
    distinct: int = 0
    size: int = 0  # characters of the distinct rows

    def add(self, row: AskedRow, size: int) -> None:
        self.distinct += 1
        self.size += size
        if len(self.rows) < WARM + GROUPS * GROUP:
            self.rows.append(row)
        elif (place := self.random.randrange(self.distinct)) < len(self.rows):
            self.rows[place] = row


def estimate(job: Job, answerer: Answerer, **options: Unpack[RequestOptions]) -> Estimate:
    """Answer about 50 rows of a job's table, and return an estimate for the whole job.

    Of a long table, only the beginning is read. Raises InputError if no row can be answered.
    """
    sample, ended, share = _read(job)
    if not sample.rows:
        raise InputError(f"{job.table.name} has no row that can be answered", step="check its first rows")
    sample.random.shuffle(sample.rows)
    rows, answered, failed = sample.rows, 0, 0
    models: Counter[str] = Counter()
    rates: list[float] = []  # seconds per character
    for group in _groups(rows):
        started = time.perf_counter()
        for place, part in enumerate(job.tasks):
            task_rows = [row for each in group if (row := each[place]) is not None]
            for answer in answerer.answers(part.task, task_rows, **options):
                failed += answer.error is not None
                if answer.error is None:
                    models[answer.model.title] += 1
        seconds = time.perf_counter() - started
        answered += len(group)
        rates.append(seconds / sum(map(_size, group)))
    rates = rates[1:] or rates  # the first group warmed up
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
        models=models,
    )


def _read(job: Job) -> tuple[_Sample, bool, float | None]:
    """Return a sample of the rows, whether the whole table was read, and which share of it was read.

    The share is None if the whole table was read, or if the table's size is not known.
    """
    sample = _Sample(Random(0), [])  # noqa: S311 - random rows, no secrets
    keys: set[bytes] = set()
    for _, mapped_rows in job.rows():
        rows = [mapped.row for mapped in mapped_rows]
        if all(row is None for row in rows):
            continue
        sample.read += 1
        key = b"".join(b"" if row is None else row_key(row) for row in rows)
        if key not in keys:
            keys.add(key)
            sample.add(rows, _size(rows))
        if sample.read >= READ:
            return sample, False, job.table.share
    return sample, True, None


def _groups(rows: Sequence[AskedRow]) -> list[Sequence[AskedRow]]:
    """Return the rows in groups: first the warm-up rows, then the other rows in groups of equal size.

    The last group may be smaller.
    """
    warm = rows[:WARM]
    others = rows[WARM:]
    size = GROUP if len(others) >= GROUPS * GROUP else max(1, math.ceil(len(others) / GROUPS))
    return [warm, *(others[start : start + size] for start in range(0, len(others), size))]


def _size(row: AskedRow) -> int:
    """Return the number of characters in all fields of the row, except the id.

    If two tasks read the row, its characters count twice.
    """
    fields = [{name: value for name, value in each.items() if name != "id"} for each in row if each is not None]
    return sum(len(json.dumps(each, default=str)) for each in fields)
