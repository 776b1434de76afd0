"""The facts that a job's answers depend on, such as the model and the tasks' wording.

Stored answers are reused only if all facts are unchanged.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ecellm_lite.answerer import Answerer, KeepsCalibrations, RequestOptions
from ecellm_lite.cascade import Cascade
from ecellm_lite.models.files import sha256_of
from ecellm_lite.option_checks import checked_adapter
from ecellm_lite.tasks.custom import files_beside
from ecellm_lite.tasks.description import describe
from ecellm_lite.tasks.task import Task


def job_facts(answerer: Answerer, tasks: Sequence[Task], options: RequestOptions) -> dict[str, str]:
    """Return what a job's answers depend on, such as the model, the adapter and the tasks' wording.

    The key of each entry is a name for people to read, such as `model`. For a cascade, `envelope` and `calibration` are
    those of its first model. Each later model has entries of its own, such as `calibration of model 2`.
    """
    adapter = checked_adapter(options.get("adapter"), answerer.adapters)
    instructions = [str(options.get("instruction") or task.instruction) for task in tasks]
    models = answerer.answerers if isinstance(answerer, Cascade) else (answerer,)
    others: dict[str, str] = {}
    for number, model in enumerate(models[1:], 2):
        others[f"envelope of model {number}"] = model.envelope.name
        others[f"calibration of model {number}"] = _calibrations(model, tasks, options)
    return {
        "model": f"{answerer.model.name} {answerer.model.sha256}",
        **({"adapter": f"{adapter} {answerer.adapters[adapter]}"} if adapter else {}),
        "envelope": answerer.envelope.name,
        "task": task_fact(*tasks),
        "instruction": "; ".join(instructions),
        "form of the answer": _hash(repr(options.get("space"))) if options.get("space") else "the task's own",
        "shorten": str(bool(options.get("shorten"))),
        "least probability": str(options.get("min_probability")),
        "calibration": _calibrations(models[0], tasks, options),
        "seed": str(options.get("seed", 0)),
        **others,
    }


def task_fact(*tasks: Task) -> str:
    """Return each task's name with a hash of its description. For a user's own task, the hash covers its files too."""
    return "; ".join(f"{task.name} {_hash(json.dumps(_description(task), default=str))}" for task in tasks)


def _calibrations(answerer: Answerer, tasks: Sequence[Task], options: RequestOptions) -> str:
    return "; ".join(_calibration(answerer, task, options) for task in tasks)


def _calibration(answerer: Answerer, task: Task, options: RequestOptions) -> str:
    """Return a text that identifies the calibration in use, or `none`.

    If the answerer cannot say which calibration it uses, the text is the value of the option `calibration`. If the
    value is a file's path, the file's sha256 is added.
    """
    chosen = options.get("calibration", "auto")
    if isinstance(answerer, KeepsCalibrations):
        calibration = answerer.kept_calibration(task, calibration=chosen, adapter=options.get("adapter"))
        return calibration.name if calibration else "none"
    if chosen not in (False, "auto"):
        return f"{chosen} {sha256_of(Path(str(chosen)))}"
    return str(chosen)


def _description(task: Task) -> dict[str, Any]:
    description = {name: value for name, value in describe(task).items() if name != "file"}
    if task.source:
        files = [task.source, *(task.source.parent / name for name in files_beside(task.source))]
        description["files"] = [sha256_of(file) for file in files]
    return description


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
