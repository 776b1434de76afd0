"""What fits which GPU: made-up devices, headers of eCeLLM's shapes, and the CPU standing in for a GPU in llama.cpp.

No test here ran on a GPU. Those on the real llama.cpp name its CPU as the device to offload to, which takes the same
way through its loader; llama.cpp's rule for dividing layers is written down again below, from its source.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import llama_cpp.llama_cpp as llama_cpp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecellm_lite import ModelError, Runtime, UsageError, ggml
from ecellm_lite.cli.main import run_command
from ecellm_lite.engine import llama, memory
from ecellm_lite.engine.llama import LlamaBackend
from ecellm_lite.engine.memory import cells_that_fit, kv_bytes_per_cell, weight_bytes
from ecellm_lite.engine.offload import MARGIN, Placement, on_cpu, place
from ecellm_lite.engine.settings import Settings
from ecellm_lite.ggml import Device
from ecellm_lite.models.gguf_header import Header, TensorInfo, read_header
from ecellm_lite.models.store import StoredModel
from ecellm_lite.tensor_types import TENSOR_TYPES
from tests.support.tiny_models import write_tiny_model

GIB = 1 << 30
TYPES = {type_.name: type_ for type_ in TENSOR_TYPES.values()}

# layers, embedding, feed-forward, heads, key-value heads, vocabulary
SHAPES = {
    "S": (32, 2560, 10240, 32, 32, 51200),
    "M": (32, 4096, 14336, 32, 8, 32000),
    "L": (40, 5120, 13824, 40, 40, 32000),
    "demo": (30, 576, 1536, 9, 3, 49152),
}


def header_of(name: str, **metadata: Any) -> Header:
    """A header of that shape in Q4_0 with an output in Q6_K; the demo's embedding is tied."""
    layers, embedding, feed_forward, heads, heads_kv, vocabulary = SHAPES[name]
    architecture = "phi2" if name == "S" else "llama"
    key_value = embedding // heads * heads_kv
    matrices = {
        "attn_q": (embedding, embedding),
        "attn_k": (embedding, key_value),
        "attn_v": (embedding, key_value),
        "attn_output": (embedding, embedding),
        "ffn_up": (embedding, feed_forward),
        "ffn_down": (feed_forward, embedding),
    }
    if architecture == "llama":
        matrices["ffn_gate"] = (embedding, feed_forward)
    tensors = [("token_embd.weight", (embedding, vocabulary), "Q4_0"), ("output_norm.weight", (embedding,), "F32")]
    if name != "demo":
        tensors.append(("output.weight", (embedding, vocabulary), "Q6_K"))
    if architecture == "phi2":
        tensors.append(("output.bias", (vocabulary,), "F32"))
    for layer in range(layers):
        tensors.append((f"blk.{layer}.attn_norm.weight", (embedding,), "F32"))
        tensors += [(f"blk.{layer}.{matrix}.weight", shape, "Q4_0") for matrix, shape in matrices.items()]
    keys = {
        "general.architecture": architecture,
        f"{architecture}.block_count": layers,
        f"{architecture}.context_length": 4096,
        f"{architecture}.embedding_length": embedding,
        f"{architecture}.feed_forward_length": feed_forward,
        f"{architecture}.attention.head_count": heads,
        f"{architecture}.attention.head_count_kv": heads_kv,
        **{f"{architecture}.{key}": value for key, value in metadata.items()},
    }
    return Header(
        path=Path(f"eCeLLM-{name}.gguf"),
        version=3,
        alignment=32,
        metadata={key: value for key, value in keys.items() if value is not None},
        tensors=tuple(tensor_of(*tensor) for tensor in tensors),
        data_offset=0,
        file_size=0,
    )


def tensor_of(name: str, shape: tuple[int, ...], kind: str) -> TensorInfo:
    type_ = TYPES[kind]
    return TensorInfo(name, shape, type_, 0, int(np.prod(shape)) // type_.block * type_.block_bytes)


HEADERS = {name: header_of(name) for name in SHAPES}


def gpus_of(*free: float) -> list[Device]:
    """Made-up devices with so many GiB free."""
    return [Device(f"GPU{n}", "made up", "gpu", int(size * GIB), int(size * GIB)) for n, size in enumerate(free)]


def plan(header: Header, gpus: Sequence[Device], asked: str | int = "auto", **settings: Any) -> Placement:
    chosen = {"cells": 4096, "kv_type": "f16", "micro_batch": 512, "flash_attention": True, **settings}
    return place(header, gpus, asked, **chosen)


# --- memory


@pytest.mark.parametrize(("name", "kib"), [("M", 128), ("S", 320), ("L", 800)])
def test_the_kv_memory_of_a_token(name: str, kib: int) -> None:
    assert kv_bytes_per_cell(HEADERS[name], "f16") == kib << 10
    assert kv_bytes_per_cell(HEADERS[name], "f32") == kib << 11
    assert kv_bytes_per_cell(HEADERS[name], "q8_0") == (kib << 10) // 64 * 34


def test_heads_of_each_layer_and_their_lengths_are_heeded() -> None:
    by_layer = np.array([8] * 16 + [4] * 16, dtype=np.uint32)
    assert kv_bytes_per_cell(header_of("M", **{"attention.head_count_kv": by_layer}), "f16") == 96 << 10
    assert kv_bytes_per_cell(header_of("M", **{"attention.key_length": 64}), "f16") == 96 << 10
    alone = header_of("M", **{"attention.head_count_kv": None})
    assert kv_bytes_per_cell(alone, "f16") == 512 << 10


def test_the_context_that_fits() -> None:
    assert cells_that_fit(HEADERS["M"], "f16", GIB) == 8192
    assert cells_that_fit(HEADERS["M"], "f16", GIB - 1) == 8192 - 256
    assert cells_that_fit(HEADERS["L"], "f16", GIB) == 1280
    assert cells_that_fit(HEADERS["L"], "f16", 1 << 20) == cells_that_fit(HEADERS["L"], "f16", -5) == 0


def test_the_weights_of_the_demo_are_its_file(demo_model: StoredModel) -> None:
    header = read_header(demo_model.path)
    padding = header.alignment * len(header.tensors)
    assert header.file_size - header.data_offset - padding < weight_bytes(header) <= header.file_size
    sizes = {tensor.name: tensor.size for tensor in header.tensors}
    # The embedding is tied: llama.cpp copies it for the output.
    assert memory.weights_by_place(header)[-1] == sizes["token_embd.weight"] + sizes["output_norm.weight"]
    assert sum(memory.weights_by_place(header)) == weight_bytes(header)


@pytest.mark.parametrize("name", ["S", "M", "L"])
def test_the_embedding_stays_with_the_cpu(name: str) -> None:
    header = HEADERS[name]
    [embedding] = [tensor.size for tensor in header.tensors if tensor.name == "token_embd.weight"]
    places = memory.weights_by_place(header)
    assert len(places) == SHAPES[name][0] + 1
    assert sum(places) == weight_bytes(header) - embedding


# What llama.cpp's log calls "compute buffer size" of a device with all layers, in MiB, for files of these shapes:
# (cells, micro-batch) without and with flash attention. Of llama-cpp-python 0.3.36 with its CPU behind an RPC device.
REPORTED = {
    "S": {(1024, 128): (27.5, 26.25), (4096, 512): (294.0, 105.0), (16384, 2048): (4344.0, 420.0)},
    "M": {(1024, 128): (28.5, 27.25), (4096, 512): (300.0, 112.0), (16384, 2048): (4368.0, 496.0)},
    "L": {(1024, 128): (35.5, 28.0), (4096, 512): (388.0, 115.0), (16384, 2048): (5488.0, 508.0)},
    "demo": {(1024, 128): (24.3, 25.4), (4096, 512): (97.1, 97.1), (16384, 2048): (1301.0, 388.5)},
}

# The same of two devices with all layers between them, 4096 cells and a micro-batch of 512.
REPORTED_OF_TWO = {"S": (388.0, 161.0), "M": (400.0, 188.0), "L": (552.0, 207.0)}


@pytest.mark.parametrize("name", REPORTED)
def test_the_compute_buffer_is_near_what_llama_cpp_reserves(name: str) -> None:
    for (cells, tokens), reported in REPORTED[name].items():
        for flash_attention in (False, True):
            guess = memory.compute_bytes(HEADERS[name], cells=cells, tokens=tokens, flash_attention=flash_attention)
            assert 0.95 < guess / (reported[flash_attention] * 2**20) < 1.35


@pytest.mark.parametrize("name", REPORTED_OF_TWO)
def test_the_compute_buffer_of_two_devices(name: str) -> None:
    for flash_attention in (False, True):
        guess = memory.compute_bytes(
            HEADERS[name], cells=4096, tokens=512, flash_attention=flash_attention, pipelined=True
        )
        assert 0.92 < guess / (REPORTED_OF_TWO[name][flash_attention] * 2**20) < 1.35


@pytest.mark.parametrize(
    "metadata",
    [
        {"block_count": None},
        {"block_count": "32"},
        {"block_count": 1.5},
        {"block_count": -1},
        {"embedding_length": None},
        {"attention.head_count": True},
        {"attention.head_count_kv": np.array([8, 8], dtype=np.uint32)},
        {"attention.head_count_kv": np.array([], dtype=np.uint32)},
    ],
)
def test_a_forged_header_is_refused(metadata: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="cannot be run"):
        plan(header_of("M", **metadata), gpus_of(8))


# --- placement


@pytest.mark.parametrize(
    ("name", "layers"),
    [("S", (33, 33, 33, 33, 33)), ("M", (22, 33, 33, 33, 33)), ("L", (11, 20, 28, 41, 41))],
)
def test_what_fits_one_device(name: str, layers: tuple[int, ...]) -> None:
    """Of 4, 6, 8, 12 and 24 GiB free, with a context of 4096 tokens.

    By hand, M in 4 GiB: 3072 MiB are left beside the margin. The output takes 103, computing 160, and a layer
    117 + 16 of KV memory: 21 layers and the output. L: 128, 233 and 170 + 80: 10 layers and the output.
    """
    assert tuple(plan(HEADERS[name], gpus_of(free)).n_gpu_layers for free in (4, 6, 8, 12, 24)) == layers


def test_a_placement_is_said_in_a_sentence() -> None:
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


def test_one_device_is_enough_where_it_holds_all() -> None:
    for free in ((6, 12), (12, 6)):
        placed = plan(HEADERS["M"], gpus_of(*free))
        assert placed.devices == (f"GPU{free.index(12)}",)
        assert placed.tensor_split == (33.0,)


def test_uneven_devices_are_filled_to_the_same_share_of_their_room() -> None:
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


def test_layers_that_are_asked_for_are_placed() -> None:
    assert plan(HEADERS["M"], gpus_of(8), "all").n_gpu_layers == 33
    assert plan(HEADERS["M"], gpus_of(8), 1000).n_gpu_layers == 33
    assert plan(HEADERS["M"], gpus_of(8), 10).tensor_split == (10.0,)
    nothing = plan(HEADERS["M"], gpus_of(8), 0)
    assert (nothing.n_gpu_layers, nothing.devices, nothing.tensor_split) == (0, (), ())
    # The margin is what `auto` keeps; who asks may have it.
    assert plan(HEADERS["M"], gpus_of(4.5), "auto").n_gpu_layers < 33
    assert plan(HEADERS["M"], gpus_of(4.5), "all").n_gpu_layers == 33


@pytest.mark.parametrize("asked", ["all", 33, 30])
def test_layers_that_do_not_fit_are_refused_with_figures(asked: str | int) -> None:
    with pytest.raises(
        UsageError, match=r"take 4\.\d GiB with a context of 4,096 tokens.*GPU0 has 3\.0 GiB free"
    ) as caught:
        plan(HEADERS["M"], gpus_of(3), asked)
    assert "auto, which puts 14 of them there" in str(caught.value)
    assert caught.value.settings == ("gpu_layers", "context")


def test_without_a_gpu_all_is_the_cpu() -> None:
    for asked in ("auto", 0):
        assert on_cpu(asked).n_gpu_layers == 0
        assert on_cpu(asked).loads == ()
    for asked in ("all", 1):
        with pytest.raises(UsageError, match="install a GPU build"):
            on_cpu(asked)


@pytest.mark.parametrize("asked", [-1, True, 1.5, "5", None])
def test_only_counts_and_words_are_asked_for(asked: Any) -> None:
    with pytest.raises(UsageError, match="give auto, all or a number of layers"):
        Settings(gpu_layers=asked)


# --- llama.cpp's own rule


def divided_by_llama_cpp(layers: int, n_gpu_layers: int, tensor_split: Sequence[float]) -> list[int | None]:
    """The device of each layer and of the output, None for the CPU.

    After load_tensors of src/llama-model.cpp: the splits are summed up and normalized in float32, and a place goes to
    std::upper_bound of its fraction among them.
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
def test_what_is_asked_for_is_placed_or_refused(name: str, free: list[float], asked: int) -> None:
    gpus = gpus_of(*free)
    try:
        placed = plan(HEADERS[name], gpus, asked)
    except UsageError:
        assert plan(HEADERS[name], gpus).n_gpu_layers < asked
    else:
        assert placed.n_gpu_layers == min(asked, SHAPES[name][0] + 1)
        assert all(load.size <= gpu.free for load, gpu in zip(placed.loads, gpus, strict=True))


# --- devices


def test_this_build_has_a_cpu() -> None:
    [cpu] = [device for device in ggml.devices() if device.kind == "cpu"]
    assert cpu.name == cpu.backend == "CPU"
    assert 0 < cpu.free <= cpu.total
    assert cpu not in ggml.gpus(ggml.devices())


def test_the_devices_that_layers_go_to() -> None:
    cpu = Device("CPU", "", "cpu", 5, 9, "CPU")
    blas = Device("BLAS", "", "accelerator", 0, 0, "BLAS")
    card = Device("CUDA0", "", "gpu", 7, 8, "CUDA", "0000:01:00.0")
    other = Device("CUDA1", "", "gpu", 7, 8, "CUDA", "0000:02:00.0")
    again = Device("Vulkan0", "", "gpu", 7, 8, "Vulkan", "0000:01:00.0")
    chip = Device("Vulkan1", "", "integrated gpu", 0, 0, "Vulkan")
    foreign = Device("SYCL0", "", "integrated gpu", 3, 3, "SYCL")
    assert ggml.gpus([cpu, blas]) == []
    assert ggml.gpus([card, other, again, chip, cpu]) == [card, other]
    # A chip that does not know its memory shares the CPU's.
    assert ggml.gpus([chip, foreign, cpu]) == [replace(chip, free=5, total=9)]


# --- llama.cpp itself, with its CPU as the device


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Device:
    """llama.cpp's CPU, which the engine then takes for a GPU."""
    [cpu] = [device for device in ggml.devices() if device.kind == "cpu"]
    monkeypatch.setattr(llama, "gpus", lambda devices: [cpu])
    return cpu


ROW = {"review": "Works, but it is loud."}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of six layers and the output."""
    return write_tiny_model(tmp_path_factory.mktemp("tiny") / "tiny.gguf", layers=6, context=2048)


def probabilities_of(path: Path, asked: str | int) -> tuple[Placement, Mapping[str, float]]:
    with Runtime(path, envelope="alpaca", gpu_layers=asked) as runtime:
        answer = runtime.answer("SA", ROW, calibration=False)
        assert answer.probabilities is not None
        assert runtime.placement is not None
        return runtime.placement, answer.probabilities


@pytest.mark.parametrize(("asked", "layers"), [("auto", 7), ("all", 7), (5, 5), (0, 0)])
def test_a_model_runs_where_it_was_placed(asked: str | int, layers: int, stand_in: Device, tiny: Path) -> None:
    placement, placed = probabilities_of(tiny, asked)
    assert placement.n_gpu_layers == layers
    assert placement.devices == ((stand_in.name,) if layers else ())
    _, expected = probabilities_of(tiny, 0)
    assert placed == pytest.approx(expected, abs=1e-3)


def test_the_demo_runs_where_it_was_placed(stand_in: Device, demo: Runtime, demo_model: StoredModel) -> None:
    placement, placed = probabilities_of(demo_model.path, "all")
    assert placement.n_gpu_layers == 31
    expected = demo.answer("SA", ROW, calibration=False).probabilities
    assert expected is not None
    assert placed == pytest.approx(expected, abs=0.1)


def test_without_a_gpu_the_cpu_answers(demo_model: StoredModel) -> None:
    with Runtime(demo_model.path, envelope="alpaca") as runtime:
        assert runtime.placement is not None
        assert runtime.placement.loads == ()
        assert runtime.answer("SA", ROW).value in "ABCDE"
    for asked in ("all", 1):
        with pytest.raises(UsageError, match="no GPU device here"):
            Runtime(demo_model.path, envelope="alpaca", gpu_layers=asked)


@pytest.mark.parametrize(("failing", "left"), [([7], 3), ([7, 3], 0)])
def test_a_plan_that_was_too_bold_is_made_smaller(
    failing: list[int], left: int, stand_in: Device, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = llama_cpp.llama_model_load_from_file
    tried = []

    def scarce(path: bytes, parameters: Any) -> Any:
        tried.append(parameters.n_gpu_layers)
        return None if parameters.n_gpu_layers in failing else load(path, parameters)

    monkeypatch.setattr(llama_cpp, "llama_model_load_from_file", scarce)
    backend = LlamaBackend(tiny, Settings())
    try:
        assert tried == [*failing, left]
        assert backend.placement.n_gpu_layers == left
        assert "with 7 it did not load" in backend.placement.description
    finally:
        backend.close()
    with pytest.raises(ModelError, match="fewer layers on the GPU"):
        LlamaBackend(tiny, Settings(gpu_layers="all"))


def test_a_damaged_model_is_no_matter_of_the_gpu(stand_in: Device, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llama_cpp, "llama_model_load_from_file", lambda path, parameters: None)
    with pytest.raises(ModelError, match="convert or download the model again"):
        LlamaBackend(tiny, Settings())


# --- the command line


RUN = ["run", "-t", "SA", "-i", json.dumps(ROW), "--envelope", "alpaca", "--model"]


def test_run_says_what_was_placed(stand_in: Device, tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command([*RUN, str(tiny)]) == 0
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("7 of 7 layers on CPU (")
    assert run_command([*RUN, str(tiny), "--quiet"]) == 0
    assert capsys.readouterr().err == ""


def test_run_says_nothing_of_a_gpu_where_there_is_none(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command([*RUN, str(tiny)]) == 0
    assert capsys.readouterr().err == ""
    assert run_command([*RUN, str(tiny), "--gpu-layers", "all"]) == 2
    assert "install a GPU build" in capsys.readouterr().err
