"""Tests which layers go to which GPU, by comparison with a copy of llama.cpp's rule in Python."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecellm_lite import UsageError
from ecellm_lite.engine import memory
from ecellm_lite.engine.memory import kv_bytes_per_cell
from ecellm_lite.engine.offload import MARGIN, on_cpu
from ecellm_lite.engine.settings import Settings
from tests.support.offload_headers import HEADERS, SHAPES, gpus_of, plan
from tests.support.refusals import refusal


@pytest.mark.parametrize(
    ("name", "layers"),
    [("S", (33, 33, 33, 33, 33)), ("M", (22, 33, 33, 33, 33)), ("L", (11, 20, 28, 41, 41))],
)
def test_layers_that_fit_one_device_are_as_computed_by_hand(name: str, layers: tuple[int, ...]) -> None:
    """The devices have 4, 6, 8, 12 and 24 GiB of free memory, and the context has 4096 tokens.

    The numbers of layers for 4 GiB were computed by hand. 1 GiB stays free, so 3072 MiB are left:

    - eCeLLM-M: 103 MiB for the output, 160 for computation, and 117 + 16 for each layer with its KV cells. So 21 layers
      and the output fit.
    - eCeLLM-L: 128 MiB for the output, 233 for computation, and 170 + 80 for each layer with its KV cells. So 10 layers
      and the output fit.
    """
    assert tuple(plan(HEADERS[name], gpus_of(free)).n_gpu_layers for free in (4, 6, 8, 12, 24)) == layers


def test_a_placement_has_a_description() -> None:
    assert plan(HEADERS["M"], gpus_of(8)).description == (
        "33 of 33 layers on GPU0 (4.4 GiB of 8.0 GiB), including 512 MiB of KV memory"
    )
    assert plan(HEADERS["M"], gpus_of(3, 5)).description == (
        "33 of 33 layers on GPUs, 10 on GPU0 (1.5 GiB of 3.0 GiB), 23 on GPU1 (3.2 GiB of 5.0 GiB), "
        "including 512 MiB of KV memory"
    )
    assert plan(HEADERS["M"], gpus_of(1.1)).description == (
        "0 of 33 layers on GPU0 (1.1 GiB free): none fits with 1.0 GiB to spare"
    )


def test_only_one_device_is_used_if_it_holds_everything() -> None:
    for free in ((6, 12), (12, 6)):
        placed = plan(HEADERS["M"], gpus_of(*free))
        assert placed.devices == (f"GPU{free.index(12)}",)
        assert placed.tensor_split == (33.0,)


def test_uneven_devices_are_filled_to_the_same_share() -> None:
    small, large = plan(HEADERS["L"], gpus_of(5, 9)).loads
    assert small.layers + large.layers == 41
    shares = [load.size / (load.free - MARGIN) for load in (small, large)]
    layer = large.size / large.layers / (small.free - MARGIN)
    assert abs(shares[0] - shares[1]) < layer + 1 / 32


def test_a_device_without_room_is_left_out() -> None:
    placed = plan(HEADERS["L"], gpus_of(8, 0.5, 8))
    assert placed.devices == ("GPU0", "GPU2")
    assert placed.n_gpu_layers == 41
    assert [load.layers for load in placed.loads][1] == 0


def test_a_longer_context_leaves_room_for_fewer_layers() -> None:
    layers = [plan(HEADERS["M"], gpus_of(6), cells=cells).n_gpu_layers for cells in (4096, 16384, 32768)]
    assert layers[0] == 33 > layers[1] > layers[2]
    without = plan(HEADERS["M"], gpus_of(6), cells=16384, flash_attention=False).n_gpu_layers
    assert without < layers[1]


def test_requested_layers_are_placed() -> None:
    assert plan(HEADERS["M"], gpus_of(8), "all").n_gpu_layers == 33
    assert plan(HEADERS["M"], gpus_of(8), 1000).n_gpu_layers == 33
    assert plan(HEADERS["M"], gpus_of(8), 10).tensor_split == (10.0,)
    nothing = plan(HEADERS["M"], gpus_of(8), 0)
    assert (nothing.n_gpu_layers, nothing.devices, nothing.tensor_split) == (0, (), ())
    # Only `auto` keeps the margin; an explicit number may use it.
    assert plan(HEADERS["M"], gpus_of(4.5), "auto").n_gpu_layers < 33
    assert plan(HEADERS["M"], gpus_of(4.5), "all").n_gpu_layers == 33


@pytest.mark.parametrize("gpu_layers", ["all", 33, 30])
def test_requested_layers_that_do_not_fit_are_refused(gpu_layers: str | int) -> None:
    with refusal(UsageError, " 4.", "4,096", "GPU0", "3.0 GiB", 14, settings=("gpu_layers", "context")):
        plan(HEADERS["M"], gpus_of(3), gpu_layers)


def test_without_a_gpu_everything_stays_on_the_cpu() -> None:
    for gpu_layers in ("auto", 0):
        assert on_cpu(gpu_layers).n_gpu_layers == 0
        assert on_cpu(gpu_layers).loads == ()
    for gpu_layers in ("all", 1):
        with refusal(UsageError, gpu_layers, settings=("gpu_layers",)):
            on_cpu(gpu_layers)


@pytest.mark.parametrize("gpu_layers", [-1, True, 1.5, "5", None])
def test_invalid_gpu_layers_are_refused(gpu_layers: Any) -> None:
    with refusal(UsageError, repr(gpu_layers), settings=("gpu_layers",)):
        Settings(gpu_layers=gpu_layers)


def divided_by_llama_cpp(layers: int, n_gpu_layers: int, tensor_split: Sequence[float]) -> list[int | None]:
    """Return the index of the device for each layer and for the output, or None for the CPU.

    This is the rule of load_tensors in src/llama-model.cpp, in float32. The last `n_gpu_layers` layers are on devices,
    and the output counts as the last layer. Each of these layers has a position: its index among them, divided by their
    number. Each device has a bound: the sum of its own and all earlier entries of `tensor_split`, divided by the sum of
    all entries. A layer goes to the first device whose bound is greater than the layer's position (std::upper_bound).
    """
    splits = [np.float32(part) for part in accumulate(tensor_split)]
    splits = [np.float32(part / splits[-1]) for part in splits]
    start = max(layers + 1 - n_gpu_layers, 0)
    active = min(n_gpu_layers, layers + 1) if tensor_split else 0
    return [
        None
        if place < start or place - start >= active
        else bisect_right(splits, np.float32(np.float32(place - start) / np.float32(active)))
        for place in range(layers + 1)
    ]


FREE = st.lists(st.floats(0, 16), min_size=1, max_size=5)
NAMES = st.sampled_from(["S", "M", "L", "demo"])
CELLS = st.sampled_from([256, 1000, 4096, 16384])


@given(NAMES, FREE, CELLS, st.booleans(), st.sampled_from(["f16", "q8_0", "f32"]))
def test_no_device_is_given_more_than_it_has(
    name: str, free: list[float], cells: int, flash_attention: bool, kv_type: str
) -> None:
    gpus = gpus_of(*free)
    placed = plan(HEADERS[name], gpus, cells=cells, flash_attention=flash_attention, kv_type=kv_type)
    assert sum(load.layers for load in placed.loads) == placed.n_gpu_layers == sum(placed.tensor_split)
    assert 0 <= placed.n_gpu_layers <= SHAPES[name][0] + 1
    for load, gpu in zip(placed.loads, gpus, strict=True):
        assert (load.size == 0) == (load.layers == 0)
        assert load.size <= max(gpu.free - MARGIN, 0)
    if placed.n_gpu_layers == SHAPES[name][0] + 1:
        header = HEADERS[name]
        assert sum(load.weights for load in placed.loads) == sum(memory.weights_by_place(header))
        padded = -(-cells // 256) * 256
        assert sum(load.kv for load in placed.loads) == padded * kv_bytes_per_cell(header, kv_type)


@given(NAMES, FREE, CELLS)
def test_llama_cpp_divides_as_planned(name: str, free: list[float], cells: int) -> None:
    placed = plan(HEADERS[name], gpus_of(*free), cells=cells)
    layers = SHAPES[name][0]
    divided = divided_by_llama_cpp(layers, placed.n_gpu_layers, placed.tensor_split)
    planned: list[int | None] = [None] * (layers + 1 - placed.n_gpu_layers)
    for index, count in enumerate(placed.tensor_split):
        planned += [index] * int(count)
    assert divided == planned


@given(NAMES, FREE, st.data())
def test_more_memory_never_means_fewer_layers(name: str, free: list[float], data: st.DataObject) -> None:
    more = [size + data.draw(st.floats(0, 8)) for size in free]
    assert plan(HEADERS[name], gpus_of(*more)).n_gpu_layers >= plan(HEADERS[name], gpus_of(*free)).n_gpu_layers


@given(NAMES, FREE, st.integers(0, 50))
def test_any_requested_layers_are_placed_or_refused(name: str, free: list[float], gpu_layers: int) -> None:
    gpus = gpus_of(*free)
    try:
        placed = plan(HEADERS[name], gpus, gpu_layers)
    except UsageError:
        assert plan(HEADERS[name], gpus).n_gpu_layers < gpu_layers
    else:
        assert placed.n_gpu_layers == min(gpu_layers, SHAPES[name][0] + 1)
        assert all(load.size <= gpu.free for load, gpu in zip(placed.loads, gpus, strict=True))
