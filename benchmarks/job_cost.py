"""Claim: a job's table and journal cost at most a tenth of the demo's time per row, and memory does not grow.

    python -m benchmarks.job_cost

A job reads the CSV catalogue of `tables.py`, maps its columns to a task's fields, writes the answers and keeps a
journal. A stub takes the model's place, so everything except the model's work is measured. The processor time per row
is compared with the time of the demo model on its fastest task (results/throughput.json). Peak memory is measured in a
separate process (table_job.py), after 2,000 rows and at the end. A second job reads and writes a Parquet file of short
rows, without a journal.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.facts import write_results
from benchmarks.table_job import FEW
from benchmarks.tables import COLUMNS, catalogue

MOST = 0.1  # of the demo's processor time
GROWTH = 0.05  # of the memory that a few rows take
THROUGHPUT = Path("benchmarks/results/throughput.json")


@click.command()
@click.option("--rows", type=click.IntRange(FEW), default=200_000, show_default=True)
@click.option("--short-rows", type=click.IntRange(1), default=1_000_000, show_default=True, help="Of the Parquet file.")
@click.option("--output", type=click.Path(path_type=Path), default=Path("benchmarks/results/job_cost.json"))
def main(rows: int, short_rows: int, output: Path) -> None:
    """Measure a job, and the reading and writing of a Parquet file. A stub gives the answers."""
    with tempfile.TemporaryDirectory() as folder:
        whole = job(Path(folder), rows)
        short = parquet(Path(folder), short_rows)
    tasks = json.loads(THROUGHPUT.read_text("utf-8"))["tasks"]
    least = min(task["cpu_seconds_a_row"]["ecellm-lite"] for task in tasks.values())
    seconds = whole["cpu_seconds"] / rows
    figures = {
        "rows": rows,
        "milliseconds_a_row": round(1000 * seconds, 3),
        "of_the_demos_least": round(seconds / least, 4),
        "journal_bytes_a_row": whole["journal_bytes"] // rows,
        "few_rows": FEW,
        "peak_memory_mib": {"few": _mib(whole["peak_kib_after_few"]), "all": _mib(whole["peak_kib"])},
        "parquet": {
            "rows": short_rows,
            "rows_per_cpu_second": round(short_rows / short["cpu_seconds"]),
            "peak_memory_mib": _mib(short["peak_kib"]),
        },
    }
    click.echo(json.dumps(figures, indent=2), err=True)
    write_results(output, "job_cost", figures)
    if seconds > MOST * least:
        raise SystemExit("Table and journal cost more than a tenth of a row's time.")
    if whole["peak_kib"] > (1 + GROWTH) * whole["peak_kib_after_few"]:
        raise SystemExit("A long job takes more memory than a short one.")


def job(folder: Path, count: int) -> dict[str, Any]:
    """Return the processor time, peak memory and journal size of a job with `count` rows."""
    source = folder / f"catalogue-{count}.csv"
    with source.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(row.values() for row in catalogue(count))
    return taken("job", source, folder / f"answers-{count}.csv")


def parquet(folder: Path, count: int) -> dict[str, Any]:
    """Return the processor time and peak memory for a Parquet file of `count` short rows.

    Also checks that no row is lost.
    """
    source, output = folder / "short.parquet", folder / "short.out.parquet"
    columns = {"id": range(count), "title": [f"Mug {number}" for number in range(count)]}
    pq.write_table(pa.table(columns), source, row_group_size=100_000)
    facts = taken("tables", source, output)
    assert pq.read_table(output, columns=list(columns)).equals(pq.read_table(source))
    return facts


def taken(how: str, source: Path, output: Path) -> dict[str, Any]:
    """Run table_job.py in a process of its own, and return the measurements that it prints.

    `how`: `job` for a job with a journal, or `tables` to only read and write the table.
    """
    command = [sys.executable, "-m", "benchmarks.table_job", how, str(source), str(output)]
    facts: dict[str, Any] = json.loads(subprocess.check_output(command))
    return facts


def _mib(kibibytes: int) -> float:
    return round(kibibytes / 1024, 1)


if __name__ == "__main__":
    main()
