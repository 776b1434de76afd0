"""Helpers that convert small checkpoints and read the converted files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecellm_lite.convert.adapter import read_adapter
from ecellm_lite.convert.blueprint import Blueprint
from ecellm_lite.convert.checkpoint import Checkpoint
from ecellm_lite.convert.merging import WeightedAdapter, attach_adapters
from ecellm_lite.convert.pipeline import WrittenFile, unfinished_file, write_file
from ecellm_lite.convert.plan import Plan, draw_plan
from ecellm_lite.convert.source import TensorSource
from ecellm_lite.kernels.floats import widened
from ecellm_lite.models.files import sha256_of
from ecellm_lite.models.gguf_header import Header, read_header
from tests.support.small_checkpoints import HEADS, KV_HEADS, blueprint, rotated, shapes

QUERY = "model.layers.1.self_attn.q_proj"


def planned(
    source: Checkpoint, file_type: str = "Q4_K_M", adapters: Sequence[WeightedAdapter] = (), **options: Any
) -> Plan:
    drawn: Blueprint = options.pop("drawn", None) or blueprint()
    return draw_plan(attach_adapters(drawn, source, adapters), source, file_type, **options)


def carry_out(plan: Plan, source: TensorSource, target: Path, *, resume: bool = False, **options: Any) -> WrittenFile:
    """Carry out a conversion plan: write the file `target`, and return its WrittenFile."""
    with unfinished_file(plan, source, target, resume=resume) as file:
        written = write_file(plan, source, file, **options)
        file.finish(written.sha256)
        file.forget()
    return written


def converted(folder: Path, target: Path, file_type: str = "Q4_K_M", **options: Any) -> Header:
    weighted = [WeightedAdapter(read_adapter(path), weight) for path, weight in options.pop("adapters", ())]
    block = options.pop("block_weights", 1 << 14)
    with Checkpoint(folder) as source:
        plan = replace(planned(source, file_type, weighted, **options), block_weights=block)
        written = carry_out(plan, source, target, threads=2)
    assert written.sha256 == sha256_of(target)
    header = read_header(target)
    assert header.file_size == written.size == plan.size
    assert [(one.name, one.offset) for one in header.tensors] == [
        (one.name, plan.data_offset + one.offset) for one in plan.tensors
    ]
    return header


def stored_tensors(header: Header) -> dict[str, bytes]:
    data = header.path.read_bytes()
    return {one.name: data[one.offset : one.offset + one.size] for one in header.tensors}


def floats(tensors: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
    """Return a checkpoint's tensors in float32, with the names and the row order of the converted file."""
    stored = {}
    for source, values in tensors.items():
        wide = widened(values, {"uint16": "BF16", "float16": "F16", "float32": "F32"}[values.dtype.name])
        name = shapes()[source][0]
        heads = {"attn_q.weight": HEADS, "attn_k.weight": KV_HEADS}.get(name.split(".", 2)[-1])
        stored[name] = wide[rotated(heads, len(wide))] if heads else wide
    return stored


def close(values: NDArray[np.float32], exact: NDArray[np.float64]) -> None:
    difference = values - exact
    assert np.linalg.norm(difference) <= 1e-6 * np.linalg.norm(exact)
    assert np.abs(difference).max() <= 1e-6 * np.abs(exact).max()
