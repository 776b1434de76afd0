"""What the measured file types come to: a sentence, a table and a figure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.chart import Group, draw
from benchmarks.verdict import Recommendation
from ecellm_lite.models.files import in_words
from ecellm_lite.tasks.registry import TASKS

REFERENCE = "F16"


def sentence(advice: Recommendation, types: Mapping[str, Any]) -> str:
    """Return the recommendation in words."""
    small, fast = types[advice.smallest], types[advice.fastest]
    said = f"Take {advice.smallest}: with {in_words(small['bytes'])} it is the smallest that answers as F16 does"
    if advice.smallest == advice.fastest:
        return f"{said} ({small['agreement']:.1%} of the answers are F16's), and the fastest."
    return (
        f"{said} ({small['agreement']:.1%} of the answers are F16's); {advice.fastest} ({in_words(fast['bytes'])}, "
        f"{fast['agreement']:.1%}) is the fastest that does."
    )


def table(results: Mapping[str, Any]) -> str:
    """Return the results as the table that the README shows."""
    types = results["types"]
    tasks = {task: found["metric"] for task, found in types[REFERENCE]["tasks"].items()}
    heads = ["type", "size", "tensors", "read, tokens/s", "written, tokens/s"]
    heads += [f"{TASKS[task].abbreviation}, {metric}" for task, metric in tasks.items()]
    heads += ["answers as F16", "KL, nats"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name, one in types.items():
        cells = [name, in_words(one["bytes"]), spelt(one["tensors"])]
        cells += [f"{one[f'{way}_tokens_per_second']:,.0f}" for way in ("prefill", "decode")]
        for task in tasks:
            found = one["tasks"][task]
            cells.append(f"{found['value']:.2f} ({found['interval'][0]:.2f} to {found['interval'][1]:.2f})")
        cells += [f"{one['agreement']:.1%}", "" if one["kl"] is None else f"{one['kl']:.4f}"]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", *(f"{name} is left out: {why}." for name, why in results["left_out"].items())]
    if isinstance(results["imatrix"], str):
        lines.append(f"The imatrix is {results['imatrix']}.")
    return "\n".join(lines)


def picture(results: Mapping[str, Any]) -> str:
    """Return the results as a figure: for each file bars of its size, rates and agreement, as multiples of F16's."""
    types = results["types"]
    base = types[REFERENCE]
    groups = []
    for name, one in types.items():
        kl = "" if one["kl"] is None else f"   KL {one['kl']:.4f}"
        rates = ("prefill_tokens_per_second", "decode_tokens_per_second")
        bars = [
            (one["bytes"] / base["bytes"], in_words(one["bytes"])),
            *((one[rate] / base[rate], f"{one[rate]:,.0f} tokens/s") for rate in rates),
            (one["agreement"], f"{one['agreement']:.1%}{kl}"),
        ]
        groups.append(Group(name, bars))
    legend = ["size", "reading", "writing", "answers as F16"]
    advice = results["recommendation"]
    # The whole sentence is wider than the picture.
    said = f"{advice['smallest']} is the smallest that answers as F16 does, {advice['fastest']} the fastest."
    return draw("File types, as multiples of F16", said, legend, groups, 150)


def spelt(counts: Mapping[str, int]) -> str:
    """Return how many tensors there are of each type, in words."""
    return ", ".join(f"{count} {kind}" for kind, count in counts.items())
