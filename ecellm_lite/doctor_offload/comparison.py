"""One row on the CPU and the same row with all layers on the GPU: whether they agree, and what each takes."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ecellm_lite.doctor_offload.child import Ended, watch
from ecellm_lite.errors import ContextError, EcellmError, InputError, ModelError, UsageError
from ecellm_lite.strict import decode

TASK = "sentiment_analysis"

# CPU and GPU round differently, and quantized weights make up to 0.13 of it (seen on an H100, no answer another): more
# is another computation.
TOLERANCE = 0.2

# What answers the row on one placement; faulthandler writes a crash's stack to standard error.
PROGRAM = (sys.executable, "-X", "faulthandler", "-m", "ecellm_lite.doctor_offload")

# For each placement: a large file is read and hashed, the demo made, kernels compiled for a GPU, a slow CPU waited for.
SECONDS = 600.0

_ERRORS = {kind.code: kind for kind in (EcellmError, UsageError, InputError, ContextError, ModelError)}


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
class Finding:
    """What went wrong on a placement (`cpu` or `gpu`), the next step, and what its process wrote last."""

    placement: str
    finding: str
    advice: str
    last_lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Comparison:
    """The row without and with the GPU; `difference` is the largest between two probabilities of one answer.

    A placement that came to no answer is None and has a finding, and nothing is compared then. One whose process died
    after its answer has both. `model` is None where no placement came to tell its name.
    """

    model: str | None
    task: str
    cpu: Run | None
    gpu: Run | None
    same_answer: bool | None
    difference: float | None
    findings: tuple[Finding, ...]

    @property
    def agrees(self) -> bool | None:
        """Whether the GPU computes what the CPU does, but for rounding; None where one of them came to no answer."""
        return None if self.difference is None else self.difference <= TOLERANCE

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {"agrees": self.agrees, **asdict(self)}


@dataclass(frozen=True, slots=True)
class _Placement:
    """A way to place the layers, and what to do where it fails."""

    name: str
    gpu_layers: str | int
    words: str
    advice: str


_GPU = _Placement(
    "gpu",
    "all",
    "all layers on the GPU",
    "run with --gpu-layers 0, and update the GPU's driver and llama-cpp-python, which must be built for it",
)
_CPU = _Placement(
    "cpu",
    0,
    "no layers on the GPU",
    "take a smaller file of the model if memory is short, else install llama-cpp-python again, built for this machine",
)


@dataclass(frozen=True, slots=True)
class _Answered:
    """What a process prints of a row that it answered."""

    model: str
    run: Run


@dataclass(frozen=True, slots=True)
class _Error:
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class _Failed:
    """What a process prints of an error."""

    error: _Error


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What a placement's process told, and what went wrong with it."""

    model: str | None = None
    run: Run | None = None
    error: EcellmError | None = None
    finding: Finding | None = None


def compare(
    model: str | None, *, envelope: str | None = None, program: Sequence[str] = PROGRAM, seconds: float = SECONDS
) -> Comparison:
    """Return an example row answered with 0 and with all layers on the GPU, each in a process of its own.

    `program` is what answers on one placement, as `python -m ecellm_lite.doctor_offload` does, and has so many
    `seconds`. A process that crashes, is killed, hangs or ends with an error is a finding, and the other placement's
    run is there all the same.

    Raises UsageError where llama.cpp has no GPU device or the model does not fit it, and what is wrong on both, as
    ModelError for no such model.
    """
    # The GPU first: where there is none, that is said at once.
    gpu = _outcome(_GPU, model, envelope, program, seconds)
    if isinstance(gpu.error, UsageError):
        raise gpu.error
    cpu = _outcome(_CPU, model, envelope, program, seconds)
    if cpu.error and gpu.error:
        raise cpu.error
    findings = [finding for of in ((_CPU, cpu), (_GPU, gpu)) if (finding := _finding(*of))]
    same = difference = None
    if cpu.run and gpu.run:
        same = cpu.run.value == gpu.run.value
        one, other = cpu.run.probabilities, gpu.run.probabilities
        difference = max(abs(one.get(key, 0.0) - other.get(key, 0.0)) for key in one | other)
    return Comparison(gpu.model or cpu.model or model, TASK, cpu.run, gpu.run, same, difference, tuple(findings))


def _finding(placement: _Placement, outcome: _Outcome) -> Finding | None:
    """Return what went wrong on a placement, an error in its own words; None where nothing did."""
    if outcome.error is None:
        return outcome.finding
    sentence = f"With {placement.words} the row came to no answer. {outcome.error}"
    return Finding(placement.name, sentence, placement.advice)


def _outcome(
    placement: _Placement, model: str | None, envelope: str | None, program: Sequence[str], seconds: float
) -> _Outcome:
    asked = {"model": model, "envelope": envelope, "gpu_layers": placement.gpu_layers, "seconds": seconds}
    ended = watch([*program, json.dumps(asked)], seconds)
    told = _told(ended)
    if told and not (told.run and ended.trouble):
        return told
    happened = "was answered, but then" if told else "came to no answer:"
    # The beginning is enough to see what it is instead.
    trouble = ended.trouble or f"ended well, but what it printed is no result ({ended.output[:60]!r})"
    sentence = f"With {placement.words} the row {happened} its process {trouble}."
    finding = Finding(placement.name, sentence, placement.advice, ended.last_lines)
    return _Outcome(told.model, told.run, None, finding) if told else _Outcome(finding=finding)


def _told(ended: Ended) -> _Outcome | None:
    """Return what a process printed; None for what is no result."""
    try:
        told = json.loads(ended.output)
        if isinstance(told, dict) and "error" in told:
            error = decode(_Failed, told).error
            return _Outcome(error=_ERRORS.get(error.code, EcellmError)(error.message))
        answered = decode(_Answered, told)
    except (ValueError, RecursionError):
        return None
    # The likeliest answer has a probability.
    return _Outcome(answered.model, answered.run) if answered.run.value in answered.run.probabilities else None
