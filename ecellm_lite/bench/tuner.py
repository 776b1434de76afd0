"""Finds the fastest settings on this machine.

It tries one change after another, and keeps a change only if the model is clearly faster with it.
"""

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
from ecellm_lite.kernels import prompt
from ecellm_lite.models.store import Store, StoredModel
from ecellm_lite.models.tuning import CHOICES, Tuning, check_keepable, this_machine
from ecellm_lite.runtime import Runtime
from ecellm_lite.tasks.registry import TASKS

# How many times a setting is measured, in turn with the best so far.
ROUNDS = 4
# A setting wins if its slowest reading beats all readings of the best so far (1 in 70 by chance), and its median is
# faster by this share.
MARGIN = 0.03

# A task for each way of answering: scored at the prompt's end, chosen token by token among candidates, generated.
TASKS_TRIED: Mapping[str, Space | None] = {
    "product_matching": None,
    "attribute_value_extraction": None,
    "answer_generation": FixedLengthText(32),
}

# Types that store the KV memory less exactly than the default.
LOSSY = {"q8_0"}

Measure = Callable[[Settings], float]


@dataclass(frozen=True, slots=True)
class Trial:
    """A setting that was tried, and its speed compared with the best settings so far.

    `readings`: the measured rows per second with this setting. `baseline`: the measured rows per second with the best
    settings so far. `wins`: whether this setting is clearly faster.
    """

    setting: str
    value: int | str
    readings: tuple[float, ...]
    baseline: tuple[float, ...]
    wins: bool
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
    """Try settings, and return those that were faster for this model on this machine. They are not stored yet.

    Raises ModelError, before anything is measured, if they could not be stored.

    `fixed`: settings that are not tried, with their values.
    `lossy`: whether to try KV cache types that lose accuracy, too.
    `rows`: how many rows of each task are answered in a measurement. By default, as many as take about
      bench.rates.SECONDS.
    """
    check_keepable(store, model)
    cores = available_cores()
    start = Settings(**{"threads": cores, **fixed})
    measure = measuring(model.path, envelope, start, rows=rows)
    settings, trials = tune(start, measure, fixed=fixed, lossy=lossy, kernels=_kernels(), show=show)
    machine = this_machine(cores)
    return Tuning(model.manifest.sha256, machine, start.gpu_layers, settings, tuple(map(asdict, trials)))


def tune(
    start: Settings,
    measure: Measure,
    *,
    fixed: Collection[str] = (),
    lossy: bool = False,
    kernels: Collection[str] = (),
    show: Callable[[Trial], None],
) -> tuple[dict[str, Any], list[Trial]]:
    """Return the settings that were faster than those of `start`, and all trials.

    `start` must have a number of threads. `measure` returns the rate with given settings. `show` is called with each
    trial. The settings named in `fixed` are not tried. With `lossy`, KV cache types that lose accuracy are tried too.
    `kernels`: the prompt kernels to try.
    """
    best, changed, trials = start, {}, []
    for setting, value in _candidates(start, fixed, kernels, lossy=lossy):
        change: dict[str, Any] = {setting: value}
        try:
            candidate = replace(best, **change)
        except UsageError:  # not possible with the best settings so far
            continue
        if candidate == best:
            continue
        trial = _compare(best, candidate, setting, value, measure)
        trials.append(trial)
        show(trial)
        if trial.wins:
            best, changed[setting] = candidate, value
    return changed, trials


def _kernels() -> list[str]:
    """Return the prompt kernels to try on this machine: all that can run here, except the default.

    If an environment variable chooses the kernels, return an empty list.
    """
    if prompt.is_set():
        return []
    others = [kernels for kernels in prompt.runnable() if kernels != prompt.automatic()]
    return [kernels for kernels in others if kernels == "off" or prompt.start(kernels).variant]


def _candidates(
    start: Settings, fixed: Collection[str], kernels: Collection[str], *, lossy: bool
) -> Iterator[tuple[str, int | str]]:
    cores = start.threads or 1
    # More threads than cores never helps; leaving a core free, or one thread per pair of hyper-threads, may.
    threads = sorted({max(1, cores - 1), max(1, cores * 3 // 4), max(1, cores // 2)}, reverse=True)
    # The prompt kernels come first, because the best values of the other settings depend on them.
    choices: Mapping[str, Collection[int | str]] = {
        "prompt_kernels": kernels,
        "threads": threads,
        **{setting: values for setting, values in CHOICES.items() if setting != "prompt_kernels"},
    }
    for setting, values in choices.items():
        for value in values:
            too_many = setting == "micro_batch" and start.context is not None and int(value) > start.context
            if setting not in fixed and not too_many and (lossy or value not in LOSSY):
                yield setting, value


def _compare(best: Settings, candidate: Settings, setting: str, value: int | str, measure: Measure) -> Trial:
    """Measure the best settings and the candidate alternately. Stop early if the candidate is not faster."""
    baseline: list[float] = []
    readings: list[float] = []
    while len(readings) < ROUNDS:
        baseline.append(measure(best))
        try:
            readings.append(measure(candidate))
        except EcellmError as error:  # for example, it does not fit the memory
            return Trial(setting, value, tuple(readings), tuple(baseline), wins=False, error=str(error))
        if min(readings) <= max(baseline):
            return Trial(setting, value, tuple(readings), tuple(baseline), wins=False)
    wins = median(readings) >= (1 + MARGIN) * median(baseline)
    return Trial(setting, value, tuple(readings), tuple(baseline), wins=wins)


def measuring(path: Path, envelope: Envelope, start: Settings, *, rows: int | None = None) -> Measure:
    """Return a function that takes settings and returns how many rows per second the model answers with them.

    The result is the geometric mean of the rates of the tasks in TASKS_TRIED. Each measurement loads the model and
    closes it, so the model is never in memory twice. All measurements answer the same rows.

    `rows`: the number of rows of each task. By default, it is chosen so that a measurement with the settings `start`
    takes about bench.rates.SECONDS for each task.
    """
    tasks = [TASKS[name] for name in TASKS_TRIED]
    with Runtime.over(LlamaBackend(path, start), envelope=envelope.name) as runtime:
        counts = {task.name: rows or rows_for(runtime, task) for task in tasks}

    def measure(settings: Settings) -> float:
        with Runtime.over(LlamaBackend(path, settings), envelope=envelope.name) as runtime:
            return geometric_mean(row_rate(runtime, task, counts[task.name], TASKS_TRIED[task.name]) for task in tasks)

    return measure
