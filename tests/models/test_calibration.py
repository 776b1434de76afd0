"""Calibrated probabilities: what a temperature does to an answer, which answers it holds for, and when one abstains."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecellm_lite import EcellmError, ModelError, Runtime, UsageError, load_task
from ecellm_lite.answers.answer import ModelName
from ecellm_lite.answers.calibration import tempered, tempered_among, tempered_odds
from ecellm_lite.answers.choice import Choice
from ecellm_lite.answers.decoding import Outcome
from ecellm_lite.answers.extraction import Extraction
from ecellm_lite.answers.options import Option
from ecellm_lite.answers.probabilities import confidence
from ecellm_lite.answers.ranking import Ranking
from ecellm_lite.answers.score import Score
from ecellm_lite.answers.text import Text
from ecellm_lite.cli.show import render
from ecellm_lite.engine.fake import FakeBackend
from ecellm_lite.jobs.tally import Tally
from ecellm_lite.models.calibrations import (
    FORMAT,
    HIGHEST,
    LARGEST,
    LARGEST_BIAS,
    LOWEST,
    Calibration,
    Calibrations,
    Measures,
    Scope,
    calibration_folder,
    calibration_path,
    read_calibration,
    stored_calibrations,
    text_hash,
)
from ecellm_lite.models.manifest import Manifest
from ecellm_lite.models.store import Store, StoredModel
from ecellm_lite.tasks.registry import TASKS
from tests.support.answer_checks import EXAMPLES

SHA256 = "5" * 64
MODEL = ModelName("shop", SHA256)
REVIEW = {"id": "r", "review": "It works, but it is loud."}
TEMPERATURES = st.floats(LOWEST, HIGHEST)
CLOSED = [name for name, task in TASKS.items() if task.free_text is None]


def softmax(weights: Sequence[float]) -> list[float]:
    powers = np.exp(np.asarray(weights, dtype=np.float64) - max(weights))
    shares: list[float] = (powers / powers.sum()).tolist()
    return shares


# Ordinary shares, and such that are 0, 1, or too small for anything but a logarithm.
SHARES = st.one_of(
    st.lists(st.floats(-800, 800), min_size=2, max_size=26).map(softmax),
    st.integers(2, 26).map(lambda count: [1.0] + [0.0] * (count - 1)),
    st.integers(2, 26).map(lambda count: [1 / count] * count),
)


@given(SHARES, TEMPERATURES)
def test_shares_keep_their_order_and_sum_to_one(shares: list[float], temperature: float) -> None:
    after = tempered(shares, temperature)
    assert np.isfinite(after).all()
    assert after.sum() == pytest.approx(1)
    assert after[int(np.argmax(shares))] == after.max()
    for one, other in zip(np.argsort(shares)[:-1], np.argsort(shares)[1:], strict=True):
        assert after[one] <= after[other]


@given(st.lists(st.floats(-30, 30), min_size=2, max_size=26), TEMPERATURES)
def test_it_is_the_softmax_of_the_logits_at_that_temperature(logits: list[float], temperature: float) -> None:
    whole = [logit - max(logits) for logit in logits]
    shares = softmax([max(logit, -30.0) for logit in whole])
    expected = softmax([max(logit, -30.0) / temperature for logit in whole])
    assert tempered(shares, temperature) == pytest.approx(expected, abs=1e-9)


@given(SHARES)
def test_at_one_nothing_changes(shares: list[float]) -> None:
    assert tempered(shares, 1.0) == pytest.approx(shares, abs=1e-12)


@given(st.floats(0, 1), st.floats(0, 1), TEMPERATURES)
def test_odds_are_monotone_and_reach_neither_nan_nor_another_side(one: float, other: float, temperature: float) -> None:
    low, high = (tempered_odds(probability, temperature) for probability in sorted((one, other)))
    assert 0 <= low <= high <= 1
    assert (tempered_odds(one, temperature) - 0.5) * (one - 0.5) >= 0


# Away from 0 and 1, where what is left for each of the others is too small to tell.
@given(st.floats(1e-9, 1 - 1e-9), st.integers(2, 24), TEMPERATURES)
def test_among_others_is_the_softmax_over_all(probability: float, count: int, temperature: float) -> None:
    shares = [probability, *[(1 - probability) / (count - 1)] * (count - 1)]
    assert tempered_among(probability, count, temperature) == pytest.approx(tempered(shares, temperature)[0], abs=1e-6)


@given(st.floats(0, 1), st.floats(0, 1), TEMPERATURES, st.floats(-LARGEST_BIAS, LARGEST_BIAS))
def test_a_bias_keeps_the_order(one: float, other: float, temperature: float, bias: float) -> None:
    low, high = (tempered_odds(probability, temperature, bias) for probability in sorted((one, other)))
    assert 0 <= low <= high <= 1


def test_odds_by_hand() -> None:
    # logit(0.9) = log 9; half of it is log 3, which is 3 to 1.
    assert tempered_odds(0.9, 2.0) == pytest.approx(0.75)
    assert tempered_odds(0.75, 0.5) == pytest.approx(0.9)
    assert tempered_odds(0.9, 2.0, -np.log(3)) == pytest.approx(0.5)
    assert tempered_odds(0.0, 2.0) == pytest.approx(0, abs=1e-7)
    assert tempered_odds(1.0, 2.0) == pytest.approx(1, abs=1e-7)


def test_a_choice_by_hand() -> None:
    space = Choice((Option("A", "A: bad"), Option("B", "B: good"), Option("C", "C: so so")))
    before = Outcome("B", "B: good", [1], 0.64, {"A": 0.04, "B": 0.64, "C": 0.32}, confidence((0.04, 0.64, 0.32)), 0.5)
    after = space.calibrated(before, 2.0)
    roots = np.sqrt([0.04, 0.64, 0.32])
    assert after.probabilities == pytest.approx(dict(zip("ABC", roots / roots.sum(), strict=True)))
    assert after.probability == pytest.approx(0.8 / roots.sum())
    assert after.confidence == pytest.approx((0.8 / roots.sum() - 1 / 3) / (2 / 3))
    assert (after.value, after.text, after.coverage) == ("B", "B: good", 0.5)
    assert space.calibrated(before, 1.0) is before


def test_a_score_moves_with_its_probabilities() -> None:
    before = Outcome(1.8, "good", [1], 0.8, {"bad": 0.2, "good": 0.8}, 0.6, 1.0)
    after = Score(("bad", "good")).calibrated(before, 2.0)
    assert after.probabilities == pytest.approx({"bad": 1 / 3, "good": 2 / 3})
    assert after.value == pytest.approx(1 + 2 / 3)
    assert after.probability == pytest.approx(2 / 3)


def test_a_ranking_has_its_first_place_and_its_whole() -> None:
    before = Outcome(["B", "A", "C"], "B,A,C", [1], 0.5, {"A": 0.2, "B": 0.8, "C": 0.0}, 0.7, 1.0)
    after = Ranking(("A", "B", "C")).calibrated(before, 2.0)
    # 0.5 against five other orders of 0.1 each: their square roots.
    assert after.probability == pytest.approx(0.5**0.5 / (0.5**0.5 + 5 * 0.1**0.5))
    assert after.probabilities == pytest.approx({"A": 1 / 3, "B": 2 / 3, "C": 0.0}, abs=1e-7)
    single = Outcome(["A"], "A", [1], 1.0, {"A": 1.0}, 1.0, 1.0)
    assert Ranking(("A",)).calibrated(single, 7.0) is single


def test_an_extraction_has_its_entries_and_their_product() -> None:
    entries: list[dict[str, Any]] = [{"attribute": "color", "value": "blue", "source": "title", "probability": 0.9},
               {"attribute": "size", "value": None, "source": None, "probability": 0.8}]  # fmt: skip
    space = Extraction(("color", "size"), {"title": "blue"})
    after = space.calibrated(Outcome(entries, "[…]", [1], 0.72, coverage=0.3), 2.0)
    assert [entry["probability"] for entry in after.value] == pytest.approx([0.75, 2 / 3])
    assert after.probability == pytest.approx(0.5)
    biased = space.calibrated(Outcome(entries, "[…]", [1], 0.72, coverage=0.3), 1.0, -np.log(9))
    assert [entry["probability"] for entry in biased.value] == pytest.approx([0.5, 4 / 13])
    assert [{**entry, "probability": 0} for entry in after.value] == [{**entry, "probability": 0} for entry in entries]
    assert (after.probabilities, after.coverage) == (None, 0.3)


def test_free_text_stays() -> None:
    before = Outcome("yes", "yes", [1])
    assert Text().calibrated(before, 3.0) is before


# What is kept.


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def model(store: Store) -> StoredModel:
    return StoredModel(store.folder("shop") / "model.gguf", Manifest("shop", "model.gguf", 1, SHA256, "alpaca", ""))


def scope_of(name: str) -> Scope:
    question = TASKS[name].question(EXAMPLES[name])
    options = text_hash(question.options) if question.options and name != "sequential_recommendation" else None
    return Scope(name, question.space.type, SHA256, "alpaca", text_hash(question.instruction), options)


def calibration_of(name: str, temperature: float = 2.0, least_coverage: float = 0.0) -> Calibration:
    before, after = Measures(-2.0, 0.3, 0.4), Measures(-1.0, 0.1, 0.2)
    return Calibration(
        scope_of(name), temperature, 0.0, least_coverage, 319, 319, before, after, "test.jsonl", "a" * 64, {}, FORMAT
    )


def kept(store: Store, model: StoredModel, calibration: Calibration) -> Calibrations:
    calibration.write(calibration_path(store, model, calibration.scope.task))
    return Calibrations(model.manifest.sha256, "alpaca", calibration_folder(store, model))


def test_a_calibration_comes_back_as_it_was_kept(store: Store, model: StoredModel, tmp_path: Path) -> None:
    calibration = calibration_of("sentiment_analysis", 1.6234)
    path = calibration_path(store, model, "sentiment_analysis")
    calibration.write(path)
    assert path == store.root / "models" / "shop" / "calibration" / "sentiment_analysis.json"
    read = read_calibration(path)
    assert read == calibration
    assert read.name == calibration.name
    assert calibration.name.startswith("sentiment_analysis T=1.62 (319 rows, ")
    assert len(calibration.name) == len("sentiment_analysis T=1.62 (319 rows, 3f2a9c1b)")
    assert replace(calibration, rows=320).name.split()[-1] != calibration.name.split()[-1]
    elsewhere = replace(model, path=tmp_path / "x.gguf")
    assert calibration_folder(store, elsewhere) == store.root / "calibration" / SHA256


def test_it_goes_with_its_model(store: Store, model: StoredModel) -> None:
    calibration_of("sentiment_analysis").write(calibration_path(store, model, "sentiment_analysis"))
    store.remove("shop")
    assert not calibration_folder(store, model).exists()


def test_a_store_has_the_calibrations_of_a_model_by_its_hash(store: Store, model: StoredModel, tmp_path: Path) -> None:
    """As a ChildRuntime finds them, which knows the model's hash alone."""
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
def test_every_closed_task_is_calibrated_and_says_so(name: str, store: Store, model: StoredModel) -> None:
    calibration = calibration_of(name, 3.0)
    with Runtime.over(FakeBackend(), name=MODEL) as plain:
        before = plain.answer(name, EXAMPLES[name])
    with Runtime.over(FakeBackend(), name=MODEL, calibrations=kept(store, model, calibration)) as runtime:
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


def test_deterministic_answers_stay_so(store: Store, model: StoredModel) -> None:
    calibrations = kept(store, model, calibration_of("sentiment_analysis"))
    with Runtime.over(FakeBackend(), name=MODEL, calibrations=calibrations, deterministic=True) as runtime:
        first = json.dumps(runtime.answer("sentiment_analysis", REVIEW).as_dict())
        list(runtime.answers("sentiment_analysis", [{"review": "x" * number} for number in range(1, 9)]))
        assert json.dumps(runtime.answer("sentiment_analysis", REVIEW).as_dict()) == first


# What it does not hold for.


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"model": "6" * 64}, "it is for the model 66666666, and this one is 55555555"),
        ({"envelope": "mistral"}, "it is for the envelope mistral, and this one is alpaca"),
        ({"instruction": text_hash("Rate it.")}, "another instruction than it was fitted with"),
        ({"options": text_hash("[]")}, "other options than it was fitted with"),
        ({"type": "score"}, "it is for answers of type score, not choice"),
        ({"task": "product_matching"}, "it is for the task product_matching, not sentiment_analysis"),
    ],
)
def test_it_is_refused_for_anything_else(
    change: dict[str, str], reason: str, store: Store, model: StoredModel, tmp_path: Path
) -> None:
    calibration = calibration_of("sentiment_analysis")
    foreign = replace(calibration, scope=replace(calibration.scope, **change))
    foreign.write(calibration_path(store, model, "sentiment_analysis"))
    calibrations = Calibrations(model.manifest.sha256, "alpaca", calibration_folder(store, model))
    with Runtime.over(FakeBackend(), name=MODEL, calibrations=calibrations) as runtime:
        assert runtime.answer("sentiment_analysis", REVIEW).calibration is None
        refusal = runtime.uncalibrated("sentiment_analysis")
    assert refusal is not None
    assert reason in refusal
    # What was asked for by name is not left out in silence.
    path = tmp_path / "named.json"
    foreign.write(path)
    with pytest.raises((ModelError, UsageError), match=reason), Runtime.over(FakeBackend(), name=MODEL) as runtime:
        runtime.answer("sentiment_analysis", REVIEW, calibration=path)


def test_what_another_model_or_envelope_asks_is_refused(store: Store, model: StoredModel) -> None:
    kept(store, model, calibration_of("sentiment_analysis"))
    path = calibration_path(store, model, "sentiment_analysis")
    other = replace(model, manifest=replace(model.manifest, sha256="7" * 64))
    for refused, envelope in ((other, "alpaca"), (model, "mistral")):
        with pytest.raises(ModelError, match="cannot be used"):
            Calibrations(refused.manifest.sha256, envelope, named=path)
    with pytest.raises(ModelError, match="There is no calibration"):
        Calibrations(model.manifest.sha256, "alpaca", named=path.with_suffix(".x"))


def test_a_named_one_is_for_its_task_alone(store: Store, model: StoredModel) -> None:
    kept(store, model, calibration_of("sentiment_analysis"))
    named = Calibrations(MODEL.sha256, "alpaca", named=calibration_path(store, model, "sentiment_analysis"))
    with Runtime.over(FakeBackend(), name=MODEL, calibrations=named) as runtime:
        assert runtime.answer("SA", REVIEW).calibration
        with pytest.raises(UsageError, match="not product_matching"):
            runtime.answer("product_matching", EXAMPLES["product_matching"])
        with pytest.raises(UsageError, match="not product_matching"):
            list(runtime.answers("product_matching", [EXAMPLES["product_matching"]]))


def test_what_is_asked_otherwise_stays_uncalibrated(store: Store, model: StoredModel) -> None:
    calibrations = kept(store, model, calibration_of("sentiment_analysis"))
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
        # And it is said why.
        assert "the row has another instruction" in str(runtime.uncalibrated("SA", {**wire, "instruction": "Rate it."}))
        assert "the row has other options" in str(runtime.uncalibrated("SA", {**wire, "options": options}))
        assert runtime.uncalibrated("SA", wire) is None
        assert runtime.uncalibrated("product_matching", EXAMPLES["product_matching"]) is None
        with pytest.raises(EcellmError, match="review"):
            runtime.uncalibrated("SA", {})
        assert runtime.uncalibrated("product_matching", {}) is None  # there is none, and the row is not looked at
        assert runtime.uncalibrated("SA", instruction=task.instruction) is None
        assert "own instruction, and another is given" in str(runtime.uncalibrated("SA", instruction="Rate it."))
        # A row that brings no instruction is not what has another.
        assert "and another is given" in str(runtime.uncalibrated("SA", REVIEW, instruction="Rate it."))
        wire["instruction"] = "Is it good?"
        assert "the row has another" in str(runtime.uncalibrated("SA", wire, instruction="Rate it."))
    named = Calibrations(MODEL.sha256, "alpaca", named=calibration_path(store, model, "sentiment_analysis"))
    with Runtime.over(FakeBackend(), name=MODEL, calibrations=named) as runtime:
        assert runtime.answer("SA", REVIEW, instruction=task.instruction).calibration
        with pytest.raises(UsageError, match="another is given"):
            runtime.answer("SA", REVIEW, instruction="Rate it.")
        with pytest.raises(UsageError, match="another is given"):
            list(runtime.answers("SA", [REVIEW], instruction="Rate it."))


def test_one_fitted_with_another_instruction_holds_for_that(store: Store, model: StoredModel) -> None:
    calibration = calibration_of("sentiment_analysis")
    other = replace(calibration, scope=replace(calibration.scope, instruction=text_hash("Rate it.")))
    with Runtime.over(FakeBackend(), name=MODEL, calibrations=kept(store, model, other)) as runtime:
        assert runtime.uncalibrated("SA", instruction="Rate it.") is None
        assert runtime.answer("SA", REVIEW, instruction="Rate it.").calibration
        assert "calibrate again" in str(runtime.uncalibrated("SA"))


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


def test_a_task_of_ones_own_is_calibrated_as_it_was(store: Store, model: StoredModel, tmp_path: Path) -> None:
    def written(text: str) -> Any:
        (tmp_path / "routing.toml").write_text(text)
        return load_task(tmp_path / "routing.toml")

    task = written(ROUTING)
    question = task.question({"mail": "Where is it?"})
    scope = Scope("routing", "choice", SHA256, "alpaca", text_hash("Choose the desk."), text_hash(question.options))
    calibrations = kept(store, model, replace(calibration_of("sentiment_analysis"), scope=scope))
    with Runtime.over(FakeBackend(), name=MODEL, calibrations=calibrations) as runtime:
        assert runtime.answer(task, {"mail": "Where is it?"}).calibration
        for old, new in (("the desk", "a desk"), ("delivery", "parcels")):
            changed = written(ROUTING.replace(old, new))
            assert runtime.answer(changed, {"mail": "Where is it?"}).calibration is None
            assert "is not used" in str(runtime.uncalibrated(changed))


# Files that are not as they were written.

GOOD = asdict(calibration_of("sentiment_analysis"))
AUTOMATIC = {"precision": 0.95, "thresholds": {"A": 0.9, "B": None}, "rows": 100, "share": 0.5, "reached": 0.96}


def test_thresholds_are_kept_with_a_calibration(tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps({**GOOD, "automatic": AUTOMATIC}))
    kept = read_calibration(path)
    assert kept is not None
    assert asdict(kept)["automatic"] == AUTOMATIC
    assert kept.name != replace(kept, automatic=None).name


def without(key: str) -> dict[str, Any]:
    return {name: value for name, value in GOOD.items() if name != key}


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "null", "\0", "[" * 100_000, "{}", '{"format": 1}', "1" * 5000,
        *(json.dumps(without(key)) for key in GOOD if key != "automatic"),
        *(json.dumps({**GOOD, key: None}) for key in GOOD if key != "automatic"),
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
        *(json.dumps({**GOOD, "format": value}) for value in (0, FORMAT + 1, 1.0, True)),
        json.dumps({**GOOD, "data": "x" * LARGEST}),
    ],
)  # fmt: skip
def test_a_damaged_one_is_told_of_and_not_used(text: str, store: Store, model: StoredModel) -> None:
    path = calibration_path(store, model, "sentiment_analysis")
    path.parent.mkdir(parents=True)
    path.write_text(text, "utf-8")
    with pytest.raises(ModelError, match="is damaged") as raised:
        read_calibration(path)
    assert len(str(raised.value)) < 1000
    calibrations = Calibrations(model.manifest.sha256, "alpaca", calibration_folder(store, model))
    assert calibrations is not None
    assert calibrations.find(scope_of("sentiment_analysis")) is None
    assert "is damaged" in str(calibrations.refusal(scope_of("sentiment_analysis")))
    with pytest.raises(ModelError, match="is damaged"):
        Calibrations(model.manifest.sha256, "alpaca", named=path)


def test_the_undamaged_form_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(GOOD))
    assert read_calibration(tmp_path / "a.json") == calibration_of("sentiment_analysis")


@pytest.mark.parametrize("name", CLOSED)
def test_of_an_older_format_all_but_rankings_hold(name: str, store: Store, model: StoredModel) -> None:
    older = replace(calibration_of(name), format=1)
    calibrations = kept(store, model, older)
    scope = scope_of(name)
    if scope.type != "ranking":
        assert calibrations.find(scope) == older
        assert calibrations.refusal(scope) is None
        return
    assert calibrations.find(scope) is None
    assert "first place of rankings" in str(calibrations.refusal(scope))
    with pytest.raises(ModelError, match="run `ecellm-lite calibrate` again"):
        Calibrations(model.manifest.sha256, "alpaca", named=calibration_path(store, model, name))
    assert kept(store, model, calibration_of(name)).find(scope) == calibration_of(name)


def test_no_name_leads_out_of_the_folder(store: Store, model: StoredModel) -> None:
    with pytest.raises(UsageError, match="calibrated task"):
        calibration_path(store, model, "../../x")
    calibrations = Calibrations(SHA256, "alpaca", store.root)
    assert calibrations.find(replace(scope_of("sentiment_analysis"), task="../x")) is None


def test_a_store_that_cannot_be_written_is_said(store: Store, model: StoredModel) -> None:
    store.root.mkdir()
    (store.root / "models").write_text("not a folder")
    with pytest.raises(ModelError, match="cannot be written"):
        calibration_of("sentiment_analysis").write(calibration_path(store, model, "sentiment_analysis"))


# Abstaining.


@pytest.mark.parametrize("name", CLOSED)
def test_below_the_wanted_probability_there_is_no_value(name: str) -> None:
    with Runtime.over(FakeBackend()) as plain:
        sure = plain.answer(name, EXAMPLES[name])
    assert sure.probability is not None
    with Runtime.over(FakeBackend()) as runtime:
        assert runtime.answer(name, EXAMPLES[name], min_probability=sure.probability).value == sure.value
        answer = runtime.answer(name, EXAMPLES[name], min_probability=float(np.nextafter(sure.probability, 1)))
    assert (answer.value, answer.text, answer.abstained, answer.error) == (None, None, True, None)
    assert (answer.probability, answer.probabilities) == (sure.probability, sure.probabilities)
    assert (answer.confidence, answer.coverage, answer.usage is None) == (sure.confidence, sure.coverage, False)
    task = TASKS[name]
    shown = io.StringIO()
    from rich.console import Console

    Console(file=shown, width=120).print(render(answer, task.question(EXAMPLES[name]).space))
    assert "no answer: too unsure" in shown.getvalue()


def test_a_terminal_obeys_nothing_of_a_row_or_a_name() -> None:
    from rich.console import Console

    row = {"input": json.dumps({"s\x1b[2J": "blue", "target attributes": "color"}), "instruction": "Find."}
    pair = {"input": json.dumps({"product 1": {"title": "a"}, "product 2": {"title": "b"}}), "options": "yes or no"}
    pair["instruction"] = "Say yes or no."
    with Runtime.over(FakeBackend(), name=ModelName("a\x1b[2Jb", "")) as runtime:
        for name, given in (("attribute_value_extraction", row), ("product_matching", pair)):
            shown = io.StringIO()
            Console(file=shown, width=120).print(render(runtime.answer(name, given), TASKS[name].question(given).space))
            assert "\x1b" not in shown.getvalue()
            assert "a\ufffd[2Jb" in shown.getvalue()


def test_free_text_never_abstains() -> None:
    with Runtime.over(FakeBackend()) as runtime:
        answer = runtime.answer("answer_generation", EXAMPLES["answer_generation"], min_probability=1.0)
    assert answer.abstained is False
    assert answer.value is not None


def test_it_is_the_calibrated_probability_that_counts(store: Store, model: StoredModel) -> None:
    with Runtime.over(FakeBackend(), name=MODEL) as plain:
        probability = plain.answer("SA", REVIEW).probability
    assert probability is not None
    calibrations = kept(store, model, calibration_of("sentiment_analysis", 10.0))
    with Runtime.over(FakeBackend(), name=MODEL, calibrations=calibrations) as runtime:
        answer = runtime.answer("SA", REVIEW, min_probability=probability)
    assert answer.abstained
    assert answer.calibration
    assert answer.probability is not None
    assert answer.probability < probability


def test_a_row_unlike_the_calibrated_ones_is_abstained_from_where_that_is_wanted(
    store: Store, model: StoredModel
) -> None:
    calibrations = kept(store, model, calibration_of("sentiment_analysis", least_coverage=0.999))
    with Runtime.over(FakeBackend(), name=MODEL, calibrations=calibrations) as runtime:
        assert not runtime.answer("SA", REVIEW).abstained
        assert runtime.answer("SA", REVIEW, min_probability=0.0).abstained
        assert not runtime.answer("SA", REVIEW, min_probability=0.0, instruction="Rate it.").abstained
        assert not runtime.answer("SA", REVIEW, min_probability=0.0, calibration=False).abstained


def test_a_job_counts_abstentions_apart_from_failures() -> None:
    rows = [{"id": number, "review": f"row {number}"} for number in range(40)]
    rows[7] = {"id": 7}
    with Runtime.over(FakeBackend()) as runtime:
        answers = list(runtime.answers("SA", rows, min_probability=0.4))
    tally = Tally()
    for answer in answers:
        tally.count(answer)
    unsure = [answer for answer in answers if answer.probability is not None and answer.probability < 0.4]
    assert 0 < len(unsure) < 39
    assert (tally.rows, tally.failed, tally.abstained) == (40, 1, len(unsure))
    assert answers[7].abstained is False


@pytest.mark.parametrize("wanted", [-0.1, 1.1, float("nan")])
def test_what_is_no_probability_is_refused(wanted: float) -> None:
    with Runtime.over(FakeBackend()) as runtime, pytest.raises(UsageError, match="min_probability"):
        runtime.answer("SA", REVIEW, min_probability=wanted)
