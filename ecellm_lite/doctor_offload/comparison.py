"""Answers one row on the CPU, then with all layers on the GPU, and compares the answers and the times."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ecellm_lite.doctor_offload.child import ProcessResult, watch
from ecellm_lite.errors import EcellmError, UsageError, error_of
from ecellm_lite.strict import decode

TASK = "sentiment_analysis"

# CPU and GPU round differently, and quantized weights amplify that: differences up to 0.13 were seen on an H100, with
# the same answers. A larger difference means a different computation.
TOLERANCE = 0.2

# The program that answers the row on one placement; faulthandler writes the stack of a crash to standard error.
PROGRAM = (sys.executable, "-X", "faulthandler", "-m", "ecellm_lite.doctor_offload")

# Time limit per placement: enough to hash a large file, make the demo, compile kernels for a GPU, or wait for a slow
# CPU.
SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Run:
    """The row's result on one placement (`cpu` or `gpu`): its answer, all answers' probabilities, times in seconds."""

    placement: str
    gpu_layers: int
    value: str
    probabilities: dict[str, float]
    load_seconds: float
    row_seconds: float


@dataclass(frozen=True, slots=True)
class Problem:
    """A failure on a placement (`cpu` or `gpu`), with the next step and the last lines that its process wrote."""

    placement: str
    finding: str
    advice: str
    last_lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class OffloadCheck:
    """The row's results without and with the GPU, compared.

    `model`: its name; None if no name was given and neither process reported one.
    `cpu`, `gpu`: None if there is no answer. Then nothing is compared, and `findings` says what went wrong.
    `difference`: the largest difference between the two probabilities of any possible answer.

    A process can die after its answer: then it has both a Run and a finding.
    """

    model: str | None
    task: str
    cpu: Run | None
    gpu: Run | None
    same_answer: bool | None
    difference: float | None
    findings: tuple[Problem, ...]

    @property
    def agrees(self) -> bool | None:
        """Whether the GPU computes the same as the CPU, up to rounding; None if `cpu` or `gpu` is None."""
        return None if self.difference is None else self.difference <= TOLERANCE

    def as_dict(self) -> dict[str, Any]:
        """Return the check as plain data."""
        return {"agrees": self.agrees, **asdict(self)}


@dataclass(frozen=True, slots=True)
class _Side:
    """One of the two placements that are compared, and the next step to advise if it fails."""

    name: str
    gpu_layers: str | int
    layers: str
    advice: str


_GPU = _Side(
    "gpu",
    "all",
    "all layers on the GPU",
    "run with 0 GPU layers, and update the GPU's driver and llama-cpp-python, which must be built for it",
)
_CPU = _Side(
    "cpu",
    0,
    "no layers on the GPU",
    "use a smaller file of the model if memory is short, else install llama-cpp-python again, built for this machine",
)


@dataclass(frozen=True, slots=True)
class _RowResult:
    """The JSON object that a process prints for an answered row."""

    model: str
    run: Run


@dataclass(frozen=True, slots=True)
class _Error:
    code: str
    message: str
    step: str | None = None
    settings: list[str] | None = None


@dataclass(frozen=True, slots=True)
class _ErrorResult:
    """The JSON object that a process prints for an error."""

    error: _Error


@dataclass(frozen=True, slots=True)
class _Attempt:
    """The outcome of a placement's process: what the process printed, and its problem if it had one."""

    model: str | None = None
    run: Run | None = None
    error: EcellmError | None = None
    problem: Problem | None = None


def compare(
    model: str | None, *, envelope: str | None = None, program: Sequence[str] = PROGRAM, seconds: float = SECONDS
) -> OffloadCheck:
    """Answer a row with no layers and with all layers on the GPU, each in its own process, and compare the answers.

    Each process runs `program`, by default `python -m ecellm_lite.doctor_offload`, for at most `seconds`. A process
    that crashes, is killed, hangs or ends with an error is reported as a problem, and does not stop the other
    placement.

    Raises UsageError if llama.cpp has no GPU device or the model does not fit it. If both placements end with an error,
    such as ModelError for a missing model, that error is raised.
    """
    # The GPU first: if there is none, the error comes at once.
    gpu = _attempt(_GPU, model, envelope, program, seconds)
    if isinstance(gpu.error, UsageError):
        raise gpu.error
    cpu = _attempt(_CPU, model, envelope, program, seconds)
    if cpu.error and gpu.error:
        raise cpu.error
    problems = [problem for sides in ((_CPU, cpu), (_GPU, gpu)) if (problem := _problem(*sides))]
    same = difference = None
    if cpu.run and gpu.run:
        same = cpu.run.value == gpu.run.value
        one, other = cpu.run.probabilities, gpu.run.probabilities
        difference = max(abs(one.get(key, 0.0) - other.get(key, 0.0)) for key in one | other)
    return OffloadCheck(gpu.model or cpu.model or model, TASK, cpu.run, gpu.run, same, difference, tuple(problems))


def _problem(side: _Side, attempt: _Attempt) -> Problem | None:
    """Return the problem of a placement, or None if it has none."""
    if attempt.error is None:
        return attempt.problem
    return Problem(side.name, f"With {side.layers} the row was not answered. {attempt.error}", side.advice)


def _attempt(side: _Side, model: str | None, envelope: str | None, program: Sequence[str], seconds: float) -> _Attempt:
    argument = {"model": model, "envelope": envelope, "gpu_layers": side.gpu_layers, "seconds": seconds}
    process = watch([*program, json.dumps(argument)], seconds)
    attempt = _read(process)
    if attempt and not (attempt.run and process.trouble):
        return attempt
    result = "was answered, but then" if attempt else "was not answered:"
    # The first characters are enough to recognize what was printed instead.
    trouble = process.trouble or f"ended normally, but its output is not a result ({process.output[:60]!r})"
    sentence = f"With {side.layers} the row {result} its process {trouble}."
    problem = Problem(side.name, sentence, side.advice, process.last_lines)
    return _Attempt(attempt.model, attempt.run, None, problem) if attempt else _Attempt(problem=problem)


def _read(process: ProcessResult) -> _Attempt | None:
    """Return the result that a process printed, or None if its output is not a result."""
    try:
        data = json.loads(process.output)
        if isinstance(data, dict) and "error" in data:
            error = decode(_ErrorResult, data).error
            kind = error_of(error.code)
            return _Attempt(error=kind(error.message, step=error.step, settings=error.settings or ()))
        result = decode(_RowResult, data)
    except (ValueError, RecursionError):
        return None
    # The most likely answer must have a probability.
    return _Attempt(result.model, result.run) if result.run.value in result.run.probabilities else None
