"""Renames an adapter's modules to the names in its base model's blueprint, if the names differ.

There are two cases. The first is Gemma 3, whose larger models also see images. In these models, the modules of the
language model have other names (architectures/language_part.py). The converter drops the modules for images from the
base model, and from the adapter too.

The second is Phi-2. Old adapters use the names in Microsoft's first code for Phi-2. That code stacks the rows of q, k
and v in one matrix, `mixer.Wqkv`. So an adapter's factors A and B of this matrix become three pairs. Each pair has all
of A, and a third of B's rows. The code is modeling_phi.py of https://huggingface.co/microsoft/phi-2 before January
2024.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from ecellm_lite.convert.adapter import PeftAdapter, WholeTensor
from ecellm_lite.convert.architectures.language_part import is_of_images, name_alone
from ecellm_lite.convert.reading import damaged

Named = TypeVar("Named")

_STACK = re.compile(r"transformer\.h\.(\d+)\.mixer\.Wqkv(\.weight|\.bias)?")
_LAYER = re.compile(r"transformer\.h\.(\d+)\.(ln|mixer\.out_proj|mlp\.fc1|mlp\.fc2)(\.weight|\.bias)?")
_PARTS = {
    "ln": "input_layernorm", "mixer.out_proj": "self_attn.dense", "mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2",
}  # fmt: skip
_ENDS = {
    "transformer.embd.wte": "model.embed_tokens",
    "lm_head.ln": "model.final_layernorm",
    "lm_head.linear": "lm_head",
}
_STACKED = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")


def with_current_names(adapter: PeftAdapter, architecture: str) -> PeftAdapter:
    """Return the adapter with the module names of its base model's blueprint.

    Raises ModelError if two modules get the same name, or if the rows of a Phi-2 adapter's matrix `mixer.Wqkv` cannot
    be split into three equal parts.
    """
    if architecture == "gemma3":
        return replace(
            adapter,
            factors=_of_language(adapter.factors, adapter.path),
            magnitudes=_of_language(adapter.magnitudes, adapter.path),
            saved=_of_language(adapter.saved, adapter.path),
            base_layers=_of_language(adapter.base_layers, adapter.path),
        )
    if architecture != "phi2":
        return adapter
    path = adapter.path
    return replace(
        adapter,
        factors=_renamed(
            adapter.factors, path, lambda pair: len(pair.b), lambda pair, rows: replace(pair, b=pair.b[rows])
        ),
        magnitudes=_renamed(adapter.magnitudes, path, len, lambda magnitudes, rows: magnitudes[rows]),
        saved=_renamed(adapter.saved, path, lambda whole: math.prod(whole.shape[:1]), WholeTensor.part),
        base_layers=_renamed(adapter.base_layers, path, lambda whole: math.prod(whole.shape[:1]), WholeTensor.part),
    )


def _of_language(values: Mapping[str, Named], path: Path) -> dict[str, Named]:
    """Return `values` without the values for image modules.

    `values`: the LoRA factors or other values, by the module's name. In the result, each module has the name that it
    has in a model that cannot see images.
    """
    renamed: dict[str, Named] = {}
    for name, value in values.items():
        if is_of_images(name):
            continue
        if (alone := name_alone(name)) in renamed:
            raise damaged(path, f"has {alone!r} twice, under two names")
        renamed[alone] = value
    return renamed


def _renamed(
    values: Mapping[str, Named], path: Path, count: Callable[[Named], int], part: Callable[[Named, slice], Named]
) -> dict[str, Named]:
    """Return the values under the modules' current names. A value for `mixer.Wqkv` is split into three.

    `count` returns the number of rows in a value. `part` returns some rows of a value.
    """
    renamed: dict[str, Named] = {}
    for old, value in values.items():
        stack = _STACK.fullmatch(old)
        if not stack:
            names = {_current_name(old): value}
        else:
            rows = count(value)
            if rows % 3:
                raise damaged(path, f"has {rows:,} rows in {old!r}, which cannot be split into three equal parts")
            names = {
                f"model.layers.{stack[1]}.{module}{stack[2] or ''}": part(
                    value, slice(place * rows // 3, (place + 1) * rows // 3)
                )
                for place, module in enumerate(_STACKED)
            }
        for new, each in names.items():
            if new in renamed:
                raise damaged(path, f"has {new!r} twice, under its current name and an old one")
            renamed[new] = each
    return renamed


def _current_name(name: str) -> str:
    """Return the current name of a Phi-2 module or tensor. `name` is an old name or already the current one."""
    if match := _LAYER.fullmatch(name):
        return f"model.layers.{match[1]}.{_PARTS[match[2]]}{match[3] or ''}"
    module, dot, kind = name.rpartition(".")
    if kind not in {"weight", "bias"}:
        module, dot, kind = name, "", ""
    return f"{_ENDS.get(module, module)}{dot}{kind}"
