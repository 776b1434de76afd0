"""Prints the plan of a conversion, for a terminal or as JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from ecellm_lite.cli.plain import plain

if TYPE_CHECKING:
    from ecellm_lite.convert.conversion import Conversion


def show_plan(conversion: Conversion, threads: int, *, as_json: bool) -> None:
    """Print what a conversion will write. Raises ModelError if the disk space or the memory is too small."""
    plan, seconds = conversion.plan, conversion.seconds(threads)
    facts = {
        "file_type": plan.file_type,
        "envelope": conversion.envelope,
        "size": plan.size,
        "header_bytes": plan.data_offset,
        "bits_a_weight": round(plan.bits_per_weight, 3),
        "tensor_types": plan.types,
        "read_bytes": plan.read_bytes,
        "memory": plan.memory,
        "seconds": round(seconds, 1),
    }
    if as_json:
        listed = [
            {
                "name": tensor.name,
                "type": tensor.type.name,
                "shape": tensor.shape,
                "offset": plan.data_offset + tensor.offset,
                "size": tensor.size,
            }
            for tensor in plan.tensors
        ]
        click.echo(json.dumps({**facts, "tensors": listed}, indent=2))
    else:
        for tensor in plan.tensors:
            name, kind, shape = plain(tensor.name), tensor.type.name, " x ".join(map(str, tensor.shape))
            change = "  + adapter" if tensor.recipe.factors else "  replaced" if tensor.recipe.saved is not None else ""
            offset = plan.data_offset + tensor.offset
            click.echo(f"{name:32} {kind:5} {shape:>15} {tensor.size:>13,} at {offset:,}{change}")
        kinds = ", ".join(f"{count} {kind}" for kind, count in plan.types.items())
        bits = f"{plan.bits_per_weight:.2f} bits per weight"
        click.echo(
            f"\n{conversion.request.target}: {plan.size:,} bytes ({bits}; {kinds}), "
            f"of which {plan.data_offset:,} are before the tensors; envelope {conversion.envelope}"
        )
        click.echo(
            f"reads {plan.read_bytes:,} bytes, needs up to {plan.memory / 2**20:,.0f} MiB of memory and about "
            f"{seconds:,.0f} s on {threads} threads"
        )
    conversion.check_room()
