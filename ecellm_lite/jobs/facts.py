"""What a job asks of every row: answers that were kept are used again only where all of it is the same."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from ecellm_lite.answerer import Answerer, RequestOptions
from ecellm_lite.models.files import sha256_of
from ecellm_lite.tasks.description import describe
from ecellm_lite.tasks.task import Task


def job_facts(answerer: Answerer, task: Task, options: RequestOptions) -> dict[str, str]:
    """Return, by their names, the model, its envelope, the task and its wording, and the options of each request."""
    calibration = options.get("calibration", "auto")
    if calibration not in (False, "auto"):
        calibration = f"{calibration} {sha256_of(Path(str(calibration)))}"
    description = {name: value for name, value in describe(task).items() if name != "file"}
    return {
        "model": f"{answerer.model.name} {answerer.model.sha256}",
        "envelope": answerer.envelope.name,
        "task": f"{task.name} {_hash(json.dumps(description, default=str))}",
        "instruction": str(options.get("instruction") or task.instruction),
        "form of the answer": _hash(repr(options.get("space"))) if options.get("space") else "the task's own",
        "shorten": str(bool(options.get("shorten"))),
        "least probability": str(options.get("min_probability")),
        "calibration": str(calibration),
        "seed": str(options.get("seed", 0)),
    }


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
