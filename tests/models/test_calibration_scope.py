"""Tests that a calibration is used only for its own model, envelope, task, instruction and options."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ecellm_lite import InputError, ModelError, Runtime, UsageError, load_task
from ecellm_lite.answers.choice import Choice
from ecellm_lite.answers.options import Option
from ecellm_lite.engine.fake import FakeBackend
from ecellm_lite.evaluate.calibrating import calibrate_task
from ecellm_lite.evaluate.labelled import labelled
from ecellm_lite.evaluate.results import DataFile
from ecellm_lite.models.calibration_files import calibration_folder, calibration_path
from ecellm_lite.models.calibration_scope import Scope, text_hash
from ecellm_lite.models.calibrations import Calibrations
from ecellm_lite.models.store import Store, StoredModel
from ecellm_lite.tasks.registry import TASKS
from tests.support.answer_checks import EXAMPLES
from tests.support.calibrations import MODEL, REVIEW, ROUTING, SHA256, calibration_of, stored
from tests.support.refusals import refusal


@pytest.mark.parametrize(
    ("change", "values"),
    [
        ({"model": "6" * 64}, ("66666666", "55555555")),
        ({"envelope": "mistral"}, ("mistral", "alpaca")),
        ({"instruction": text_hash("Rate it.")}, ("instruction",)),
        ({"options": text_hash("[]")}, ("options",)),
        ({"type": "score"}, ("score", "choice")),
        ({"task": "product_matching"}, ("product_matching", "sentiment_analysis")),
    ],
)
def test_a_calibration_is_refused_outside_its_scope(
    change: dict[str, str], values: tuple[str, ...], store: Store, model: StoredModel, tmp_path: Path
) -> None:
    calibration = calibration_of("sentiment_analysis")
    foreign = replace(calibration, scope=replace(calibration.scope, **change))
    foreign.write(calibration_path(store, model, "sentiment_analysis"))
    calibrations = Calibrations(model.manifest.sha256, "alpaca", calibration_folder(store, model))
    with Runtime.over(FakeBackend(), name=MODEL, calibrations=calibrations) as runtime:
        assert runtime.answer("sentiment_analysis", REVIEW).calibration is None
        reason = runtime.uncalibrated("sentiment_analysis")
    assert reason is not None
    assert all(value in reason for value in values)
    # A calibration given by name is never ignored silently.
    path = tmp_path / "named.json"
    foreign.write(path)
    kind = ModelError if {"model", "envelope"} & change.keys() else UsageError
    with refusal(kind, *values), Runtime.over(FakeBackend(), name=MODEL) as runtime:
        runtime.answer("sentiment_analysis", REVIEW, calibration=path)


def test_a_named_calibration_of_another_model_or_envelope_is_refused(store: Store, model: StoredModel) -> None:
    stored(store, model, calibration_of("sentiment_analysis"))
    path = calibration_path(store, model, "sentiment_analysis")
    other = replace(model, manifest=replace(model.manifest, sha256="7" * 64))
    for refused, envelope in ((other, "alpaca"), (model, "mistral")):
        with refusal(ModelError, path):
            Calibrations(refused.manifest.sha256, envelope, named=path)
    with refusal(ModelError, path.with_suffix(".x")):
        Calibrations(model.manifest.sha256, "alpaca", named=path.with_suffix(".x"))


def test_a_named_calibration_applies_only_to_its_task(store: Store, model: StoredModel) -> None:
    stored(store, model, calibration_of("sentiment_analysis"))
    named = Calibrations(MODEL.sha256, "alpaca", named=calibration_path(store, model, "sentiment_analysis"))
    with Runtime.over(FakeBackend(), name=MODEL, calibrations=named) as runtime:
        assert runtime.answer("SA", REVIEW).calibration
        with refusal(UsageError, "sentiment_analysis", "product_matching"):
            runtime.answer("product_matching", EXAMPLES["product_matching"])
        with refusal(UsageError, "sentiment_analysis", "product_matching"):
            list(runtime.answers("product_matching", [EXAMPLES["product_matching"]]))


def test_another_instruction_or_answer_space_stays_uncalibrated(store: Store, model: StoredModel) -> None:
    calibrations = stored(store, model, calibration_of("sentiment_analysis"))
    options = json.dumps(["A: good", "B: bad"])
    task = TASKS["sentiment_analysis"]
    own = Choice((Option("A", "A"), Option("B", "B")))
    with Runtime.over(FakeBackend(), name=MODEL, calibrations=calibrations) as runtime:
        assert runtime.answer("SA", REVIEW, instruction="Rate it.").calibration is None
        assert runtime.answer("SA", REVIEW, space=own).calibration is None
        wire = {"instruction": task.instruction, "input": "It works.", "options": options}
        assert runtime.answer("SA", wire).calibration is None
        wire["options"] = str(task.question(REVIEW).options)
        assert runtime.answer("SA", wire).calibration
        assert runtime.answer("SA", {**wire, "instruction": "Rate it."}).calibration is None
        assert runtime.answer("product_matching", EXAMPLES["product_matching"]).calibration is None
        # The reason is given.
        assert "instruction" in str(runtime.uncalibrated("SA", {**wire, "instruction": "Rate it."}))
        assert "options" in str(runtime.uncalibrated("SA", {**wire, "options": options}))
        assert runtime.uncalibrated("SA", wire) is None
        assert runtime.uncalibrated("product_matching", EXAMPLES["product_matching"]) is None
        with refusal(InputError, field="review"):
            runtime.uncalibrated("SA", {})
        assert runtime.uncalibrated("product_matching", {}) is None  # no calibration: the row is not checked
        assert runtime.uncalibrated("SA", instruction=task.instruction) is None
        of_call = runtime.uncalibrated("SA", instruction="Rate it.")
        assert of_call
        # The call's instruction is the reason, not the row, which brings none.
        assert runtime.uncalibrated("SA", REVIEW, instruction="Rate it.") == of_call
        wire["instruction"] = "Is it good?"
        of_row = runtime.uncalibrated("SA", wire, instruction="Rate it.")
        assert of_row == runtime.uncalibrated("SA", wire)
        assert of_row not in {None, of_call}
    named = Calibrations(MODEL.sha256, "alpaca", named=calibration_path(store, model, "sentiment_analysis"))
    with Runtime.over(FakeBackend(), name=MODEL, calibrations=named) as runtime:
        assert runtime.answer("SA", REVIEW, instruction=task.instruction).calibration
        with refusal(UsageError, "instruction"):
            runtime.answer("SA", REVIEW, instruction="Rate it.")
        with refusal(UsageError, "instruction"):
            list(runtime.answers("SA", [REVIEW], instruction="Rate it."))


def test_a_calibration_of_another_instruction_applies_to_that_instruction(store: Store, model: StoredModel) -> None:
    calibration = calibration_of("sentiment_analysis")
    other = replace(calibration, scope=replace(calibration.scope, instruction=text_hash("Rate it.")))
    with Runtime.over(FakeBackend(), name=MODEL, calibrations=stored(store, model, other)) as runtime:
        assert runtime.uncalibrated("SA", instruction="Rate it.") is None
        assert runtime.answer("SA", REVIEW, instruction="Rate it.").calibration
        assert "instruction" in str(runtime.uncalibrated("SA"))


def test_a_changed_custom_task_stays_uncalibrated(store: Store, model: StoredModel, tmp_path: Path) -> None:
    def written(text: str) -> Any:
        (tmp_path / "routing.toml").write_text(text)
        return load_task(tmp_path / "routing.toml")

    task = written(ROUTING)
    question = task.question({"mail": "Where is it?"})
    scope = Scope("routing", "choice", SHA256, "alpaca", text_hash("Choose the desk."), text_hash(question.options))
    calibrations = stored(store, model, replace(calibration_of("sentiment_analysis"), scope=scope))
    with Runtime.over(FakeBackend(), name=MODEL, calibrations=calibrations) as runtime:
        assert runtime.answer(task, {"mail": "Where is it?"}).calibration
        for old, new in (("the desk", "a desk"), ("delivery", "parcels")):
            changed = written(ROUTING.replace(old, new))
            assert runtime.answer(changed, {"mail": "Where is it?"}).calibration is None
            assert "routing" in str(runtime.uncalibrated(changed))


@pytest.mark.parametrize("shortlist", [0, 3])
def test_a_calibration_is_refused_after_the_labels_of_a_file_changed(
    shortlist: int, store: Store, model: StoredModel, tmp_path: Path
) -> None:
    if shortlist:
        pytest.importorskip("bm25s")
    mail = {"mail": "Where is desk 7?"}
    begin = ROUTING[: ROUTING.index("choices")]

    def written(labels: str, none: bool = False) -> Any:
        (tmp_path / "labels.txt").write_text("\n".join(f"{labels} {number}" for number in range(300)))
        of_file = f'labels = {{ file = "labels.txt", shortlist = {shortlist} }}'
        (tmp_path / "routing.toml").write_text(f"{begin}{of_file}\nnone = {str(none).lower()}\n")
        return load_task(tmp_path / "routing.toml")

    task = written("desk")
    rows = [labelled(task, line, {"mail": f"Where is desk {line}?", "output": f"desk {line}"}) for line in (7, 88)]
    with Runtime.over(FakeBackend(cells=1 << 14), name=MODEL) as runtime:
        scope = calibrate_task(runtime, task, rows, DataFile("mails.jsonl", "a" * 64)).scope
    calibrations = stored(store, model, replace(calibration_of("sentiment_analysis"), scope=scope))
    with Runtime.over(FakeBackend(cells=1 << 14), name=MODEL, calibrations=calibrations) as runtime:
        assert runtime.answer(task, mail).calibration
        for changed in (written("counter"), written("desk", none=True)):
            assert runtime.answer(changed, mail).calibration is None
            assert "options" in str(runtime.uncalibrated(changed))
