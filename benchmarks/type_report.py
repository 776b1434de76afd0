"""Describes the measured file types, such as Q4_K_M, in a sentence and a chart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.chart import Group, draw
from benchmarks.verdict import Recommendation
from ecellm_lite.models.files import size_text

REFERENCE = "F16"


def sentence(advice: Recommendation, types: Mapping[str, Any]) -> str:
    """Return a sentence that recommends the smallest suitable file type, and names the fastest suitable one."""
    small, fast = types[advice.smallest], types[advice.fastest]
    start = f"Use {advice.smallest}: at {size_text(small['bytes'])} it is the smallest that answers as F16 does"
    if advice.smallest == advice.fastest:
        return f"{start} ({small['agreement']:.1%} of the answers are F16's), and the fastest."
    return (
        f"{start} ({small['agreement']:.1%} of the answers are F16's); {advice.fastest} ({size_text(fast['bytes'])}, "
        f"{fast['agreement']:.1%}) is the fastest that does."
    )


def picture(results: Mapping[str, Any]) -> str:
    """Return an SVG chart of the files: size, speed, and share of answers equal to F16's.

    F16's size and speed count as 1.
    """
    types = results["types"]
    base = types[REFERENCE]
    groups = []
    for name, one in types.items():
        kl = "" if one["kl"] is None else f"   KL {one['kl']:.4f}"
        rates = ("prefill_tokens_per_second", "decode_tokens_per_second")
        bars = [
            (one["bytes"] / base["bytes"], size_text(one["bytes"])),
            *((one[rate] / base[rate], f"{one[rate]:,.0f} tokens/s") for rate in rates),
            (one["agreement"], f"{one['agreement']:.1%}{kl}"),
        ]
        groups.append(Group(name, bars))
    legend = ["size", "reading", "writing", "answers as F16"]
    advice = results["recommendation"]
    # The whole sentence is wider than the picture.
    subtitle = f"{advice['smallest']} is the smallest that answers as F16 does, {advice['fastest']} the fastest."
    return draw("File types, as multiples of F16", subtitle, legend, groups, 150)


def spelt(counts: Mapping[str, int]) -> str:
    """Return the number of tensors of each type as text, such as "24 Q4_K, 1 Q6_K"."""
    return ", ".join(f"{count} {kind}" for kind, count in counts.items())
