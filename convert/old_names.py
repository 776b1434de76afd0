"""Adapters that name Phi-2's modules as its first, remote code did: they are given today's names.

There, `mixer.Wqkv` stacks the rows of q, k and v: an adapter of it is three, with one A and a third of B's rows each.
The names: modeling_phi.py of https://huggingface.co/microsoft/phi-2 before January 2024.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TypeVar

from ecellm_lite.convert.adapter import Factors, PeftAdapter, Whole
from ecellm_lite.errors import ModelError

Named = TypeVar("Named", Factors, Whole)

_LAYER = re.compile(r"transformer\.h\.(\d+)\.(ln|mixer\.Wqkv|mixer\.out_proj|mlp\.fc1|mlp\.fc2)(\.weight|\.bias)?")
_PARTS = {
    "ln": "input_layernorm", "mixer.out_proj": "self_attn.dense", "mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2",
}  # fmt: skip
_ENDS = {
    "transformer.embd.wte": "model.embed_tokens",
    "lm_head.ln": "model.final_layernorm",
    "lm_head.linear": "lm_head",
}
_STACKED = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")


def with_todays_names(adapter: PeftAdapter, architecture: str) -> PeftAdapter:
    """Return the adapter with today's names where it is one of Phi-2 with old ones, else the adapter itself.

    Raises ModelError for a stack whose rows are no three equal parts.
    """
    if architecture != "phi2":
        return adapter
    return replace(
        adapter,
        factors=_renamed(adapter.factors, adapter),
        saved=_renamed(adapter.saved, adapter),
        base_layers=_renamed(adapter.base_layers, adapter),
    )


def _renamed(named: Mapping[str, Named], adapter: PeftAdapter) -> dict[str, Named]:
    found: dict[str, Named] = {}
    for old, value in named.items():
        for new, each in _parts(old, value, adapter):
            if new in found:
                raise ModelError(
                    f"{adapter.path} names {new!r} twice, as today and as Phi-2's first code: save it again."
                )
            found[new] = each
    return found


def _parts(name: str, value: Named, adapter: PeftAdapter) -> Iterator[tuple[str, Named]]:
    match = _LAYER.fullmatch(name)
    if not match:
        module, dot, kind = name.rpartition(".")
        if kind not in {"weight", "bias"}:
            module, dot, kind = name, "", ""
        yield f"{_ENDS.get(module, module)}{dot}{kind}", value
        return
    layer, part, kind = match[1], match[2], match[3] or ""
    if part != "mixer.Wqkv":
        yield f"model.layers.{layer}.{_PARTS[part]}{kind}", value
        return
    rows = len(value.b) if isinstance(value, Factors) else math.prod(value.shape[:1])
    if rows % 3 or (isinstance(value, Whole) and not value.shape):
        raise ModelError(f"{adapter.path}: {name!r} has {rows:,} rows, which are not three equal parts.")
    for place, today in enumerate(_STACKED):
        third = slice(place * rows // 3, (place + 1) * rows // 3)
        yield f"model.layers.{layer}.{today}{kind}", _third(value, third)


def _third(value: Named, rows: slice) -> Named:
    if isinstance(value, Whole):
        return value.part(rows)
    magnitude = None if value.magnitude is None else value.magnitude[rows]
    return Factors(value.a, value.b[rows], value.scale, magnitude)
