"""One row on the CPU and the same row with all layers on the GPU: whether they agree, and what each takes."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

from ecellm_lite.runtime import Runtime
from ecellm_lite.tasks.registry import get_task

TASK = "sentiment_analysis"

# The first row on a GPU waits for kernels to be compiled and memory to be set up: this one pays for it.
WARM_UP = {"review": "It does what it should."}

# CPU and GPU round differently, and quantized weights make up to 0.13 of it (seen on an H100, no answer another): more
# is another computation.
TOLERANCE = 0.2


@dataclass(frozen=True, slots=True)
class Run:
    """The row on one placement: its answer, the probability of each possible one, and seconds."""

    placement: str
    gpu_layers: int
    value: str
    probabilities: dict[str, float]
    load_seconds: float
    row_seconds: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """The row without and with the GPU; `difference` is the largest between two probabilities of one answer."""

    model: str
    task: str
    cpu: Run
    gpu: Run
    same_answer: bool
    difference: float

    @property
    def agrees(self) -> bool:
        """Whether the GPU computes what the CPU does, but for rounding."""
        return self.difference <= TOLERANCE

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {"agrees": self.agrees, **asdict(self)}


def compare(model: str | None, *, envelope: str | None = None) -> Comparison:
    """Return an example row answered with 0 and with all layers on the GPU.

    Raises UsageError where llama.cpp has no GPU device or the model does not fit it, ModelError for no such model.
    """
    # The GPU first: where there is none, that is said at once.
    gpu, name = _run(model, envelope, "all")
    cpu, _ = _run(model, envelope, 0)
    difference = max(abs(cpu.probabilities[key] - gpu.probabilities[key]) for key in cpu.probabilities)
    return Comparison(name, TASK, cpu, gpu, cpu.value == gpu.value, difference)


def _run(model: str | None, envelope: str | None, gpu_layers: str | int) -> tuple[Run, str]:
    started = time.perf_counter()
    # A prefix that an earlier process has read would be compared as it was, and not computed here.
    with Runtime(model, envelope=envelope, gpu_layers=gpu_layers, prefix_files=False) as runtime:
        loaded = time.perf_counter()
        placement = runtime.placement
        assert placement is not None
        runtime.answer(TASK, WARM_UP)
        asked = time.perf_counter()
        answer = runtime.answer(TASK, get_task(TASK).example())
        ended = time.perf_counter()
        assert answer.probabilities is not None
        run = Run(
            placement.description,
            placement.n_gpu_layers,
            answer.value,
            dict(answer.probabilities),
            round(loaded - started, 3),
            round(ended - asked, 3),
        )
        return run, runtime.model.name
