"""Calibrations of a made-up model, and a store with these calibrations."""

from __future__ import annotations

from ecellm_lite.answers.answer import ModelName
from ecellm_lite.models.calibration_files import calibration_folder, calibration_path
from ecellm_lite.models.calibration_scope import Scope, text_hash
from ecellm_lite.models.calibrations import FORMAT, Calibration, Calibrations, Measures
from ecellm_lite.models.store import Store, StoredModel
from ecellm_lite.tasks.registry import TASKS
from tests.support.answer_checks import EXAMPLES

SHA256 = "5" * 64
MODEL = ModelName("shop", SHA256)
REVIEW = {"id": "r", "review": "It works, but it is loud."}
CLOSED = [name for name, task in TASKS.items() if task.free_text is None]


def scope_of(name: str) -> Scope:
    question = TASKS[name].question(EXAMPLES[name])
    options = text_hash(question.options) if question.options and name != "sequential_recommendation" else None
    return Scope(name, question.space.type, SHA256, "alpaca", text_hash(question.instruction), options)


def calibration_of(name: str, temperature: float = 2.0, least_coverage: float = 0.0) -> Calibration:
    before, after = Measures(-2.0, 0.3, 0.4), Measures(-1.0, 0.1, 0.2)
    return Calibration(
        scope_of(name), temperature, 0.0, least_coverage, 319, 319, before, after, "test.jsonl", "a" * 64, {}, FORMAT
    )


def stored(store: Store, model: StoredModel, calibration: Calibration) -> Calibrations:
    calibration.write(calibration_path(store, model, calibration.scope.task))
    return Calibrations(model.manifest.sha256, "alpaca", calibration_folder(store, model))


ROUTING = """
name = "routing"
summary = "Send a mail to a desk."
instruction = "Choose the desk."
[[fields]]
name = "mail"
[answer]
type = "choice"
choices = [{ value = "billing" }, { value = "delivery" }]
"""
