"""Says how a job's settings differ from those that its stored answers were made with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from ecellm_lite.errors import UsageError

# The facts of a job (see facts.py), and the arguments that they come from.
_SETTINGS = {
    "model": "model",
    "adapter": "adapter",
    "envelope": "envelope",
    "task": "task",
    "instruction": "instruction",
    "form of the answer": "schema",
    "shorten": "shorten",
    "least probability": "min_probability",
    "calibration": "calibration",
    "seed": "seed",
}
_OF_EACH_TASK = ("instruction", "calibration")
_HASHED = ("model", "adapter")  # a name and a sha256

_WORDS = {None: "none", "None": "none", "True": "on", "False": "off"}
_LONGEST = 60  # characters of a shown value


def other_settings(path: Path, stored: Mapping[str, str], current: Mapping[str, str]) -> UsageError:
    """Return the error for a job whose settings are not those of its stored answers. It names all that differ.

    `path`: the journal.
    `stored`, `current`: the settings of the stored answers and of the job, as `job_facts` returns them.
    """
    changed = [name for name in dict.fromkeys((*current, *stored)) if stored.get(name) != current.get(name)]
    phrases = {name: "; ".join(_phrases(name, stored, current)) for name in changed}
    changed = [name for name in changed if phrases[name]]
    step = "use the same settings, or start again"
    began_without = all({*value.split("; ")} == {"none"} for name, value in stored.items() if _is_calibration(name))
    if changed and began_without and all(map(_is_calibration, changed)):
        step = "turn the calibration off, as before, or start again"
    return UsageError(
        f"The answers in {path} were made with other settings ({'; '.join(filter(None, phrases.values()))})",
        step=step,
        settings=(*dict.fromkeys(_SETTINGS[_kind(name)] for name in changed if _kind(name) in _SETTINGS), "restart"),
    )


def _phrases(name: str, stored: Mapping[str, str], current: Mapping[str, str]) -> Iterator[str]:
    """Yield phrases that say how the setting `name` differs.

    If each task has its own value of the setting, there is one phrase for each task with a difference. Otherwise,
    there is a single phrase.
    """
    before, now = task_hashes(stored), task_hashes(current)
    if name == "task":
        if list(before) != list(now):
            yield f"tasks: {', '.join(before) or 'none'} before, now {', '.join(now)}"
        else:
            yield from (f"the task {task} has changed" for task in now if before[task] != now[task])
        return
    if _kind(name) in _OF_EACH_TASK:
        befores, nows = stored.get(name, "").split("; "), current.get(name, "").split("; ")
        if len(befores) == len(before) and len(nows) == len(now):  # else an instruction has a semicolon of its own
            values, others = dict(zip(before, befores, strict=True)), dict(zip(now, nows, strict=True))
            for task, value in values.items():
                # An instruction that changed with its task, or a task that is gone, is said already.
                if task in others and value != others[task] and (name != "instruction" or before[task] == now[task]):
                    shown, other = value.removeprefix(f"{task} "), others[task].removeprefix(f"{task} ")
                    yield f"{name} of {task}: {_short(shown)} before, now {_short(other)}"
            return
    yield f"{name}: {_shown(name, stored.get(name))} before, now {_shown(name, current.get(name))}"


def _kind(name: str) -> str:
    """Return a setting's name without the number of a cascade's model: `calibration` for `calibration of model 2`."""
    return name.partition(" of model ")[0]


def _is_calibration(name: str) -> bool:
    return _kind(name) == "calibration"


def task_hashes(facts: Mapping[str, str]) -> dict[str, str]:
    """Return the hash of each task's description, by the task's name (see facts.task_fact)."""
    pairs = [each.rpartition(" ") for each in facts.get("task", "").split("; ") if each]
    return {name or hash_: hash_ for name, _, hash_ in pairs}


def _shown(name: str, value: str | None) -> str:
    if value is not None and name in _HASHED:
        title, _, sha256 = value.rpartition(" ")
        return f"{title} ({sha256[:8]})".lstrip()
    return _short(_WORDS.get(value, value or ""))


def _short(value: str) -> str:
    return value if len(value) <= _LONGEST else f"{value[: _LONGEST - 1]}…"
