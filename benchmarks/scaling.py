"""Computes from the results files how long a million and a hundred million rows take.

docs/scale.md explains the calculation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ecellm_lite.tasks.registry import TASKS

Facts = Mapping[str, Any]

SHOWN = ("PSI", "PM", "SA", "AVE", "SR", "AG")  # from the shortest rows to the longest work
LAPTOP, SERVER, MACHINES = 8, 64, 10  # cores of each, and machines in a cluster
MILLION, MANY = 10**6, 10**8
HEAD = ("a million: 8 cores", "64 cores", "ten of 64", "a hundred million: 64 cores", "ten of 64")
SEVEN = "Mistral-7B's shape"  # in the results of cold_start


def rows(throughput: Facts) -> list[tuple[str, ...]]:
    """Return one table line per task. A line has:

    - the tokens of a row;
    - the seconds that one core takes for a row, and the rows per second of a core;
    - the time for a million rows on each machine;
    - the time for a hundred million rows on the larger machines.
    """
    lines = []
    for task in _shown(throughput):
        facts = throughput["tasks"][task]
        seconds = facts["cpu_seconds_a_row"]["ecellm-lite"]
        lines.append(
            (
                TASKS[task].abbreviation,
                f"{facts['tokens_computed'] / facts['rows']:.0f}",
                f"{seconds:.2f}",
                f"{1 / seconds:.2f}",
                *(size_text(MILLION * seconds / cores) for cores in (LAPTOP, SERVER, MACHINES * SERVER)),
                *(size_text(MANY * seconds / cores) for cores in (SERVER, MACHINES * SERVER)),
            )
        )
    return lines


def limits(throughput: Facts, quantization: Facts, job_cost: Facts, cold_start: Facts, offload: Facts) -> list[str]:
    """Return the paragraphs of docs/scale.md about bandwidth, loading, one job, storage, larger models and GPUs."""
    size = quantization["types"]["Q8_0"]["bytes"]  # the demo's type
    core = weights_per_second(throughput, size) / 1e9
    milliseconds, journal = job_cost["milliseconds_a_row"], job_cost["journal_bytes_a_row"]
    demo, seven = (cold_start["models"][name]["cold"]["process"] for name in ("demo", SEVEN))
    rate = tokens_per_second(cold_start)
    matching = throughput["tasks"]["product_matching"]
    seconds = matching["tokens_computed"] / matching["rows"] / rate
    gpu = offload["rows_per_second"]["product_matching"]
    return [
        f"**Memory bandwidth**: a call of the model reads all its weights once. With a file of {size / 1e6:.0f} MB "
        f"that is {core:.2f} GB/s a core for the task that needs most, and {core * SERVER:.0f} GB/s for {SERVER} "
        "cores, if no cache holds them. Eight channels of DDR4-3200 give 205 GB/s (8 times 8 bytes, 3,200 million "
        "times a second).",
        f"**Loading**: {demo:.1f} s for the demo and {seven:.0f} s for a model of {SEVEN}, once a process, on two "
        "cores.",
        f"**One job**: reading, mapping, journal and writing take {milliseconds:.2f} ms a row, so that one process "
        f"cannot pass {1000 / milliseconds:,.0f} rows/s, however fast its model is.",
        f"**Storage**: the journal takes {journal:,} bytes a row, {journal * MILLION / 1e9:.1f} GB for a million and "
        f"{journal * MANY / 1e9:.0f} GB for a hundred million. Delete a part's when the part is done.",
        f"**Larger models**: a model of {SEVEN} read {rate:.1f} tokens/s a core. A row of PM then takes {seconds:.0f} "
        f"core seconds, and a million of them {size_text(MILLION * seconds / SERVER)} on {SERVER} cores.",
        f"**A GPU**: the demo's base answered {gpu:.0f} rows/s of PM on one H100, a million in "
        f"{size_text(MILLION / gpu)}. That was measured on {offload['rows']} rows.",
    ]


def weights_per_second(throughput: Facts, size: int) -> float:
    """Return the bytes of weights that a core reads per second, in the task where it reads the most.

    Each call of the model reads the whole model file, which has `size` bytes.
    """
    rates: list[float] = []
    for facts in throughput["tasks"].values():
        calls = facts["time"]["calls"] / facts["rows"]  # a row
        rates.append(calls * size / facts["cpu_seconds_a_row"]["ecellm-lite"])
    return max(rates)


def tokens_per_second(cold_start: Facts) -> float:
    """Return how many prompt tokens a core reads per second with a model of 7 billion weights.

    `cold_start`: the results of the benchmark of this name.
    """
    facts = cold_start["models"][SEVEN]
    cores = int(cold_start["machine"].split(", ")[1].split()[0])
    rate: float = facts["prompt_tokens"] / facts["cold"]["row"] / cores
    return rate


def size_text(seconds: float) -> str:
    """Return a time as text in minutes, hours or days. Numbers below 10 have one decimal.

    >>> size_text(90), size_text(5400), size_text(200000)
    ('1.5 min', '1.5 h', '2.3 days')
    """
    for unit, size in (("days", 86400.0), ("h", 3600.0)):
        if seconds >= 1.25 * size:
            return f"{_digits(seconds / size)} {unit}"
    return f"{_digits(seconds / 60)} min"


def _digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def _shown(throughput: Facts) -> list[str]:
    by_abbreviation = {TASKS[name].abbreviation: name for name in throughput["tasks"]}
    return [by_abbreviation[name] for name in SHOWN]
