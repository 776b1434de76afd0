"""Reads results files, and formats what many tables need, such as intervals, sizes and the machine's description."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from ecellm_lite.tasks.registry import TASKS

RESULTS = Path(__file__).parents[1] / "results"


@cache
def results(name: str) -> Mapping[str, Any]:
    """Return the content of a results file."""
    data: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text("utf-8"))
    return data


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def provenance(name: str) -> str:
    """Return the machine and the command that produced a results file, in parentheses."""
    facts = results(name)
    widths = [width for width in ("AVX512", "AVX2", "NEON") if f"{width} = 1" in facts["machine"]]
    machine = facts["machine"].split(", CPU")[0].split(", CUDA")[0].replace(" 1 cores", " 1 core")
    vectors = f" with {widths[0].replace('AVX512', 'AVX-512')}" if widths else ""
    return f"({machine}{vectors}; `{facts['command']}`)"


def short(task: str) -> str:
    """Return a task's abbreviation."""
    return TASKS[task].abbreviation


def interval(value: Mapping[str, float]) -> str:
    """Return a metric and its interval as text, such as "0.812 (0.790 to 0.834)"."""
    return f"{value['value']:.3f} ({value['low']:.3f} to {value['high']:.3f})"


def values_of(results: Mapping[str, Any], *names: str) -> list[str]:
    """Return one task's metric as text for each way of answering in `names`, such as "base" or "majority"."""
    return [f"{results['values'][name]['value']:.3f}" for name in names]


def gib(size: float) -> str:
    """Return a size in bytes as text in GiB."""
    return f"{size / 2**30:.2f} GiB"


def gb(size: float) -> str:
    """Return a size in bytes as text in GB."""
    return f"{size / 1e9:.1f} GB"
