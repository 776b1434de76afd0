"""Answers one row on the CPU and then with all layers on the GPU, and compares the answers and the times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from ecellm_lite.doctor_offload.attempt import Attempt, attempt
from ecellm_lite.engine.settings import Settings
from ecellm_lite.errors import EcellmError, UsageError
from ecellm_lite.pipe.child_runtime import child_command
from ecellm_lite.pipe.messages import Ask
from ecellm_lite.strict import decode
from ecellm_lite.tasks.registry import get_task

TASK = "sentiment_analysis"

# CPU and GPU round differently, and quantized weights amplify that: differences up to 0.13 were seen on an H100, with
# the same answers. A larger difference means a different computation.
TOLERANCE = 0.2

# The first row on a GPU waits for kernels to compile and memory to be set up; this row takes that time.
WARM_UP = {"review": "It does what it should."}

# Time limit per placement: enough to hash a large file, make the demo, compile kernels for a GPU, or wait for a slow
# CPU.
SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Run:
    """The answer to one row on the CPU or on the GPU, and its probabilities.

    `placement`: where the model was loaded.
    `load_seconds`, `row_seconds`: how long it took to load the model, and to answer the row.
    """

    placement: str
    gpu_layers: int
    value: str
    probabilities: dict[str, float]
    load_seconds: float
    row_seconds: float


@dataclass(frozen=True, slots=True)
class Problem:
    """A failure on the CPU or the GPU (`placement`), with advice and the last lines that the process wrote."""

    placement: str
    finding: str
    advice: str
    last_lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class OffloadCheck:
    """A comparison of one row's results on the CPU and on the GPU.

    `model`: the model's name, or None if no name was given and neither process reported one.
    `cpu`, `gpu`: the results, or None where there was no answer. If either is None, nothing is compared, and `findings`
      says what went wrong.
    `difference`: the largest difference between the CPU's and the GPU's probability of the same answer.

    A process may crash after it has answered. Then there are both a result and a finding.
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
        """Whether the GPU computes the same probabilities as the CPU, up to rounding. None if nothing was compared."""
        return None if self.difference is None else self.difference <= TOLERANCE

    def as_dict(self) -> dict[str, Any]:
        """Return the comparison as plain data."""
        return {"agrees": self.agrees, **asdict(self)}


@dataclass(frozen=True, slots=True)
class _Side:
    """The settings for a run on the CPU or on the GPU.

    `gpu_layers`: how many layers are on the GPU.
    `layers`: this number in words, such as "no layers on the GPU".
    `advice`: what the user can do if the run fails.
    """

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
class _Result:
    """What the process on the CPU or on the GPU reported.

    `model`: the model's name.
    `run`: the answer and its times, or None.
    `error`: the error that the process reported instead of an answer, or None.
    `problem`: what to tell the user about an error, a crash or a hang, or None.
    """

    model: str | None
    run: Run | None = None
    error: EcellmError | None = None
    problem: Problem | None = None


def compare(
    model: str | None, *, envelope: str | None = None, program: Sequence[str] = (), seconds: float = SECONDS
) -> OffloadCheck:
    """Answer a row on the CPU, answer it again with all layers on the GPU, and compare the two answers.

    Each of the two runs has its own process, which is stopped if it takes more than `seconds`. The process is started
    as ChildRuntime starts its child (see pipe/child_runtime.py). If `program` is given, that program is started
    instead, with the same settings. If one process crashes, hangs or reports an error, the result says so, and the
    other process still runs.

    Raises UsageError if llama.cpp has no GPU device, or if the model does not fit into the GPU's memory. If both runs
    report an error, such as ModelError for a missing model, that error is raised.
    """
    # The GPU first: if there is none, the error comes at once.
    gpu = _result(_GPU, model, envelope, program, seconds)
    if isinstance(gpu.error, UsageError):
        raise gpu.error
    cpu = _result(_CPU, model, envelope, program, seconds)
    if cpu.error and gpu.error:
        raise cpu.error
    problems = [side.problem for side in (cpu, gpu) if side.problem]
    same = difference = None
    if cpu.run and gpu.run:
        same = cpu.run.value == gpu.run.value
        one, other = cpu.run.probabilities, gpu.run.probabilities
        difference = max(abs(one.get(key, 0.0) - other.get(key, 0.0)) for key in one | other)
    return OffloadCheck(gpu.model or cpu.model or model, TASK, cpu.run, gpu.run, same, difference, tuple(problems))


def _result(side: _Side, model: str | None, envelope: str | None, program: Sequence[str], seconds: float) -> _Result:
    settings = Settings()
    command = child_command(
        model,
        envelope=envelope,
        gpu_layers=side.gpu_layers,
        # Both placements must compute the same from scratch: without prefixes of an earlier process, and with the
        # default settings in place of a tuning, which is valid for one placement only.
        kv_type=settings.kv_type,
        micro_batch=settings.micro_batch,
        flash_attention=settings.flash_attention,
        prefix_files=False,
    )
    rows = (WARM_UP, get_task(TASK).example())
    requests = [Ask(number, TASK, row, {"calibration": False}) for number, row in enumerate(rows)]
    outcome = attempt([*program, command[-1]] if program else command, requests, seconds)
    name = outcome.model["name"] if outcome.model else None
    error = outcome.error or next((answer.error.exception() for answer in outcome.answers if answer.error), None)
    if error:
        return _Result(name, error=error, problem=_problem(side, f"was not answered. {error}"))
    run = _run(outcome) if len(outcome.answers) == len(rows) else None
    if run and not outcome.trouble:
        return _Result(name, run)
    how = "was answered, but then" if run else "was not answered:"
    trouble = outcome.trouble or "ended normally, but without an answer"
    return _Result(name, run, problem=_problem(side, f"{how} its process {trouble}.", outcome.last_lines))


def _run(outcome: Attempt) -> Run | None:
    """Return a process's last answer, with its load time and row time, or None if the answer is not a choice."""
    answer = outcome.answers[-1]
    try:
        facts = {**outcome.model["placement"]} if outcome.model else {}
        run = decode(
            Run,
            {
                "placement": facts["description"],
                "gpu_layers": facts["gpu_layers"],
                "value": answer.value,
                "probabilities": answer.probabilities,
                "load_seconds": round(outcome.load_seconds, 3),
                "row_seconds": answer.seconds,
            },
        )
    except (ValueError, LookupError, TypeError):
        return None
    return replace(run, row_seconds=round(run.row_seconds, 3)) if run.value in run.probabilities else None


def _problem(side: _Side, finding: str, last_lines: tuple[str, ...] = ()) -> Problem:
    return Problem(side.name, f"With {side.layers} the row {finding}", side.advice, last_lines)
