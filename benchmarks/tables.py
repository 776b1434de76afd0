"""Claim: tables cost little compared with a model.

    pip install polars
    python -m benchmarks.tables

Reading, mapping and writing are measured separately, in rows per second. The tables hold a made-up catalogue.
Its columns are sku, title, brand, price, body (HTML with line ends and quotes), and seven that no task reads. The
measurements are:

- reading: the catalogue as CSV, JSON Lines, Parquet and XLSX. polars reads the same files except XLSX, in the same run.
  It returns whole columns and keeps a file in memory. Our reader yields row after row with its position, in bounded
  memory. Both readers have their default settings.
- mapping (turning columns into a task's fields): rows in memory, once with the body as HTML and once as plain text.
- writing: rows in memory, with an answer for each.
- memory: the peak memory of two processes. One reads, maps and writes a CSV file of 2,000 rows, the other a CSV file of
  all rows.
- short rows: a Parquet file of short rows is read, and written with answers.
"""

from __future__ import annotations

import csv
import gc
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import click
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.facts import write_results
from benchmarks.table_job import ANSWER, OPTIONS, TASK
from ecellm_lite.tables.columns import ColumnMap
from ecellm_lite.tables.opening import open_table
from ecellm_lite.tables.results import AnswerColumns
from ecellm_lite.tables.row import TableRow
from ecellm_lite.tables.writers import ResultWriter, form_of

REPEATS = 3
FEW = 2_000
COLUMNS = ("sku", "title", "brand", "price", "body", *(f"column_{place}" for place in range(7)))
BODY = (
    '<div style="color: #111"><p>A mug for slow mornings &amp; long evenings, number {number}.</p>\n'
    '<ul><li>Holds 350 ml</li><li>Dishwasher safe</li></ul>\n<p>Made in small batches, and "glazed" by hand.</p></div>'
)
PLAIN = "A mug for slow mornings and long evenings, number {number}. Holds 350 ml. Dishwasher safe, and glazed by hand."


@click.command()
@click.option("--rows", type=click.IntRange(FEW), default=200_000, show_default=True)
@click.option("--sheet-rows", type=click.IntRange(1), default=20_000, show_default=True, help="In the spreadsheets.")
@click.option(
    "--short-rows", type=click.IntRange(1), default=1_000_000, show_default=True, help="For the Parquet file."
)
@click.option("--output", type=click.Path(path_type=Path), default=Path("benchmarks/results/tables.json"))
def main(rows: int, sheet_rows: int, short_rows: int, output: Path) -> None:
    """Measure everything and write the results."""
    with tempfile.TemporaryDirectory() as folder:
        files = write_files(Path(folder), rows, sheet_rows)
        results = {
            "catalogue": {"rows": rows, "sheet_rows": sheet_rows, "bytes_a_row": files["csv"].stat().st_size // rows},
            "reading_rows_per_second": {form: reading(path) for form, path in files.items()},
            "mapping_rows_per_second": mapping(min(rows, 20_000)),
            "writing_rows_per_second": writing(Path(folder), min(rows, 20_000)),
            "peak_memory_mib": memory(Path(folder), rows),
            "parquet_of_short_rows": short(Path(folder), short_rows),
        }
    click.echo(json.dumps(results, indent=2), err=True)
    write_results(output, "tables", results)


def catalogue(count: int, body: str = BODY) -> Iterator[dict[str, str]]:
    """Yield `count` rows of a made-up catalogue.

    `body`: the text of the column `body`, in which the row's number replaces {number}.
    """
    for number in range(count):
        values = (
            f"S-{number:07}",
            f'Mug {number}, "blue"',
            "Northpoint",
            f"{number % 97}.50",
            body.format(number=number),
        )
        yield dict(zip(COLUMNS, (*values, *("x",) * 7), strict=True))


def write_files(folder: Path, rows: int, sheet_rows: int) -> dict[str, Path]:
    """Write the made-up catalogue as CSV, JSON Lines, Parquet and XLSX, and return the files' paths by format.

    `sheet_rows`: the number of rows in the XLSX file. The other files have `rows` rows.
    """
    import xlsxwriter

    files = {form: folder / f"catalogue.{form}" for form in ("csv", "jsonl", "parquet", "xlsx")}
    with files["csv"].open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(row.values() for row in catalogue(rows))
    with files["jsonl"].open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in catalogue(rows))
    pq.write_table(pa.Table.from_pylist(list(catalogue(rows))), files["parquet"], row_group_size=20_000)
    with xlsxwriter.Workbook(files["xlsx"], {"constant_memory": True}) as book:
        sheet = book.add_worksheet()
        sheet.write_row(0, 0, COLUMNS)
        for place, row in enumerate(catalogue(sheet_rows), 1):
            sheet.write_row(place, 0, row.values())
    return files


def reading(path: Path) -> dict[str, int | None]:
    """Return how many rows per second our reader and polars read from a file. The rate of polars is None for XLSX."""
    return {"ecellm_lite": rate(lambda: read(path)), "polars": polars_rate(path)}


def read(path: Path) -> int:
    """Read all rows with our reader, and return how many there are."""
    with open_table(path) as table:
        return sum(1 for row in table.rows() if row.error is None)


def polars_rate(path: Path) -> int | None:
    """Return how many rows per second polars reads from a file, or None for XLSX (polars needs another library)."""
    import polars

    readers: Mapping[str, Callable[[Path], Any]] = {
        ".csv": polars.read_csv,
        ".jsonl": polars.read_ndjson,
        ".parquet": polars.read_parquet,
    }
    reader = readers.get(path.suffix)
    return rate(lambda: int(reader(path).height)) if reader else None


def mapping(count: int) -> dict[str, int]:
    """Return how many table rows per second are mapped to a task's fields.

    This is measured twice: with HTML and with plain text in the column `body`.
    """

    def mapped(rows: list[TableRow]) -> int:
        return sum(1 for row in map(ColumnMap(TASK, COLUMNS, OPTIONS).row, rows) if row.row)

    return {name: rate(partial(mapped, table_rows(count, body))) for name, body in (("html", BODY), ("plain", PLAIN))}


def writing(folder: Path, count: int) -> dict[str, int]:
    """Return how many rows per second are written to a table of each format."""
    rows = table_rows(count, BODY)
    return {form: rate(partial(write, folder / f"out.{form}", rows)) for form in ("csv", "jsonl", "parquet", "xlsx")}


def table_rows(count: int, body: str) -> list[TableRow]:
    """Return `count` rows of the made-up catalogue as a list.

    `body`: the text of the column `body`, in which the row's number replaces {number}.
    """
    return [TableRow(number, number, row) for number, row in enumerate(catalogue(count, body), 1)]


def write(path: Path, rows: list[TableRow]) -> int:
    """Write rows with answers, and return how many there are."""
    with path.open("wb") as file:
        writer = ResultWriter(file, form_of(path.name), COLUMNS, AnswerColumns(COLUMNS))
        for row in rows:
            writer.write(row, ANSWER)
        writer.close()
    return len(rows)


def memory(folder: Path, count: int) -> dict[str, float]:
    """Return the peak memory in MiB of two processes. The first gets a CSV file of FEW rows, the second one of `count`.

    Each process reads the file, maps its columns to fields, and writes a table with answers.
    """
    peaks = {}
    for rows in (FEW, count):
        path = folder / f"memory-{rows}.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            writer.writerows(row.values() for row in catalogue(rows))
        command = [sys.executable, "-m", "benchmarks.table_job", "tables", str(path), str(path.with_suffix(".out.csv"))]
        peaks[f"{rows}_rows"] = json.loads(subprocess.check_output(command))["peak_kib"] / 1024
    return {name: round(peak, 1) for name, peak in peaks.items()}


def short(folder: Path, count: int) -> dict[str, int | float]:
    """Read a Parquet file of short rows and write its rows with answers. Returns the seconds and the rate."""
    path = folder / "short.parquet"
    pq.write_table(pa.table({"id": range(count), "title": [f"Mug {number}" for number in range(count)]}), path)
    started = time.perf_counter()
    with open_table(path) as table, (folder / "short.out.parquet").open("wb") as file:
        names = table.all_columns()
        writer = ResultWriter(file, "parquet", names, AnswerColumns(names), schema=table.schema)
        for row in table.rows():
            writer.write(row, ANSWER)
        writer.close()
    seconds = time.perf_counter() - started
    written = pq.ParquetFile(folder / "short.out.parquet").metadata.num_rows
    assert written == count
    return {"rows": count, "seconds": round(seconds, 1), "rows_per_second": round(count / seconds)}


def rate(work: Callable[[], int]) -> int:
    """Return the best rate of a few runs of `work`, in rows per second. `work` returns its number of rows."""
    rates = []
    for _ in range(REPEATS):
        gc.collect()
        started = time.perf_counter()
        count = work()
        rates.append(count / (time.perf_counter() - started))
    return round(max(rates))


if __name__ == "__main__":
    main()
