"""Tests that layers are loaded onto a device, with the real llama.cpp.

The device is the CPU in place of a GPU, because llama.cpp's loader treats both in the same way. So these tests do not
need a GPU, and they do not show that a GPU works.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import llama_cpp.llama_cpp as llama_cpp
import pytest

from ecellm_lite import ModelError, Runtime, UsageError
from ecellm_lite.cli.main import run_command
from ecellm_lite.devices import Device, devices, gpus
from ecellm_lite.engine import weights
from ecellm_lite.engine.llama import LlamaBackend
from ecellm_lite.engine.offload import Placement
from ecellm_lite.engine.settings import Settings
from ecellm_lite.models.store import StoredModel
from tests.support.refusals import refusal
from tests.support.tiny_models import write_tiny_model


def test_the_cpu_is_listed_as_a_device() -> None:
    [cpu] = [device for device in devices() if device.kind == "cpu"]
    assert cpu.name == cpu.backend == "CPU"
    assert 0 < cpu.free <= cpu.total
    assert cpu not in gpus(devices())


def test_layers_go_to_each_gpu_once() -> None:
    cpu = Device("CPU", "", "cpu", 5, 9, "CPU")
    blas = Device("BLAS", "", "accelerator", 0, 0, "BLAS")
    card = Device("CUDA0", "", "gpu", 7, 8, "CUDA", "0000:01:00.0")
    other = Device("CUDA1", "", "gpu", 7, 8, "CUDA", "0000:02:00.0")
    again = Device("Vulkan0", "", "gpu", 7, 8, "Vulkan", "0000:01:00.0")
    chip = Device("Vulkan1", "", "integrated gpu", 0, 0, "Vulkan")
    foreign = Device("SYCL0", "", "integrated gpu", 3, 3, "SYCL")
    assert gpus([cpu, blas]) == []
    assert gpus([card, other, again, chip, cpu]) == [card, other]
    # A device that reports no memory shares the CPU's.
    assert gpus([chip, foreign, cpu]) == [replace(chip, free=5, total=9)]


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Device:
    """Let the engine treat llama.cpp's CPU device as a GPU, and return that device."""
    [cpu] = [device for device in devices() if device.kind == "cpu"]
    monkeypatch.setattr(weights, "gpus", lambda devices: [cpu])
    return cpu


ROW = {"review": "Works, but it is loud."}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a tiny model of six layers and an output layer."""
    return write_tiny_model(tmp_path_factory.mktemp("tiny") / "tiny.gguf", layers=6, context=2048)


def probabilities_of(path: Path, gpu_layers: str | int) -> tuple[Placement, Mapping[str, float]]:
    with Runtime(path, envelope="alpaca", gpu_layers=gpu_layers) as runtime:
        answer = runtime.answer("SA", ROW, calibration=False)
        assert answer.probabilities is not None
        assert runtime.placement is not None
        return runtime.placement, answer.probabilities


@pytest.mark.parametrize(("gpu_layers", "layers"), [("auto", 7), ("all", 7), (5, 5), (0, 0)])
def test_a_model_runs_where_it_was_placed(gpu_layers: str | int, layers: int, stand_in: Device, tiny: Path) -> None:
    placement, placed = probabilities_of(tiny, gpu_layers)
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


def test_a_machine_without_a_gpu_answers_on_its_cpu(demo_model: StoredModel) -> None:
    with Runtime(demo_model.path, envelope="alpaca") as runtime:
        assert runtime.placement is not None
        assert runtime.placement.loads == ()
        assert runtime.answer("SA", ROW).value in "ABCDE"
    for gpu_layers in ("all", 1):
        with refusal(UsageError, gpu_layers, settings=("gpu_layers",)):
            Runtime(demo_model.path, envelope="alpaca", gpu_layers=gpu_layers)


@pytest.mark.parametrize(("failing", "left"), [([7], 3), ([7, 3], 0)])
def test_fewer_layers_are_offloaded_if_loading_fails(
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
        assert re.search(r"\b7\b", backend.placement.description)
    finally:
        backend.close()
    with refusal(ModelError, settings=("gpu_layers",)):
        LlamaBackend(tiny, Settings(gpu_layers="all"))


def test_a_damaged_model_is_not_blamed_on_the_gpu(
    stand_in: Device, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llama_cpp, "llama_model_load_from_file", lambda path, parameters: None)
    with refusal(ModelError, settings=()):
        LlamaBackend(tiny, Settings())


RUN = ["run", "-t", "SA", "-i", json.dumps(ROW), "--envelope", "alpaca", "--model"]


def test_run_reports_the_placement(stand_in: Device, tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command([*RUN, str(tiny)]) == 0
    [line] = capsys.readouterr().err.splitlines()
    assert re.match(r"7 of 7 .*\bCPU \(", line)
    assert run_command([*RUN, str(tiny), "--quiet"]) == 0
    assert capsys.readouterr().err == ""


def test_run_does_not_mention_a_gpu_on_a_machine_without_one(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command([*RUN, str(tiny)]) == 0
    assert capsys.readouterr().err == ""
    assert run_command([*RUN, str(tiny), "--gpu-layers", "all"]) == 2
    assert "--gpu-layers" in capsys.readouterr().err
