"""Tables about catalogues: reading tables, jobs, and the time for many rows."""

from __future__ import annotations

from benchmarks import scaling
from benchmarks.page_tables.sources import provenance, results, table


def tables() -> str:
    """Return a table of how fast tables are read and written without a model, in rows per second."""
    facts = results("tables")
    rows = []
    for form, rates in facts["reading_rows_per_second"].items():
        peer = f"{rates['polars']:,}" if rates["polars"] else "not measured"
        rows.append((form, f"{rates['ecellm_lite']:,}", peer, f"{facts['writing_rows_per_second'][form]:,}"))
    peak, mapping = facts["peak_memory_mib"], facts["mapping_rows_per_second"]
    return (
        f"{table(('rows/s', 'read', 'read by polars', 'written'), rows)}\n\nMapping columns to fields: "
        f"{mapping['plain']:,} rows/s, {mapping['html']:,} where cells are HTML. Peak memory was "
        f"{peak['2000_rows']:.0f} MiB after 2,000 rows and {peak['200000_rows']:.0f} MiB after 200,000 "
        f"{provenance('tables')}."
    )


def job_cost() -> str:
    """Return a paragraph on a job's time, its memory and the size of its journal. The model's work is not counted."""
    facts = results("job_cost")
    peak, parquet = facts["peak_memory_mib"], facts["parquet"]
    return (
        f"A whole job, with its journal and all but a model, takes {facts['milliseconds_a_row']:.2f} ms of processor "
        f"time a row, which is {facts['of_the_demos_least']:.1%} of what the demo takes for its shortest rows. Its "
        f"peak memory was {peak['few']:.0f} MiB after {facts['few_rows']:,} rows and {peak['all']:.0f} MiB after "
        f"{facts['rows']:,}; the journal has {facts['journal_bytes_a_row']:,} bytes a row. A Parquet file of "
        f"{parquet['rows']:,} short rows went in and out at {parquet['rows_per_cpu_second']:,} rows/s in "
        f"{parquet['peak_memory_mib']:.0f} MiB {provenance('job_cost')}."
    )


def scale() -> str:
    """Return a table of the time that millions of rows take on several machines."""
    head = ("task", "tokens a row", "core seconds a row", "rows/s a core", *scaling.HEAD)
    return (
        f"{table(head, scaling.rows(results('throughput')))}\n\nThe first four columns were measured "
        f"{provenance('throughput')}."
    )


def scale_limits() -> str:
    """Return the list of what limits the speed for many rows, besides the number of cores."""
    names = ("throughput", "quantization", "job_cost", "cold_start", "offload")
    return "\n".join(f"- {line}" for line in scaling.limits(*map(results, names)))


def cluster() -> str:
    """Return a sentence with the rows per second of a Ray cluster, for each number of actors."""
    facts = results("cluster")
    rates = facts["rows_per_second"]
    actors = ", ".join(f"{rate} with {way}" for way, rate in rates.items() if "actor" in way)
    return (
        f"Rows/s of {facts['rows']} short rows, each actor with one thread: {actors}. A `Runtime` without Ray: "
        f"{rates['one thread']} with one thread, {rates['all threads']} with all {provenance('cluster')}."
    )
