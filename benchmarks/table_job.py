"""Reads, maps and writes a table with a made-up answer for each row, and prints the process's peak memory in KiB.

    python -m benchmarks.table_job CATALOGUE.csv

`tables.py` runs it in separate processes. It imports only what a job needs from the tables' code, and nothing that
measures.
"""

from __future__ import annotations

import sys
from pathlib import Path

from ecellm_lite.answers.answer import Answer, ModelName
from ecellm_lite.tables.columns import ColumnMap, MapOptions
from ecellm_lite.tables.opening import open_table
from ecellm_lite.tables.results import AnswerColumns
from ecellm_lite.tables.writers import ResultWriter
from ecellm_lite.tasks.registry import TASKS

TASK = TASKS["attribute_value_extraction"]
OPTIONS = MapOptions(map=["description=body"], constants={"attributes": ["Color", "Material"]})
ANSWER = Answer(
    id=None, task=TASK.name, type="text", value="blue", text="blue", probability=0.8123456789, probabilities=None,
    confidence=0.7, coverage=0.99, abstained=False, usage=None, seconds=None, model=ModelName("demo", "0"),
    envelope="alpaca",
)  # fmt: skip


def main() -> None:
    """Read, map and write the file."""
    path = Path(sys.argv[1])
    with open_table(path) as table, path.with_suffix(".out.csv").open("wb") as file:
        names = table.all_columns()
        writer = ResultWriter(file, "csv", names, AnswerColumns(names))
        for row in ColumnMap(TASK, names, OPTIONS).rows(table):
            writer.write(row.source, ANSWER)
        writer.close()
    print(peak())


def peak() -> int:
    """Return this process's peak memory in KiB, on Linux; getrusage would return its parent's if that is larger."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1])


if __name__ == "__main__":
    main()
