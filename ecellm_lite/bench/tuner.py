"""Looks for the settings that answer fastest here: one setting after the other, kept only where it clearly wins."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import geometric_mean, median
from typing import Any

from ecellm_lite.answers.space import Space
from ecellm_lite.bench.rates import row_rate, rows_for
from ecellm_lite.bench.rows import FixedLengthText
from ecellm_lite.engine.llama import LlamaBackend
from ecellm_lite.engine.settings import Settings, available_cores
from ecellm_lite.envelopes import Envelope
from ecellm_lite.errors import EcellmError, UsageError
from ecellm_lite.models.store import Store, StoredModel
from ecellm_lite.models.tuning import CHOICES, Tuning, keep_tuning, this_machine
from ecellm_lite.runtime import Runtime
from ecellm_lite.tasks.registry import TASKS

# A setting is tried so many times, in turn with the best so far.
ROUNDS = 4
# It wins if its slowest reading is faster than all of the other's (by chance 1 in 70) and its median by this much.
MARGIN = 0.03

# The three ways of answering: weighed on the prompt's end, walked through candidates, and written.
TASKS_TRIED: Mapping[str, Space | None] = {
    "product_matching": None,
    "attribute_value_extraction": None,
    "answer_generation": FixedLengthText(32),
}

# Types that hold a memory's numbers less exactly than the default does.
LOSSY = {"q8_0"}

Measure = Callable[[Settings], float]


@dataclass(frozen=True, slots=True)
class Trial:
    """A setting that was tried, its readings and those of the best settings until then, in rows a second."""

    setting: str
    value: int | str
    readings: tuple[float, ...]
    against: tuple[float, ...]
    kept: bool
    error: str | None = None


def tune_model(
    store: Store,
    model: StoredModel,
    envelope: Envelope,
    *,
    fixed: Mapping[str, Any],
    lossy: bool = False,
    rows: int | None = None,
    show: Callable[[Trial], None],
) -> Tuning:
    """Try the settings that are not `fixed`, and keep for the model and this machine what wins; see tune.

    `rows` of each task are answered for a reading, or as many as take a moment.
    """
    cores = available_cores()
    start = Settings(**{"threads": cores, **fixed})
    measure = measuring(model.path, envelope, start, rows=rows)
    settings, trials = tune(start, measure, fixed=fixed, lossy=lossy, show=show)
    machine = this_machine(cores)
    tuning = Tuning(model.manifest.sha256, machine, start.gpu_layers, settings, tuple(map(asdict, trials)))
    keep_tuning(store, model, tuning)
    return tuning


def tune(
    start: Settings,
    measure: Measure,
    *,
    fixed: Collection[str] = (),
    lossy: bool = False,
    show: Callable[[Trial], None],
) -> tuple[dict[str, Any], list[Trial]]:
    """Return the settings that beat those of `start`, and the trials; `show` is called with each.

    `start` names its threads; settings in `fixed` are not tried; `lossy` also tries memory types that lose accuracy.
    """
    best, changed, trials = start, {}, []
    for setting, value in _candidates(start, fixed, lossy=lossy):
        change: dict[str, Any] = {setting: value}
        try:
            tried = replace(best, **change)
        except UsageError:  # the best settings so far rule it out
            continue
        if tried == best:
            continue
        trial = _compare(best, tried, setting, value, measure)
        trials.append(trial)
        show(trial)
        if trial.kept:
            best, changed[setting] = tried, value
    return changed, trials


def _candidates(start: Settings, fixed: Collection[str], *, lossy: bool) -> Iterator[tuple[str, int | str]]:
    cores = start.threads or 1
    # More threads than cores never helps; a core left to others, or one a pair of hyper-threads, may.
    tried: Mapping[str, Collection[int | str]] = {
        "threads": sorted({max(1, cores - 1), max(1, cores * 3 // 4), max(1, cores // 2)}, reverse=True),
        **CHOICES,
    }
    for setting, values in tried.items():
        for value in values:
            too_many = setting == "micro_batch" and start.context is not None and int(value) > start.context
            if setting not in fixed and not too_many and (lossy or value not in LOSSY):
                yield setting, value


def _compare(best: Settings, tried: Settings, setting: str, value: int | str, measure: Measure) -> Trial:
    """Measure both in turn, until the tried one has lost or all rounds are through."""
    against: list[float] = []
    readings: list[float] = []
    while len(readings) < ROUNDS:
        against.append(measure(best))
        try:
            readings.append(measure(tried))
        except EcellmError as error:  # it does not fit the memory, say
            return Trial(setting, value, tuple(readings), tuple(against), kept=False, error=str(error))
        if min(readings) <= max(against):
            return Trial(setting, value, tuple(readings), tuple(against), kept=False)
    kept = median(readings) >= (1 + MARGIN) * median(against)
    return Trial(setting, value, tuple(readings), tuple(against), kept=kept)


def measuring(path: Path, envelope: Envelope, start: Settings, *, rows: int | None = None) -> Measure:
    """Return what measures settings: the geometric mean of rows a second over TASKS_TRIED.

    The model is loaded for each reading, so that two of them are never in memory at once. The rows are the same for
    all readings: `rows` of each task, or as many as take a moment with the settings at the start.
    """
    tasks = [TASKS[name] for name in TASKS_TRIED]
    with Runtime.over(LlamaBackend(path, start), envelope=envelope.name) as runtime:
        counts = {task.name: rows or rows_for(runtime, task) for task in tasks}

    def measure(settings: Settings) -> float:
        with Runtime.over(LlamaBackend(path, settings), envelope=envelope.name) as runtime:
            return geometric_mean(row_rate(runtime, task, counts[task.name], TASKS_TRIED[task.name]) for task in tasks)

    return measure
