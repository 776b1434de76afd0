"""The speed of a loaded model: tokens read and generated per second, and rows answered per second.

Each rate is measured for a few seconds. With a large model, a single step may take longer than that.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import geometric_mean
from typing import Any

from ecellm_lite.answers.space import Space
from ecellm_lite.bench.rows import made_up_rows
from ecellm_lite.engine.interface import Backend, Chunk
from ecellm_lite.engine.llama import LlamaBackend
from ecellm_lite.engine.settings import Settings
from ecellm_lite.envelopes import Envelope
from ecellm_lite.errors import EcellmError
from ecellm_lite.kernels.prompt import OFF, State
from ecellm_lite.runtime import Runtime
from ecellm_lite.tasks.registry import TASKS
from ecellm_lite.tasks.task import Task

SECONDS = 2.0  # per rate
FEWEST_ROWS, MOST_ROWS = 2, 32
PROMPT = 512  # tokens, as in llama-bench
STEPS = 64
SEQUENCES = 8


@dataclass(frozen=True, slots=True)
class Rates:
    """The rates of a model on this machine.

    `prefill`: prompt tokens read per second, one prompt at a time.
    `decode`: tokens generated per second, keyed by the number of answers generated at the same time.
    `rows`: rows answered per second, keyed by task.
    `memory`: the peak resident memory of this process in bytes, or None if the platform does not report it.
    `one_at_a_time`: why rows run one at a time in deterministic mode, or None if they run together.
    `prompt_kernels`: the prompt kernels that were used, or why llama.cpp read the prompts by itself.
    """

    load_seconds: float
    prefill: float
    decode: Mapping[int, float]
    rows: Mapping[str, float]
    memory: int | None
    one_at_a_time: str | None = None
    prompt_kernels: State = OFF

    @property
    def mean(self) -> float:
        """The geometric mean, over the tasks, of the rows answered per second."""
        return geometric_mean(self.rows.values())

    def as_dict(self) -> dict[str, Any]:
        """Return the rates as plain data."""
        return {
            "load_seconds": round(self.load_seconds, 3),
            "prefill_tokens_per_second": round(self.prefill, 1),
            "decode_tokens_per_second": {str(count): round(rate, 1) for count, rate in self.decode.items()},
            "rows_per_second": {name: round(rate, 3) for name, rate in self.rows.items()},
            "geometric_mean": round(self.mean, 3),
            "memory_bytes": self.memory,
            "one_at_a_time": self.one_at_a_time,
            "prompt_kernels": {
                "variant": self.prompt_kernels.variant or None,
                "reason": self.prompt_kernels.reason or None,
            },
        }


def measure(
    path: Path, envelope: Envelope, settings: Settings, *, rows: int | None = None, say: Callable[[str], None]
) -> Rates:
    """Load the model and return its rates. `say` is called with a line of text for each step.

    `rows`: the number of rows to answer for each task. By default, the number that takes about SECONDS seconds.
    """
    say("loading the model")
    started = time.perf_counter()
    backend = LlamaBackend(path, settings)
    load_seconds = time.perf_counter() - started
    # The scheduler needs the memory for itself, so it starts after the rates of the bare backend are measured.
    try:
        if backend.cells < backend.max_cells:
            backend.grow(backend.max_cells)
        say("reading a prompt")
        prefill = prefill_rate(backend)
        decode = {}
        for sequences in (1, min(SEQUENCES, backend.sequences - 1)):
            say(f"writing {sequences} at once")
            decode[sequences] = decode_rate(backend, sequences)
    except BaseException:
        backend.close()
        raise
    with Runtime.over(backend, envelope=envelope.name, deterministic=settings.deterministic) as runtime:
        rates = {}
        for task in TASKS.values():
            say(f"answering {task.name}")
            rates[task.name] = row_rate(runtime, task, rows or rows_for(runtime, task))
        one_at_a_time = runtime.one_at_a_time
    return Rates(load_seconds, prefill, decode, rates, peak_memory(), one_at_a_time, backend.prompt_kernels)


def prefill_rate(backend: Backend) -> float:
    """Return the number of prompt tokens that the backend reads per second.

    Each prompt begins with an empty KV cache.
    """
    tokens = _tokens(backend, min(PROMPT, backend.max_length - 1))

    def read() -> int:
        backend.clear()
        for start in range(0, len(tokens), backend.batch):
            piece = tokens[start : start + backend.batch]
            backend.decode([Chunk(0, start, piece, ask=int(start + len(piece) == len(tokens)))])
        return len(tokens)

    return _rate(read)


def decode_rate(backend: Backend, sequences: int) -> float:
    """Return the number of tokens that the backend generates per second in `sequences` sequences at once.

    The sequences share one prompt.
    """
    most = min(STEPS, max(1, (backend.max_length - 1) // (2 * sequences)))
    tokens = _tokens(backend, most)
    backend.clear()
    for start in range(0, most, backend.batch):
        backend.decode([Chunk(0, start, tokens[start : start + backend.batch], ask=0)])
    for sequence in range(1, sequences + 1):
        backend.fork(0, sequence, most)
    step = 0

    def write() -> int:
        nonlocal step
        if step == most:
            step = 0
            for sequence in range(1, sequences + 1):
                backend.truncate(sequence, most)
        backend.decode([Chunk(sequence, most + step, tokens[:1], ask=1) for sequence in range(1, sequences + 1)])
        step += 1
        return sequences

    return _rate(write)


def row_rate(runtime: Runtime, task: Task, count: int, space: Space | None = None) -> float:
    """Return the number of made-up rows that the runtime answers per second.

    `count` rows are measured. The instruction is read before the measurement.

    `space`: an answer space to use in place of the task's own.

    Raises EcellmError if a row has no answer.
    """
    first, *rows = made_up_rows(task, count + 1)
    runtime.answer(task, first, space=space)
    started = time.perf_counter()
    answers = list(runtime.answers(task, rows, space=space))
    seconds = time.perf_counter() - started
    if failed := [answer.error for answer in answers if answer.error]:
        reason = failed[0].message.rstrip(".")
        raise EcellmError(
            f"A made-up row of {task.name} has no answer ({reason})",
            step="give a larger context",
            settings=("context",),
        )
    return count / seconds


def rows_for(runtime: Runtime, task: Task) -> int:
    """Return how many rows of a task can be answered in about SECONDS seconds, as estimated from one row.

    The result is at least FEWEST_ROWS and at most MOST_ROWS.
    """
    # Two rows that are not among the measured ones.
    rows = made_up_rows(task, MOST_ROWS + 3)[-2:]
    runtime.answer(task, rows[0])
    started = time.perf_counter()
    runtime.answer(task, rows[1])
    return int(min(MOST_ROWS, max(FEWEST_ROWS, SECONDS / (time.perf_counter() - started))))


def peak_memory() -> int | None:
    """Return the peak resident memory of this process in bytes, or None if the platform does not report it."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def _rate(work: Callable[[], int]) -> float:
    """Call `work` repeatedly for SECONDS, and return the tokens or rows that it processed per second.

    Each call of `work` returns the number of tokens or rows that it processed. The first call is not measured.
    """
    work()
    units, started = 0, time.perf_counter()
    while True:
        units += work()
        elapsed = time.perf_counter() - started
        if elapsed >= SECONDS:
            return units / elapsed


def _tokens(backend: Backend, count: int) -> list[int]:
    words: Any = " ".join(str(value) for task in TASKS.values() for value in task.example().values())
    tokens = backend.vocabulary.tokenize(words)
    return (tokens * (1 + count // len(tokens)))[:count]
