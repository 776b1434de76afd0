"""Tests that a calibration file is read back unchanged, and that a damaged file is not used."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from ecellm_lite import ModelError, Runtime, UsageError
from ecellm_lite.answers.decoding import Outcome
from ecellm_lite.answers.option_corrections import VectorScaling
from ecellm_lite.engine.fake import FakeBackend
from ecellm_lite.models.answer_sets import AnswerSets
from ecellm_lite.models.calibration_files import calibration_folder, calibration_path, stored_calibrations
from ecellm_lite.models.calibrations import FORMAT, LARGEST, Calibrations, read_calibration
from ecellm_lite.models.store import Store, StoredModel
from ecellm_lite.tasks.registry import TASKS
from tests.support.answer_checks import EXAMPLES
from tests.support.calibrations import CLOSED, MODEL, REVIEW, SHA256, calibration_of, scope_of, stored
from tests.support.refusals import refusal


def test_a_calibration_survives_a_round_trip(store: Store, model: StoredModel, tmp_path: Path) -> None:
    calibration = calibration_of("sentiment_analysis", 1.6234)
    path = calibration_path(store, model, "sentiment_analysis")
    calibration.write(path)
    assert path == store.root / "models" / "shop" / "calibration" / "sentiment_analysis.json"
    read = read_calibration(path)
    assert read == calibration
    assert read.name == calibration.name
    assert re.fullmatch(r"sentiment_analysis T=1\.62 \(319 rows, [0-9a-f]{8}\)", calibration.name)
    assert replace(calibration, rows=320).name.split()[-1] != calibration.name.split()[-1]
    elsewhere = replace(model, path=tmp_path / "x.gguf")
    assert calibration_folder(store, elsewhere) == store.root / "calibration" / SHA256


def test_calibrations_are_removed_with_their_model(store: Store, model: StoredModel) -> None:
    calibration_of("sentiment_analysis").write(calibration_path(store, model, "sentiment_analysis"))
    store.remove("shop")
    assert not calibration_folder(store, model).exists()


def test_calibrations_are_found_by_the_hash_of_the_model(store: Store, model: StoredModel, tmp_path: Path) -> None:
    """A ChildRuntime does not know the path of the model's file, so it looks for calibrations by the model's hash."""
    calibration = calibration_of("sentiment_analysis")
    elsewhere = replace(model, path=tmp_path / "x.gguf")
    calibration.write(calibration_path(store, elsewhere, "sentiment_analysis"))
    assert stored_calibrations(store, SHA256, "alpaca").get("sentiment_analysis") == calibration
    assert stored_calibrations(store, "6" * 64, "alpaca").get("sentiment_analysis") is None
    warmer = calibration_of("sentiment_analysis", 3.0)
    warmer.write(calibration_path(store, model, "sentiment_analysis"))
    model.path.write_bytes(b"x")
    (model.path.parent / "manifest.json").write_text(json.dumps(asdict(model.manifest)))
    assert stored_calibrations(store, SHA256, "alpaca").get("sentiment_analysis") == warmer
    model.path.write_bytes(b"a damaged model")
    assert stored_calibrations(store, SHA256, "alpaca").get("sentiment_analysis") == calibration


@pytest.mark.parametrize("name", CLOSED)
def test_answers_of_closed_tasks_are_calibrated_and_name_the_calibration(
    name: str, store: Store, model: StoredModel
) -> None:
    calibration = calibration_of(name, 3.0)
    with Runtime.over(FakeBackend(), name=MODEL) as plain:
        before = plain.answer(name, EXAMPLES[name])
    with Runtime.over(FakeBackend(), name=MODEL, calibrations=stored(store, model, calibration)) as runtime:
        after = runtime.answer(name, EXAMPLES[name])
        assert runtime.uncalibrated(name) is None
        assert [answer.calibration for answer in runtime.answers(name, [EXAMPLES[name]] * 2)] == [calibration.name] * 2
    assert before.calibration is None
    assert before.probability is not None
    assert before.text is not None
    outcome = Outcome(before.value, before.text, (), before.probability, before.probabilities, before.confidence)
    expected = TASKS[name].question(EXAMPLES[name]).space.calibrated(outcome, 3.0)
    assert (after.probability, after.probabilities, after.confidence, after.value, after.text) == (
        expected.probability, expected.probabilities, expected.confidence, expected.value, before.text,
    )  # fmt: skip
    assert after.probability != before.probability
    assert after.coverage == before.coverage


def test_calibrated_answers_stay_deterministic(store: Store, model: StoredModel) -> None:
    calibrations = stored(store, model, calibration_of("sentiment_analysis"))
    with Runtime.over(FakeBackend(), name=MODEL, calibrations=calibrations, deterministic=True) as runtime:
        first = json.dumps(runtime.answer("sentiment_analysis", REVIEW).as_dict())
        list(runtime.answers("sentiment_analysis", [{"review": "x" * number} for number in range(1, 9)]))
        assert json.dumps(runtime.answer("sentiment_analysis", REVIEW).as_dict()) == first


GOOD = asdict(calibration_of("sentiment_analysis"))
WRONG_VECTORS: list[dict[str, Any]] = [
    {}, {"scales": {}, "biases": {}}, {"scales": {"A": 1.0}, "biases": {"A": 0.0}},
]  # fmt: skip
WRONG_CURVES: list[dict[str, Any]] = [
    {"before": []}, {"before": [0.0, 0.5]}, {"before": [0.0, 0.0, 1.0]}, {"before": [0, 0.5, 1.1]},
    {"before": [-0.1, 0.5, 1.0]}, {"after": [0.0, 0.1, 0.2]}, {"after": [0.5, 0.4, 0.9]}, {"after": [0.1, 0.2, 1.5]},
    {"after": ["0.1", 0.2, 0.3]}, {"more": 1},
    {"before": [place / 2099 for place in range(2100)], "after": [0.5] * 2100},
]  # fmt: skip
OPTIONAL = ("automatic", "sets", "labels", "vector", "isotonic", "methods", "none")  # keys that older files lack
PLAIN = {**GOOD, "temperature": 1.0}
VECTOR = {"scales": dict.fromkeys("ABCDE", 0.5), "biases": dict.fromkeys("ABCDE", -0.5)}
CURVE = {"before": [0.0, 0.5, 1.0], "after": [0.1, 0.1, 0.9]}
ISOTONIC = {"curves": dict.fromkeys("ABCDE", CURVE)}
FIGURES = {"log_likelihood": -1.0, "behind": 0.0, "error": 0.0}
AUTOMATIC = {"precision": 0.95, "thresholds": {"A": 0.9, "B": None}, "rows": 100, "share": 0.5, "reached": 0.96}


def test_thresholds_are_kept_with_a_calibration(tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps({**GOOD, "automatic": AUTOMATIC}))
    calibration = read_calibration(path)
    assert calibration is not None
    assert asdict(calibration)["automatic"] == AUTOMATIC
    assert calibration.name != replace(calibration, automatic=None).name


@pytest.mark.parametrize("method", [{"vector": VECTOR}, {"isotonic": ISOTONIC}])
def test_a_correction_by_option_is_kept_and_used(method: dict[str, Any], store: Store, model: StoredModel) -> None:
    path = calibration_path(store, model, "sentiment_analysis")
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({**PLAIN, **method, "methods": {"temperature": FIGURES}}))
    calibration = read_calibration(path)
    assert calibration is not None
    calibration.write(path)
    assert read_calibration(path) == calibration
    assert re.fullmatch(rf"sentiment_analysis {next(iter(method))} \(319 rows, [0-9a-f]{{8}}\)", calibration.name)
    with Runtime.over(FakeBackend(), name=MODEL) as plain:
        before = plain.answer("sentiment_analysis", REVIEW)
    calibrations = Calibrations(SHA256, "alpaca", calibration_folder(store, model))
    with Runtime.over(FakeBackend(), name=MODEL, calibrations=calibrations) as runtime:
        after = runtime.answer("sentiment_analysis", REVIEW)
    assert after.calibration == calibration.name
    assert after.probabilities != before.probabilities
    assert sum((after.probabilities or {}).values()) == pytest.approx(1)


def test_an_answer_that_a_correction_made_the_likeliest_is_plausible(store: Store, model: StoredModel) -> None:
    calibration = replace(
        calibration_of("sentiment_analysis", 1.0),
        vector=VectorScaling(dict.fromkeys("ABCDE", 1.0), {**dict.fromkeys("ABCDE", -10.0), "E": 10.0}),
        sets=AnswerSets(0.5, 1.0, 100, 0.5, 1.0),
    )
    calibrations = stored(store, model, calibration)
    rows = [{"review": f"Number {number}"} for number in range(20)]
    with Runtime.over(FakeBackend(), name=MODEL, calibrations=calibrations) as runtime:
        plain = [answer.value for answer in runtime.answers("sentiment_analysis", rows, calibration=False)]
        answers = list(runtime.answers("sentiment_analysis", rows))
    assert {answer.value for answer in answers} == {"E"} != set(plain)
    assert [answer.plausible for answer in answers] == [["E", value] if value != "E" else ["E"] for value in plain]


def test_a_correction_by_option_is_not_used_for_other_options(store: Store, model: StoredModel) -> None:
    calibration = replace(
        calibration_of("sentiment_analysis", 1.0),
        vector=VectorScaling(dict.fromkeys("AB", 0.5), dict.fromkeys("AB", 0.0)),
    )
    calibrations = stored(store, model, calibration)
    with Runtime.over(FakeBackend(), name=MODEL, calibrations=calibrations) as runtime:
        assert runtime.answer("sentiment_analysis", REVIEW).calibration is None
        assert "options" in str(runtime.uncalibrated("sentiment_analysis"))
        assert "options" in str(runtime.uncalibrated("sentiment_analysis", REVIEW))


def test_older_files_keep_their_names(tmp_path: Path) -> None:
    """A calibration's name has a hash of its contents. A newer program must not change an old file's name."""
    (tmp_path / "a.json").write_text(json.dumps({key: value for key, value in GOOD.items() if key not in OPTIONAL}))
    calibration = read_calibration(tmp_path / "a.json")
    assert calibration == calibration_of("sentiment_analysis")
    assert calibration is not None
    assert calibration.name == "sentiment_analysis T=2 (319 rows, a075a793)"


def without(key: str) -> dict[str, Any]:
    return {name: value for name, value in GOOD.items() if name != key}


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "null", "\0", "[" * 100_000, "{}", '{"format": 1}', "1" * 5000,
        *(json.dumps(without(key)) for key in GOOD if key not in OPTIONAL),
        *(json.dumps({**GOOD, key: None}) for key in GOOD if key not in OPTIONAL),
        *(json.dumps({**GOOD, "automatic": {**AUTOMATIC, **wrong}})
          for wrong in ({"thresholds": {"A": 1.1}}, {"thresholds": {"A": "0.5"}}, {"share": -0.1}, {"more": 1})),
        *(json.dumps({**GOOD, "scope": {**GOOD["scope"], key: "x/../Y"}})
          for key in ("task", "model", "instruction", "options")),
        *(json.dumps({**GOOD, "scope": {**GOOD["scope"], key: 7}}) for key in GOOD["scope"]),
        *(json.dumps({**GOOD, "temperature": value})
          for value in (0, -1.0, 1e-9, 1e9, True, "2", [2], 10**400, float("nan"), float("inf"))),
        json.dumps({**GOOD, "temperature": "X"}).replace('"X"', "1e400"),
        *(json.dumps({**GOOD, "bias": value}) for value in (0.5, None, float("nan"))),  # none for a choice
        json.dumps({**GOOD, "bias": 11, "scope": {**GOOD["scope"], "type": "extraction"}}),
        *(json.dumps({**GOOD, "least_coverage": value}) for value in (-0.1, 1.1, float("nan"))),
        *(json.dumps({**GOOD, key: value}) for key in ("rows", "held_out") for value in (0, 1.5, 10**20)),
        json.dumps({**GOOD, "before": {**GOOD["before"], "ece": float("nan")}}),
        json.dumps({**GOOD, "after": {}}),
        json.dumps({**GOOD, "data_sha256": "z" * 64}),
        json.dumps({**GOOD, "versions": {"a": 1}}),
        json.dumps({**GOOD, "more": 1}),
        json.dumps({**GOOD, "vector": VECTOR}),  # beside a temperature
        json.dumps({**PLAIN, "vector": VECTOR, "isotonic": ISOTONIC}),
        json.dumps({**PLAIN, "vector": VECTOR, "scope": {**GOOD["scope"], "type": "ranking"}}),
        *(json.dumps({**PLAIN, "vector": {**VECTOR, key: dict.fromkeys("ABCDE", value)}})
          for key, value in (("scales", 0.0), ("scales", -1.0), ("scales", 21), ("scales", "1"), ("biases", 11))),
        *(json.dumps({**PLAIN, "vector": vector})
          for vector in (*WRONG_VECTORS, {**VECTOR, "biases": {"A": 0.0}}, {**VECTOR, "more": {}})),
        *(json.dumps({**PLAIN, "isotonic": {"curves": {**dict.fromkeys("ABCD", CURVE), "E": {**CURVE, **wrong}}}})
          for wrong in WRONG_CURVES),
        json.dumps({**PLAIN, "isotonic": {"curves": {}}}),
        json.dumps({**GOOD, "methods": {"temperature": {**FIGURES, "behind": None}}}),
        json.dumps({**GOOD, "methods": [FIGURES]}),
        *(json.dumps({**GOOD, "format": value}) for value in (0, FORMAT + 1, 1.0, True)),
        json.dumps({**GOOD, "data": "x" * LARGEST}),
    ],
)  # fmt: skip
def test_a_damaged_calibration_is_reported_and_not_used(text: str, store: Store, model: StoredModel) -> None:
    path = calibration_path(store, model, "sentiment_analysis")
    path.parent.mkdir(parents=True)
    path.write_text(text, "utf-8")
    with pytest.raises(ModelError) as raised:
        read_calibration(path)
    assert str(path) in raised.value.message
    assert len(str(raised.value)) < 1000
    calibrations = Calibrations(model.manifest.sha256, "alpaca", calibration_folder(store, model))
    assert calibrations is not None
    assert calibrations.find(scope_of("sentiment_analysis")) is None
    assert calibrations.refusal(scope_of("sentiment_analysis")) == str(raised.value)
    with refusal(ModelError, path):
        Calibrations(model.manifest.sha256, "alpaca", named=path)


def test_a_folder_is_no_calibration(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as error:
        read_calibration(tmp_path)
    assert str(tmp_path) in str(error.value)
    assert "Errno" not in str(error.value)


def test_a_valid_calibration_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(GOOD))
    assert read_calibration(tmp_path / "a.json") == calibration_of("sentiment_analysis")


@pytest.mark.parametrize("name", CLOSED)
def test_calibrations_of_an_older_format_apply_except_to_rankings(name: str, store: Store, model: StoredModel) -> None:
    older = replace(calibration_of(name), format=1)
    calibrations = stored(store, model, older)
    scope = scope_of(name)
    if scope.type != "ranking":
        assert calibrations.find(scope) == older
        assert calibrations.refusal(scope) is None
        return
    assert calibrations.find(scope) is None
    path = calibration_path(store, model, name)
    assert str(path) in str(calibrations.refusal(scope))
    with refusal(ModelError, path):
        Calibrations(model.manifest.sha256, "alpaca", named=path)
    assert stored(store, model, calibration_of(name)).find(scope) == calibration_of(name)


def test_no_task_name_leads_out_of_the_folder(store: Store, model: StoredModel) -> None:
    with refusal(UsageError, "../../x"):
        calibration_path(store, model, "../../x")
    calibrations = Calibrations(SHA256, "alpaca", store.root)
    assert calibrations.find(replace(scope_of("sentiment_analysis"), task="../x")) is None


def test_an_unwritable_store_is_an_error(store: Store, model: StoredModel) -> None:
    store.root.mkdir()
    (store.root / "models").write_text("not a folder")
    path = calibration_path(store, model, "sentiment_analysis")
    with refusal(ModelError, path):
        calibration_of("sentiment_analysis").write(path)
