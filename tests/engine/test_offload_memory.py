"""Tests the estimates of memory for weights, KV cells and computation against llama.cpp's log."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ecellm_lite import ModelError
from ecellm_lite.engine import memory
from ecellm_lite.engine.memory import cells_that_fit, kv_bytes_per_cell, weight_bytes
from ecellm_lite.models.gguf_header import read_header
from ecellm_lite.models.store import StoredModel
from tests.support.offload_headers import GIB, HEADERS, SHAPES, gpus_of, header_of, plan
from tests.support.refusals import refusal


@pytest.mark.parametrize(("name", "kib"), [("M", 128), ("S", 320), ("L", 800)])
def test_the_kv_memory_of_a_token_is_known(name: str, kib: int) -> None:
    assert kv_bytes_per_cell(HEADERS[name], "f16") == kib << 10
    assert kv_bytes_per_cell(HEADERS[name], "f32") == kib << 11
    assert kv_bytes_per_cell(HEADERS[name], "q8_0") == (kib << 10) // 64 * 34


def test_kv_memory_depends_on_each_layers_heads_and_their_lengths() -> None:
    by_layer = np.array([8] * 16 + [4] * 16, dtype=np.uint32)
    assert kv_bytes_per_cell(header_of("M", **{"attention.head_count_kv": by_layer}), "f16") == 96 << 10
    assert kv_bytes_per_cell(header_of("M", **{"attention.key_length": 64}), "f16") == 96 << 10
    alone = header_of("M", **{"attention.head_count_kv": None})
    assert kv_bytes_per_cell(alone, "f16") == 512 << 10


def test_the_largest_context_that_fits_is_known() -> None:
    assert cells_that_fit(HEADERS["M"], "f16", GIB) == 8192
    assert cells_that_fit(HEADERS["M"], "f16", GIB - 1) == 8192 - 256
    assert cells_that_fit(HEADERS["L"], "f16", GIB) == 1280
    assert cells_that_fit(HEADERS["L"], "f16", 1 << 20) == cells_that_fit(HEADERS["L"], "f16", -5) == 0


def test_the_weights_of_the_demo_fill_its_file(demo_model: StoredModel) -> None:
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
def test_the_compute_buffer_is_close_to_llama_cpps_reservation(name: str) -> None:
    for (cells, tokens), reported in REPORTED[name].items():
        for flash_attention in (False, True):
            guess = memory.compute_bytes(HEADERS[name], cells=cells, tokens=tokens, flash_attention=flash_attention)
            assert 0.95 < guess / (reported[flash_attention] * 2**20) < 1.35


@pytest.mark.parametrize("name", REPORTED_OF_TWO)
def test_the_compute_buffer_of_two_devices_is_close_to_llama_cpps(name: str) -> None:
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
    with refusal(ModelError, next(iter(metadata))):
        plan(header_of("M", **metadata), gpus_of(8))
