"""Reads and writes a table with a made-up answer for each row, and prints the process's time and memory as JSON.

    python -m benchmarks.table_job tables|job CATALOGUE OUTPUT

`tables` reads the table, maps its columns to a task's fields, and writes the columns with the answers. `job` also
writes a job's journal. The answers take no time, so everything except the model's work is measured. `tables.py` and
`job_cost.py` run this module in a separate process. This module imports neither `tables.py` nor `job_cost.py`, so that
the process needs little memory.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from ecellm_lite.answerer import RequestOptions, Row
from ecellm_lite.answers.answer import Answer, ModelName, Usage
from ecellm_lite.envelopes import Envelope, get_envelope
from ecellm_lite.errors import InputError
from ecellm_lite.jobs.job import JobOptions, open_job
from ecellm_lite.jobs.job_row import JobStep
from ecellm_lite.jobs.journal import journal_of
from ecellm_lite.tables.columns import ColumnMap, MapOptions
from ecellm_lite.tables.opening import open_table
from ecellm_lite.tables.results import AnswerColumns
from ecellm_lite.tables.writers import ResultWriter, form_of
from ecellm_lite.tasks.registry import TASKS
from ecellm_lite.tasks.task import Task

if TYPE_CHECKING:
    from typing_extensions import Unpack

TASK = TASKS["attribute_value_extraction"]
FEW = 2_000
ATTRIBUTES = {"attributes": ["Color", "Material"]}
OPTIONS = MapOptions(map=["description=body"], constants=ATTRIBUTES)
ANSWER = Answer(
    id=None, task=TASK.name, type="text", value="blue", text="blue", probability=0.8123456789, probabilities=None,
    confidence=0.7, coverage=0.99, abstained=False, usage=None, seconds=None, model=ModelName("demo", "0"),
    envelope="alpaca",
)  # fmt: skip


EXTRACTION = replace(
    ANSWER,
    type="extraction",
    value=[
        {"attribute": name, "value": "blue", "source": "product title", "probability": 0.8123456789, "written": "Blue"}
        for name in ATTRIBUTES["attributes"]
    ],
    usage=Usage(180, 62, 24, 40),
    seconds=0.123456,
)


class Instant:
    """An Answerer that returns the same made-up answer for every row, at once."""

    model: ModelName = ANSWER.model
    envelope: Envelope = get_envelope(ANSWER.envelope)
    tasks: tuple[str, ...] = tuple(TASKS)
    adapters: Mapping[str, str] = MappingProxyType({})

    def submit(self, task: str | Task, row: Row | InputError, **options: Unpack[RequestOptions]) -> Future[Answer]:
        """Return a future that has the answer already."""
        future: Future[Answer] = Future()
        future.set_result(EXTRACTION)
        return future

    def answer(self, task: str | Task, row: Row, **options: Unpack[RequestOptions]) -> Answer:
        """Return the made-up answer, which is the same for every row."""
        return EXTRACTION

    def answers(
        self, task: str | Task, rows: Iterable[Row | InputError], **options: Unpack[RequestOptions]
    ) -> Iterator[Answer]:
        """Yield the made-up answer for each row."""
        return (EXTRACTION for _ in rows)

    def close(self) -> None:
        """Do nothing."""


def main() -> None:
    """Read and write the table, and print the time and memory."""
    how, source, output = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    few: list[int] = []
    rows = job(source, output, few) if how == "job" else tables(source, output)
    facts = {"rows": rows, "cpu_seconds": time.process_time(), "peak_kib": peak()}
    if how == "job":
        facts |= {"peak_kib_after_few": few[0], "journal_bytes": journal_of(output).stat().st_size}
    print(json.dumps(facts))


def tables(source: Path, output: Path) -> int:
    """Read a table, map its columns to the task's fields, and write it with answers. Return the number of rows."""
    count = 0
    with open_table(source) as table, output.open("wb") as file:
        names = table.all_columns()
        writer = ResultWriter(file, form_of(output.name), names, AnswerColumns(names), schema=table.schema)
        for row in ColumnMap(TASK, names, options_for(names)).rows(table):
            writer.write(row.source, ANSWER)
            count += 1
        writer.close()
    return count


def job(source: Path, output: Path, few: list[int]) -> int:
    """Answer the table as a job with a journal, and return the number of rows.

    After the first FEW rows, the process's peak memory (KiB) is appended to the list `few`.
    """

    def note(step: JobStep) -> None:
        if step.number == FEW:
            few.append(peak())

    with open_table(source) as table:
        options = JobOptions(map=options_for(table.all_columns()))
    with open_job(source, output, TASK, options) as opened:
        return opened.run(Instant(), progress=note).rows


def options_for(columns: Iterable[str]) -> MapOptions:
    """Return the options that map a table with these columns to a task's fields. The column `body` may be missing."""
    return OPTIONS if "body" in columns else MapOptions(constants=ATTRIBUTES)


def peak() -> int:
    """Return this process's peak memory in KiB (Linux only).

    getrusage is not used. In a child process, it can return the peak of the parent process.
    """
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1])


if __name__ == "__main__":
    main()
